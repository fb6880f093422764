"""The store of an index: a LanceDB table that grows by whole shards, and index.json, which is written last.

Each build has a table with a name of its own, `images-ID`. index.json names the table of the finished build, building.json
that of an unfinished one. A table is never written again once index.json names it, so whoever has opened an index keeps
reading that index (plada.indexer.builds). There is one writer, a position column of our own, and an explicit schema.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from blake3 import blake3

from plada.common.arrays import F16, I64
from plada.common.checksums import write_sealed_json
from plada.common.failures import explained, first_line
from plada.common.files import DISK_FULL
from plada.common.packages import require
from plada.errors import DataError, PladaError, ReferenceMismatch, RequestError, ResourceError
from plada.indexer.description import AGAIN, FORMAT, checked_json, plan_difference
from plada.indexer.embed import EmbeddedRows
from plada.sources.leaks.fingerprints import FINGERPRINT_BYTES
from plada.sources.manifest import (
    HASH_BYTES,
    READABLE,
    Block,
    Manifest,
    ManifestWriter,
    binary_column,
    binary_rows,
    chunked,
    key_id,
    load_manifest,
)

TABLE = "images"
SCAN_ROWS = 8192
DAMAGE = (
    PladaError,
    OSError,
    RuntimeError,
    ValueError,
    pa.ArrowException,
)  # what Lance and Arrow make of damaged files


def shard_rows(images: int) -> int:
    """Rows a commit: what a kill can cost against what many commits cost when the table is opened (65 536 at 14 M)."""
    return min(65_536, max(1024, images // 16))


def check_index_name(name: str) -> None:
    """Raise RequestError for a name that an index cannot have: its folder is called so."""
    if not name or name.startswith(".") or any(letter in name for letter in "/\\\0"):
        raise RequestError(f"index name '{name}': expected a plain name without slashes")


def connect(folder: Path) -> Any:
    """The LanceDB database in `folder`.

    Raises:
        MissingExtra: lancedb is not installed.
    """
    # The library reports "No existing dataset" for each first write; errors still come through.
    os.environ.setdefault("LANCEDB_LOG", "error")
    require("lancedb", extra="cpu", purpose="an index")
    require("lance", extra="cpu", purpose="an index")
    import lancedb

    return lancedb.connect(folder)


def schema(dimension: int) -> Any:
    """Columns of the table; an unreadable image has a null vector and says why in `status`."""
    return pa.schema(
        [
            pa.field("position", pa.uint32(), nullable=False),
            pa.field("key", pa.string(), nullable=False),
            pa.field("vector", pa.list_(pa.float16(), dimension)),
            pa.field("width", pa.int32(), nullable=False),
            pa.field("height", pa.int32(), nullable=False),
            pa.field("size", pa.int64(), nullable=False),
            pa.field("hash", pa.binary(HASH_BYTES), nullable=False),
            pa.field("status", pa.string(), nullable=False),
            pa.field("look", pa.binary(FINGERPRINT_BYTES), nullable=False),
        ]
    )


@dataclass(frozen=True, slots=True)
class Store:
    """One index's folder, and the table in it that is meant."""

    folder: Path
    table: str = TABLE

    @property
    def info_path(self) -> Path:
        return self.folder / "index.json"

    @property
    def plan_path(self) -> Path:
        return self.folder / "building.json"

    @property
    def table_path(self) -> Path:
        return self.folder / f"{self.table}.lance"

    def info(self) -> dict[str, Any] | None:
        """What index.json says, or None where the index is not complete.

        Raises:
            DataError: damaged, or written by a newer plada.
        """
        return self.read_json(self.info_path)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only writer; the lock goes with the process, so a kill leaves none behind.

        Raises:
            ResourceError: another process is writing this index.
        """
        require("filelock", extra="cpu", purpose="an index")
        import filelock

        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with filelock.FileLock(self.folder / ".lock", timeout=0):
                yield
        except filelock.Timeout as err:
            raise ResourceError(
                f"{self.folder}: another process is writing this index. Wait for it, or stop it"
            ) from err

    def begin(self, plan: dict[str, Any], *, restart: bool = False) -> int:
        """Begin to write a table, or go on: the number of rows that are there already of a build with the same `plan`.

        Raises:
            ReferenceMismatch: rows of another plan are there, which only `restart` throws away.
        """
        plan = {"format": FORMAT, **json.loads(json.dumps(plan)), "table": self.table}
        unfinished = None if restart else self.unfinished()
        rows = 0 if restart else self.rows()
        if rows and (unfinished is None or (difference := plan_difference(unfinished, plan))):
            said = f"of another plan: {difference}" if unfinished is not None else "of a build that nothing describes"
            raise ReferenceMismatch(
                f"{self.folder}: an unfinished index is here, {rows} rows {said}. Finish it with the command that began "
                f"it, give another --name, or throw it away: --restart (of an --append: --append --restart, which keeps the finished index)"
            )
        if rows:
            return rows
        shutil.rmtree(self.table_path, ignore_errors=True)
        write_sealed_json(self.plan_path, plan)
        return 0

    def unfinished(self) -> dict[str, Any] | None:
        """What building.json says of the unfinished build; None where there is none."""
        return self.read_json(self.plan_path)

    def cut(self, rows: int) -> None:
        """Drop all rows from number `rows` on; of an unfinished table."""
        require("lance", extra="cpu", purpose="an index")
        import lance

        if rows:
            dataset = lance.dataset(self.table_path)
            first = dataset.take([rows], columns=["position"])["position"][0].as_py()
            dataset.delete(f"position >= {first}")
        else:
            shutil.rmtree(self.table_path, ignore_errors=True)

    def append(self, rows: EmbeddedRows, keys: Any) -> None:
        """Commit one shard; it is in the table whole or not at all. `keys`: pyarrow string array of these rows."""
        n, dimension = rows.vectors.shape
        flat = pa.array(np.ascontiguousarray(rows.vectors).reshape(-1))
        unreadable = pa.array([bool(reason) for reason in rows.status])
        columns = [
            pa.array(np.arange(rows.start, rows.start + n, dtype=np.uint32)),
            keys,
            pa.FixedSizeListArray.from_arrays(flat, dimension, mask=unreadable),
            pa.array(rows.width),
            pa.array(rows.height),
            pa.array(rows.sizes),
            binary_column(rows.hashes),
            pa.array(rows.status, pa.string()),
            binary_column(rows.fingerprints),
        ]
        self.append_table(pa.Table.from_arrays(columns, schema=schema(dimension)))

    def append_table(self, table: Any) -> None:
        """Commit the rows of a pyarrow table of `schema`."""
        require("lance", extra="cpu", purpose="an index")
        import lance

        # LanceDB's own add refuses the null vectors of unreadable images; the table it reads is the same.
        path = self.table_path
        try:
            lance.write_dataset(table, path, mode="append" if self._committed() else "create")
        except OSError as err:
            # The library puts the system's number into the text alone.
            if not any(f"(os error {number})" in str(err) for number in DISK_FULL):
                raise
            raise ResourceError(
                f"{path}: the disk is full ({shutil.disk_usage(self.folder).free} bytes are free, or a quota is reached). Free "
                "space and run the same command again; what is finished is kept"
            ) from err

    def finish(
        self, keys: Any, info: dict[str, Any], manifest: Path, *, shard: int | None = None
    ) -> tuple[Manifest, list[tuple[int, str]]]:
        """Check every row, write the manifest to a path and then index.json: (manifest, unreadable (position, reason)).

        index.json gets the ledger: how many rows a shard has, and the digest of each.

        Raises:
            DataError: rows missing, out of order or of other keys; no readable image.
        """
        n = len(keys)
        total, readable = np.zeros(info["dimension"]), 0
        unreadable: list[tuple[int, str]] = []
        shard = shard or shard_rows(n)
        ledger = Ledger(shard)
        with ManifestWriter(manifest) as writer:
            for at, batch in self._checked_batches(keys):
                ledger.add(batch)
                _, vectors = readable_rows(batch)
                total += vectors.sum(axis=0, dtype=np.float64)
                readable += len(vectors)
                reasons = batch.column("status").to_pylist()
                unreadable += [(at + row, reason) for row, reason in enumerate(reasons) if reason]
                writer.write(manifest_block(batch, [reason or READABLE for reason in reasons]))
            if not readable:
                raise DataError(
                    f"no readable image among {n}; the first, {keys[unreadable[0][0]]}, is {unreadable[0][1]}. Check the collection"
                )
            writer.finish(key_id(keys))
        written = load_manifest(manifest)
        whole = {
            **info,
            "key_id": written.key_id.hex(),
            "content_id": written.content_id.hex(),
            "format": FORMAT,
            "unreadable": len(unreadable),
            # Of the readable ones, because a linear teacher stands on centred embeddings.
            "mean": [float(value) for value in total / readable],
            "table": self.table,
            "version": connect(self.folder).open_table(self.table).version,
            "shards": {"rows": shard, "digests": ledger.digests(), "columns": ledger.alone},
        }
        write_sealed_json(self.info_path, whole)
        self.plan_path.unlink(missing_ok=True)
        return written, unreadable

    def _checked_batches(self, keys: Any) -> Iterator[tuple[int, Any]]:
        """(first position, batch) of the whole table, compared with the collection's keys."""
        n, at = len(keys), 0
        for batch in self.batches(["position", "key", "vector", "size", "hash", "width", "height", "status", "look"]):
            stop = at + batch.num_rows
            positions = batch.column("position").to_numpy()
            own = pa.chunked_array([batch.column("key")])
            if stop > n or not np.array_equal(positions, np.arange(at, stop)) or not own.equals(chunked(keys[at:stop])):
                raise DataError(
                    f"{self.folder}: the rows from {at} on are not those of the collection. Run again with --restart"
                )
            yield at, batch
            at = stop
        if at != n:
            raise DataError(f"{self.folder}: {at} of {n} rows are there. Run again to go on, or with --restart")

    def batches(self, columns: list[str]) -> Iterator[Any]:
        """Record batches of all rows in order of position.

        Raises:
            DataError: the table is damaged.
        """
        with self.readable():
            dataset = connect(self.folder).open_table(self.table).to_lance()
            yield from dataset.to_batches(columns=columns, batch_size=SCAN_ROWS, scan_in_order=True)

    def rows(self) -> int:
        """Images that are committed.

        Raises:
            DataError: the table is damaged.
        """
        with self.readable():
            return int(connect(self.folder).open_table(self.table).count_rows()) if self._committed() else 0

    @contextmanager
    def readable(self) -> Iterator[None]:
        """Say in one line what is wrong with a table that cannot be read.

        Raises:
            DataError: the table is damaged.
        """

        def explain(err: BaseException) -> PladaError:
            return DataError(
                f"{self.table_path}: cannot be read ({first_line(err)}); it is damaged. Run `plada index` again with --restart"
            )

        with explained(DAMAGE, explain):
            yield

    def _committed(self) -> bool:
        """Whether there is a table at all: a kill in the first commit leaves a folder, but no version of the table."""
        versions = self.table_path / "_versions"
        return versions.is_dir() and any(versions.glob("*.manifest"))

    def read_json(self, path: Path) -> dict[str, Any] | None:
        """What one of the store's JSON files says, None if it is not there.

        Raises:
            DataError: damaged, or written by a newer plada.
        """
        try:
            return checked_json(path.read_bytes(), str(path))
        except FileNotFoundError:
            return None
        except OSError as err:
            raise DataError(f"{path}: cannot be read ({err}). {AGAIN}") from err


