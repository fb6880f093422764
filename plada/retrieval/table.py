"""The rows of an index: its table in a folder or at a URL, whose columns are compared with the digests of index.json as they are
read."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from plada.common.arrays import F16, I64
from plada.common.failures import explained, first_line
from plada.common.packages import require
from plada.errors import DataError, PladaError, ReferenceMismatch, RequestError
from plada.indexer.builds import table_of
from plada.indexer.description import checked_json
from plada.indexer.store import DAMAGE, Store, column_ledger, column_vectors, connect, damaged_shard, with_vector
from plada.retrieval.remote import COPY, RemoteFolder

SCAN = 16_384  # rows of a block that is searched: what Lance reads fastest
_TASK = 16_384  # images of a range, about


@dataclass(frozen=True, slots=True, repr=False)
class IndexTable:
    """The table that an index.json (`info`) describes, in a folder or at a URL (`place`)."""

    place: Path | RemoteFolder
    info: dict[str, Any]
    _opened: list[Any] = field(default_factory=list)
    _checked: set[tuple[str, int]] = field(default_factory=set)  # columns and shards that have their digests

    @property
    def name(self) -> str:
        """The index's name."""
        return str(self.info["name"])

    @property
    def path(self) -> str:
        """Where the table is, for people."""
        folder = self.place.url if isinstance(self.place, RemoteFolder) else self.place
        return f"{folder}/{table_of(self.info)}.lance"

    def dataset(self) -> Any:
        """The Lance data set, opened once, without LanceDB, whose import takes ten times as long.

        Raises:
            MissingExtra: pylance is not installed. DataError: the table is gone or damaged. As RemoteFolder.explain says.
        """
        if not self._opened:
            require("lance", extra="cpu", purpose="an index")
            import lance

            with self.readable():
                # The version that was checked and described by index.json.
                version = self.info["version"]
                if isinstance(self.place, RemoteFolder):
                    self._opened.append(self.place.dataset(table_of(self.info), version))
                else:
                    self._opened.append(lance.dataset(self.path, version=version))
        return self._opened[0]

    def database(self) -> Any:
        """The LanceDB table, at the version of index.json."""
        with self.readable():
            folder = self.place.database() if isinstance(self.place, RemoteFolder) else connect(self.place)
            table = folder.open_table(table_of(self.info))
            table.checkout(self.info["version"])
        return table

    def batches(self, columns: list[str], batch_size: int, rows: range | None = None) -> Iterator[Any]:
        """Record batches of all rows in order of position, or of those at `rows`."""
        some = {} if rows is None else {"offset": rows.start, "limit": len(rows)}
        stored = self.dataset()
        with self.readable():
            yield from stored.scanner(columns=columns, batch_size=batch_size, scan_in_order=True, **some).to_batches()

    def column(
        self, name: str, what: str, batch_size: int, *, check: bool = True, rows: range | None = None
    ) -> Iterator[Any]:
        """A column of all rows in order of position, or of those at `rows` (whole shards), block by block, each shard compared with
        its digest if there is one.

        Raises:
            DataError: the table is damaged; `what` says of what the column is.
        """
        start, read = (0 if rows is None else rows.start), 0
        ledger = column_ledger(self.info, name, start) if check else None
        for batch in self.batches([name], batch_size, rows):
            column = batch.column(name)
            if ledger is not None:
                self._refuse_damage(ledger.add(column), what)
            yield column
            read += len(column)
        if ledger is not None:
            self._refuse_damage(ledger.finish() if read % ledger.rows else None, what)
            self._checked.update((name, (start + at) // ledger.rows) for at in range(0, read, ledger.rows))

    def embeddings(
        self, batch_size: int = SCAN, *, check: bool = True, rows: range | None = None
    ) -> Iterator[tuple[I64, F16]]:
        """(positions int64 [m], embeddings float16 [m, d]) of all readable images in order of position, block by block, or of those at
        `rows`, one of `ranges`.

        Raises:
            DataError: the table holds another number of rows than it should, or (with `check`) other vectors.
        """
        expected = range(int(self.info["images"])) if rows is None else rows
        at = expected.start
        # Rows lie in order of position, which was checked before index.json was written: the column need not be read.
        for column in self.column("vector", "vectors", batch_size, check=check, rows=rows):
            yield with_vector(np.arange(at, at + len(column)), column), column_vectors(column)
            at += len(column)
        if at != expected.stop:
            raise DataError(
                f"index '{self.name}': the table holds {at} rows; index.json says {self.info['images']}. Index again"
            )

    def ranges(self) -> list[range]:
        """All rows in ranges of whole shards, some ten thousand each. A pass over a range gives the blocks of a pass over all."""
        images, shards = int(self.info["images"]), self.info.get("shards")
        shard = int(shards["rows"]) if shards else _TASK
        step = shard * max(1, _TASK // shard)
        return [range(start, min(start + step, images)) for start in range(0, images, step)]

    def take(self, positions: I64, columns: list[str]) -> Any:
        """Rows of the distinct positions, rising; Lance would leave out what is beyond the end without a word.

        Raises:
            RequestError: a position is outside the index. DataError: the table is damaged.
        """
        images = int(self.info["images"])
        if len(positions) and not 0 <= positions.min() <= positions.max() < images:
            bad = positions[(positions < 0) | (positions >= images)][0]
            raise RequestError(f"position {bad}: index '{self.name}' holds 0 to {images - 1}")
        stored = self.dataset()
        with self.readable():
            rows = stored.take(np.unique(positions), columns=columns).combine_chunks()
        if not np.array_equal(rows.column("position").to_numpy(), np.unique(positions)):
            raise DataError(f"index '{self.name}': the table gave other rows than were asked for. Index again")
        return rows.to_batches()[0] if rows.num_rows else rows

    def check(self, column: str, what: str, positions: I64) -> None:
        """Compare the shards of some positions with their digests, each once.

        Raises:
            DataError: one is damaged.
        """
        with self.readable():
            self._refuse_damage(damaged_shard(self.dataset(), self.info, column, positions, self._checked), what)

    def _refuse_damage(self, row: int | None, what: str) -> None:
        if row is None:
            return
        remedy = f"`plada index {self.name} --check` says more; index again with --restart"
        raise DataError(
            f"{self.path}: the {what} of images {row} and following are not those that were written; the disk has "
            f"damaged them. {COPY if isinstance(self.place, RemoteFolder) else remedy}"
        )

    def readable(self) -> AbstractContextManager[None]:
        """Say in one line what is wrong with a table that cannot be read.

        Raises:
            ReferenceMismatch: the index was made anew since it was opened, and this build is gone. DataError: damage. At a URL what
                RemoteFolder.explain says, too.
        """
        return explained(DAMAGE, self.explain)

    def explain(self, err: BaseException) -> PladaError:
        """What an error of Lance's on this table means."""
        place, table = self.place, f"{table_of(self.info)}.lance"
        if isinstance(place, RemoteFolder):
            what = place.explain(err)
            gone = isinstance(what, DataError) and self._named() not in (None, table_of(self.info))
        else:
            gone = not (place / table).exists() and self._named() not in (None, table_of(self.info))
            what = DataError(
                f"{self.path}: version {self.info['version']} cannot be opened or read ({first_line(err)}). `plada index {self.name} "
                "--check` says what is damaged; index again"
            )
        if gone:
            return ReferenceMismatch(
                f"index '{self.name}': it was made anew while it was read, and {table} is gone. Run this again"
            )
        return what

    def _named(self) -> str | None:
        """The table that index.json names now; None where it names none."""
        try:
            info = read_info(self.place)
        except PladaError:
            return None
        return table_of(info) if info is not None else None


def read_info(place: Path | RemoteFolder) -> dict[str, Any] | None:
    """What the index.json in a folder or at a URL says; None where there is none.

    Raises:
        DataError: damaged, or written by a newer plada. At a URL what RemoteFolder.read raises, too.
    """
    if not isinstance(place, RemoteFolder):
        return Store(place).info()
    data = place.read("index.json")
    return checked_json(data, f"{place.url}/index.json", COPY) if data is not None else None
