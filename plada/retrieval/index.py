"""An opened index: search, scan, vectors by position.

Search is exact unless asked otherwise: the table is streamed once in blocks. Scores are inner products of unit vectors
(cosines); ties go to the lower position. The approximate index of `plada.indexer.ann` answers on request.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plada.common.arrays import F16, F32, I64, U8
from plada.common.failures import explained, first_line
from plada.common.files import home_directory
from plada.common.packages import require
from plada.encoders.encoder import Encoder, config_from_json, reload_encoder
from plada.errors import DataError, PladaError, ReferenceMismatch, RequestError, UnknownName
from plada.indexer.ann import Ann, ann_source, read_ann
from plada.indexer.builds import BuildHold, open_build, table_of
from plada.indexer.store import (
    DAMAGE,
    Store,
    column_ledger,
    column_vectors,
    connect,
    damaged_shard,
    readable_rows,
    with_vector,
)  # fmt: skip
from plada.retrieval.device_search import ExactSearch
from plada.retrieval.fingerprints import stored_fingerprints
from plada.retrieval.hit import Hit
from plada.retrieval.queries import embed_queries, position_of_key
from plada.sources.decode import View
from plada.sources.manifest import binary_rows
from plada.sources.reference import Reference, open_reference
from plada.sources.registry import open_source

_SCAN = 16_384  # rows of a block that is searched: what Lance reads fastest


@dataclass(frozen=True, slots=True, repr=False)
class Index:
    """An index on this machine, opened by `plada.open_index`.

    Attributes:
        folder: The folder of the index.
        home: Where indexes and manifests are kept.
        info: What index.json says: name, reference, encoder, images, ids, mean.
    """

    folder: Path
    home: Path
    info: dict[str, Any]
    _encoder: list[Encoder] = field(default_factory=list)
    _opened: list[Any] = field(default_factory=list)
    _ann: list[Ann] = field(default_factory=list)
    _exact: ExactSearch = field(default_factory=ExactSearch)
    _checked: set[tuple[str, int]] = field(default_factory=set)  # columns and shards that have their digests
    _hold: BuildHold | None = None  # keeps the table from being removed while this index is open

    def __len__(self) -> int:
        return int(self.info["images"])

    def __repr__(self) -> str:
        encoder = self.info["encoder"]["name"]
        return f"Index({self.name!r}, images={len(self)}, dimension={self.dimension}, encoder={encoder!r}, folder={str(self.folder)!r})"

    @property
    def name(self) -> str:
        """Name of the index."""
        return str(self.info["name"])

    @property
    def dimension(self) -> int:
        """Numbers of an embedding."""
        return int(self.info["dimension"])

    @property
    def mean(self) -> F32:
        """Mean of all readable embeddings, float32 [d]."""
        return np.asarray(self.info["mean"], np.float32)

    @property
    def readable(self) -> int:
        """Number of images that have an embedding."""
        return len(self) - int(self.info["unreadable"])

    def encoder(self, weights: str | Path | None = None, device: str | None = None) -> Encoder:
        """The encoder that the index was made with, loaded once and checked.

        Args:
            weights: Where its weights are now, if they have moved.
            device: torch's name of where it runs; None for a GPU if there is one.

        Returns:
            The encoder.

        Raises:
            ReferenceMismatch: It no longer gives the embeddings of the index.
            RequestError: Its weights file is gone.
        """
        if not self._encoder:
            self._encoder.append(reload_encoder(self.info["encoder"], weights=weights, device=device))
        return self._encoder[0]

    def lazy_encoder(self, device: str | None = None) -> Encoder:
        """The same encoder, loaded and checked when it first encodes an image.

        A caller that finds all embeddings in a cache need not wait for torch.

        Args:
            device: As for `encoder`.

        Returns:
            The encoder; its `encode` raises what `encoder` raises.
        """
        config = config_from_json(self.info["encoder"])
        return Encoder(config, View(**config.view), lambda pixels: self.encoder(device=device).encode(pixels))

    def table(self) -> Any:
        """The LanceDB table, for queries of your own.

        Returns:
            The table with the columns position, key, vector, width, height, size, hash, status and look.
        """
        table = connect(self.folder).open_table(table_of(self.info))
        table.checkout(self.info["version"])
        return table

    def reference(self) -> Reference:
        """The indexed collection with its manifest.

        Returns:
            The reference.

        Raises:
            ReferenceMismatch: The images are not those that were indexed.
        """
        where = self.info["reference"]
        reference = open_reference(open_source(where["location"], self.home), self.home, name=where["name"])
        found = reference.manifest.content_id.hex()
        if found != self.info["content_id"]:
            raise ReferenceMismatch(
                f"{where['location']}: index '{self.name}' was made of images with content id {self.info['content_id'][:16]}, "
                f"these have {found[:16]}. Restore them, or run `plada index` again",
                wanted=self.info["content_id"],
                found=found,
            )
        if "look" not in self.info.get("shards", {}).get("columns", {}):  # an older plada kept none
            return reference
        return replace(
            reference, fingerprints=lambda rows: stored_fingerprints(rows, len(self), self._batches, self._take)
        )

    def scan(self, batch_size: int = _SCAN) -> Iterator[tuple[I64, F16]]:
        """All readable images in order of position, in blocks.

        Args:
            batch_size: Images of a block at most.

        Returns:
            An iterator of (positions int64 [m], embeddings float16 [m, d]).

        Raises:
            DataError: The table holds another number of rows than index.json says, or other vectors: each shard is compared
                with its digest.
        """
        return self._scan(batch_size)

    def _scan(self, batch_size: int, *, check: bool = True) -> Iterator[tuple[I64, F16]]:
        at = 0
        # Rows lie in order of position, which was checked before index.json was written: the column need not be read.
        for column in self._column("vector", "vectors", batch_size, check=check):
            yield with_vector(np.arange(at, at + len(column)), column), column_vectors(column)
            at += len(column)
        if at != len(self):
            raise DataError(f"index '{self.name}': the table holds {at} rows; index.json says {len(self)}. Index again")

    def _column(self, name: str, what: str, batch_size: int, *, check: bool = True) -> Iterator[Any]:
        """A column of all rows in order of position, block by block, each shard compared with its digest if there is one."""
        ledger, rows = column_ledger(self.info, name) if check else None, 0
        for batch in self._batches([name], batch_size):
            column = batch.column(name)
            if ledger is not None:
                self._refuse_damage(ledger.add(column), what)
            yield column
            rows += len(column)
        if ledger is not None:
            self._refuse_damage(ledger.finish() if rows % ledger.rows else None, what)
            self._checked.update((name, number) for number in range(-(-rows // ledger.rows)))

    def has_fingerprints(self) -> bool:
        """Whether the index was made by a plada that keeps fingerprints (format 2)."""
        with self._readable():
            return "look" in self._rows().schema.names

    def fingerprints(self, batch_size: int = 65_536) -> Iterator[U8]:
        """Fingerprints of all images in order of position, in blocks.

        Args:
            batch_size: Images of a block at most.

        Yields:
            uint8 [m, 64]; zeros for an unreadable image.
        """
        yield from map(binary_rows, self._column("look", "fingerprints", batch_size))

    def vectors(self, positions: npt.ArrayLike) -> F16:
        """Embeddings of some images.

        Args:
            positions: Positions, int [k].

        Returns:
            float16 [k, d], in the order of `positions`.

        Raises:
            RequestError: A position is outside the index.
            DataError: An image has no embedding, because it could not be read; or its shard is damaged.
        """
        wanted = np.asarray(positions, np.int64)
        rows = self._take(wanted, ["position", "vector"])
        self._check("vector", "vectors", wanted)
        found, vectors = readable_rows(rows)
        if len(found) != len(np.unique(wanted)):
            missing = min(set(wanted.tolist()) - set(found.tolist()))
            row = self._take(np.asarray([missing]), ["position", "key", "status"]).to_pylist()[0]
            raise DataError(
                f"index '{self.name}': image {missing} ({row['key']}) has no embedding; it is unreadable: {row['status']}. "
                "Restore it and index with --append, or take another position"
            )
        return vectors[np.searchsorted(found, wanted)]

    def keys(self, positions: npt.ArrayLike) -> list[str]:
        """Keys of some images.

        Args:
            positions: Positions, int [k].

        Returns:
            The keys, in the order of `positions`.

        Raises:
            RequestError: A position is outside the index. DataError: The keys of its shard are damaged.
        """
        wanted = np.asarray(positions, np.int64)
        rows = self._take(wanted, ["position", "key"])
        self._check("key", "keys", wanted)
        names = dict(zip(rows.column("position").to_pylist(), rows.column("key").to_pylist(), strict=True))
        return [names[position] for position in wanted.tolist()]

    def keys_in_order(self) -> Iterator[Any]:
        """Keys of all images in order of position.

        Yields:
            A pyarrow string array, block by block.
        """
        return self._column("key", "keys", _SCAN)

    def images(self, positions: npt.ArrayLike) -> list[Any]:
        """Decoded images from the reference, their hashes compared.

        Args:
            positions: Positions, int [k].

        Returns:
            PIL images, RGB.

        Raises:
            ReferenceMismatch: The images are not those that were indexed.
        """
        reference = self.reference()
        return [reference.image(int(position)) for position in np.atleast_1d(np.asarray(positions, np.int64))]

    def search(self, queries: Any, k: int = 10, *, exact: bool = True) -> list[list[Hit]]:
        """The k nearest images of each query, best first.

        The score of an image is the cosine <q, v> / (|q| |v|) of its embedding v and the query's embedding q. Ties go to
        the lower position.

        Args:
            queries: One query, or a list of them. A query is a vector [d]; an image (path, PIL image, uint8 array [h, w],
                [h, w, 3] or [h, w, 4]); the text `position:123` or `key:n0144/a` (a key, or the beginning of only one); or words,
                with or without `text:` before them, where the encoder has a text tower. A string that is an existing file is an image. A batch of vectors [n, d] or of
                images uint8 [n, h, w, 3] is n queries.
            k: Images for each query.
            exact: Compare with all images. With False the approximate index answers: its scores are right, but an image
                may be missed.

        Returns:
            The hits of each query; fewer than k where fewer images have an embedding.

        Raises:
            RequestError: k is out of range, a query cannot be understood or is not finite, or there is no approximate index.
            ReferenceMismatch: The approximate index was made of another version of this index.
            DataError: The approximate index is damaged.
        """
        if not 1 <= k <= len(self):
            raise RequestError(f"k = {k}: expected 1 to {len(self)}, the images in index '{self.name}'")
        require("faiss", extra="cpu", purpose="search")
        ann = None if exact else self.ann()
        scores, positions = self.nearest(self.embed_queries(queries), k, ann)
        distinct, place = np.unique(positions, return_inverse=True)
        keys = self.keys(distinct)
        named = [keys[at] for at in place.reshape(-1)]
        hits = list(map(Hit, positions.reshape(-1).tolist(), named, scores.reshape(-1).tolist()))
        return [hits[at : at + positions.shape[1]] for at in range(0, len(hits), positions.shape[1])]

    def nearest(self, vectors: F32, k: int, ann: Ann | None = None) -> tuple[F32, I64]:
        """Positions and scores of the nearest images.

        Args:
            vectors: Unit vectors, float32 [n, d].
            k: Images for each vector; at most `readable` are given.
            ann: The approximate index that answers; None for exact search.

        Returns:
            (scores float32 [n, k], positions int64 [n, k]), best first.

        Raises:
            RequestError: A vector is not finite.
            DataError: The table holds less than it says.
        """
        k = min(k, self.readable)
        if ann is None:
            return self._search(vectors, k)
        scores, positions, complete = ann.search(vectors, k)
        if not complete.all():  # fewer than k were found: the rest of these queries' answers is elsewhere
            scores[~complete], positions[~complete] = self._search(vectors[~complete], k)
        return scores, positions

    def _search(self, vectors: F32, k: int) -> tuple[F32, I64]:
        blocks = partial(self._scan, _SCAN, check=False)
        return self._exact(blocks, vectors, k, rows=self.readable, dimension=self.dimension)

    def ann(self) -> Ann:
        """The approximate index, opened once and checked.

        Returns:
            The approximate index.

        Raises:
            RequestError: There is none.
            ReferenceMismatch: It was made of another version of this index.
            DataError: It is damaged, or written by a newer plada.
        """
        if not self._ann:
            self._ann.append(read_ann(self.folder / "ann", ann_source(self.info)))
        return self._ann[0]

    def embed_queries(self, queries: Any) -> F32:
        """Unit vectors of queries.

        Args:
            queries: As `search` takes them.

        Returns:
            float32 [n, d].

        Raises:
            RequestError: A query cannot be understood, or has no length.
        """
        return embed_queries(
            queries, dimension=self.dimension, encoder=self.encoder, vectors=self.vectors,
            find=lambda key: position_of_key(key, self.keys, len(self)),
        )  # fmt: skip

    def _rows(self) -> Any:
        """The Lance data set of the table, opened once, without LanceDB, whose import takes ten times as long.

        Raises:
            MissingExtra: pylance is not installed. DataError: the table is gone or damaged.
        """
        if not self._opened:
            require("lance", extra="cpu", purpose="an index")
            import lance

            with self._readable():
                # The version that was checked and described by index.json.
                self._opened.append(lance.dataset(self._table_path, version=self.info["version"]))
        return self._opened[0]

    @property
    def _table_path(self) -> Path:
        return self.folder / f"{table_of(self.info)}.lance"

    def _batches(self, columns: list[str], batch_size: int) -> Iterator[Any]:
        """Record batches of all rows in order of position."""
        rows = self._rows()
        with self._readable():
            yield from rows.to_batches(columns=columns, batch_size=batch_size, scan_in_order=True)

    def _check(self, column: str, what: str, positions: I64) -> None:
        """Compare the shards of some positions with their digests, each once."""
        with self._readable():
            self._refuse_damage(damaged_shard(self._rows(), self.info, column, positions, self._checked), what)

    def _refuse_damage(self, row: int | None, what: str) -> None:
        if row is not None:
            raise DataError(
                f"{self._table_path}: the {what} of images {row} and following are not those that were written; the disk has "
                f"damaged them. `plada index {self.name} --check` says more; index again with --restart"
            )

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Say in one line what is wrong with a table that cannot be read.

        Raises:
            ReferenceMismatch: the index was made anew since it was opened, and this build is gone. DataError: damage.
        """

        def explain(err: BaseException) -> PladaError:
            path, reason = self._table_path, first_line(err)
            if not path.exists() and self._named() not in (None, table_of(self.info)):
                return ReferenceMismatch(
                    f"index '{self.name}': it was made anew while it was read, and {path.name} is gone. Run this again"
                )
            return DataError(
                f"{path}: version {self.info['version']} cannot be opened or read ({reason}). `plada index {self.name} --check` "
                "says what is damaged; index again"
            )

        with explained(DAMAGE, explain):
            yield

    def _named(self) -> str | None:
        """The table that index.json names now; None where it names none."""
        try:
            info = Store(self.folder).info()
        except PladaError:
            return None
        return table_of(info) if info is not None else None

    def _take(self, positions: I64, columns: list[str]) -> Any:
        """Rows of the distinct positions, rising; Lance would leave out what is beyond the end without a word."""
        if len(positions) and not 0 <= positions.min() <= positions.max() < len(self):
            bad = positions[(positions < 0) | (positions >= len(self))][0]
            raise RequestError(f"position {bad}: index '{self.name}' holds 0 to {len(self) - 1}")
        stored = self._rows()
        with self._readable():
            rows = stored.take(np.unique(positions), columns=columns).combine_chunks()
        if not np.array_equal(rows.column("position").to_numpy(), np.unique(positions)):
            raise DataError(f"index '{self.name}': the table gave other rows than were asked for. Index again")
        return rows.to_batches()[0] if rows.num_rows else rows