@dataclass(slots=True)
class Ledger:
    """Digests of shards of `rows` rows, from record batches in order of position, however they are cut.

    A digest is BLAKE3, 16 bytes, of the positions (uint32), the content hashes and the vectors (float16, readable images
    only) of a shard, one after the other, little-endian. `alone` has digests of the columns that are read without the others.
    """

    rows: int
    alone: dict[str, list[str]] = field(default_factory=lambda: {"key": [], "vector": [], "look": []})
    _done: list[str] = field(default_factory=list)
    _parts: tuple[list[bytes], list[bytes], list[bytes]] = field(default_factory=lambda: ([], [], []))
    _looks: list[bytes] = field(default_factory=list)
    _keys: list[bytes] = field(default_factory=list)
    _held: int = 0

    def add(self, batch: Any) -> None:
        """The next rows: a record batch with at least the columns position, hash and vector."""
        at = 0
        while at < batch.num_rows:
            piece = batch.slice(at, min(self.rows - self._held, batch.num_rows - at))
            positions, hashes, vectors = self._parts
            positions.append(piece.column("position").to_numpy().astype("<u4").tobytes())
            hashes.append(binary_rows(piece.column("hash")).tobytes())
            vectors.append(stored_bytes(piece.column("vector")))
            for name, pieces in (("look", self._looks), ("key", self._keys)):
                if name in piece.schema.names:
                    pieces.append(stored_bytes(piece.column(name)))
            at += piece.num_rows
            self._held += piece.num_rows
            if self._held == self.rows:
                self._close()

    def digests(self) -> list[str]:
        """The digest of every shard so far, hexadecimal; the last may have fewer rows."""
        if self._held:
            self._close()
        return self._done

    def _close(self) -> None:
        whole = blake3()
        for parts in self._parts:
            for data in parts:
                whole.update(data)
        self._done.append(whole.hexdigest(length=16))
        for name, pieces in (("key", self._keys), ("vector", self._parts[2]), ("look", self._looks)):
            self.alone[name].append(blake3(b"".join(pieces)).hexdigest(length=16))
        self._parts, self._looks, self._keys, self._held = ([], [], []), [], [], 0


@dataclass(slots=True)
class ColumnLedger:
    """Compares a column, in a pass over all rows, with the digests that index.json has of it for each shard of `rows` rows."""

    rows: int
    expected: list[str]
    _digest: Any = field(default_factory=blake3)
    _row: int = 0

    def add(self, column: Any) -> int | None:
        """The next rows; the first row of a shard that is not as it was written, None if all are."""
        at = 0
        while at < len(column):
            piece = column.slice(at, min(len(column) - at, self.rows - self._row % self.rows))
            self._digest.update(stored_bytes(piece))
            at += len(piece)
            self._row += len(piece)
            if self._row % self.rows == 0 and (bad := self.finish()) is not None:
                return bad
        return None

    def finish(self) -> int | None:
        """As `add`, at the end of a shard."""
        number, digest = (self._row - 1) // self.rows, self._digest.hexdigest(length=16)
        self._digest = blake3()
        return None if number < len(self.expected) and self.expected[number] == digest else number * self.rows


def column_ledger(info: dict[str, Any], column: str, start: int = 0) -> ColumnLedger | None:
    """The digests that index.json has of a column, for rows from `start` on, where a shard begins; None where an older plada made
    the index."""
    digests = info.get("shards", {}).get("columns", {}).get(column)
    return ColumnLedger(int(info["shards"]["rows"]), digests, _row=start) if digests is not None else None