def indexes(home: Path) -> list[str]:
    """Names of the complete indexes below a home."""
    return sorted(path.parent.name for path in (home / "indexes").glob("*/index.json"))


def indexes_that(fit: Callable[[Index], bool], home: Path) -> Iterator[Index]:
    """The indexes below a home that fit; one that cannot be opened is none of them."""
    for name in indexes(home):
        try:
            index = open_index(name, home=home)
        except PladaError:
            continue
        if fit(index):
            yield index


def open_index(name: str | Path | None = None, *, home: str | Path | None = None) -> Index:
    """Open an index.

    Args:
        name: Its name or its folder; None for the only one there is.
        home: Where indexes are kept. None: $PLADA_HOME, or the user's data folder.

    Returns:
        The index, which stays this very build: what `plada index` does meanwhile makes another one beside it.

    Raises:
        UnknownName: There is no index of that name.
        RequestError: None was named, and there is not exactly one.
        DataError: Its index.json is damaged, or written by a newer plada.
    """
    root = home_directory(home)
    known = indexes(root)
    if name is None:
        if len(known) != 1:
            there = f"there are {len(known)} indexes: {', '.join(known)}. Name one with --index"
            raise RequestError(there if known else f"there is no index in {root} yet. Make one with `plada index`")
        name = known[0]
    folder = (
        Path(name) if Path(name).is_dir() and (Path(name) / "index.json").exists() else root / "indexes" / str(name)
    )
    build = open_build(folder)
    if build is None:
        unfinished = (folder / "building.json").exists()
        hint = "It is not finished: run the same `plada index` again" if unfinished else "Make one with `plada index`"
        raise UnknownName("index", str(name), known, hint=hint)
    return Index(folder.absolute(), root, build[0], _hold=build[1])