def damaged_shard(
    dataset: Any, info: dict[str, Any], column: str, positions: I64, checked: set[tuple[str, int]]
) -> int | None:
    """The first row of a shard that holds some of `positions` int64 [k] and whose `column` in a Lance data set does not have the
    digest that index.json (`info`) has of it; None if all have. Shards in `checked` are passed over; sound ones are added."""
    whole = column_ledger(info, column)
    if whole is None:
        return None
    rows = whole.rows
    for number in np.unique(positions // rows).tolist():
        if (column, number) in checked:
            continue
        ledger = ColumnLedger(rows, [whole.expected[number]])
        table = dataset.scanner(columns=[column], offset=number * rows, limit=rows, scan_in_order=True).to_table()
        said = [ledger.add(chunk) for chunk in table.column(0).chunks if len(chunk)]
        if any(row is not None for row in [*said, ledger.finish() if len(table) % rows else None]):
            return int(number * rows)
        checked.add((column, number))
    return None


def stored_bytes(column: Any) -> bytes:
    """The bytes of a column as digests take them: vectors (of readable images, float16, little-endian), fingerprints, or keys
    (UTF-8, each with a zero byte behind it)."""
    if pa.types.is_string(column.type):
        return b"".join(key.encode() + b"\0" for key in column.to_pylist())
    if pa.types.is_fixed_size_list(column.type):
        return column_vectors(column).astype("<f2", copy=False).tobytes()
    return binary_rows(column).tobytes()


def readable_rows(batch: Any) -> tuple[I64, F16]:
    """(positions int64 [m], vectors float16 [m, d]) of the rows of a record batch that have a vector."""
    column = batch.column("vector")
    return with_vector(batch.column("position").to_numpy().astype(np.int64), column), column_vectors(column)


def with_vector(positions: I64, column: Any) -> I64:
    """The positions int64 [n] at which a column of vectors [n] has one."""
    return positions[column.is_valid().to_numpy(zero_copy_only=False)] if column.null_count else positions


def column_vectors(column: Any) -> F16:
    """float16 [m, d] of the entries of a column of vectors that are not null."""
    # flatten() leaves the nulls out and honours the slice; .values would do neither.
    vectors: F16 = column.flatten().to_numpy(zero_copy_only=False)
    return vectors.reshape(-1, column.type.list_size)


def manifest_block(batch: Any, status: list[str]) -> Block:
    """What the manifest has of a batch of rows."""
    numbers = {name: batch.column(name).to_numpy() for name in ("size", "width", "height")}
    return Block(
        keys=pa.chunked_array([batch.column("key")]),
        sizes=numbers["size"],
        hashes=binary_rows(batch.column("hash")),
        width=numbers["width"],
        height=numbers["height"],
        status=status,
    )
