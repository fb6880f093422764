"""An index, opened: search, scan, vectors by position.

Search is exact: the table is streamed once in blocks and FAISS keeps the best of all queries. Scores are inner
products of unit vectors (cosines); ties go to the lower position.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plada.errors import DataError, ReferenceMismatch, RequestError, UnknownName, Unreadable
from plada.extras import require
from plada.files import home_directory
from plada.indexer.encoders import Encoder, reload_encoder
from plada.indexer.store import TABLE, Store, connect, readable_rows
from plada.retrieval.knn import exact_search
from plada.sources.decode import decode
from plada.sources.manifest import binary_rows
from plada.sources.reference import Reference, open_reference
from plada.sources.registry import open_source

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Hit:
    """One search result; `score` is the cosine to the query."""

    position: int
    key: str
    score: float


@dataclass(frozen=True, slots=True)
class Index:
    """An index on this machine. `info` is what index.json says: name, reference, encoder, images, ids, mean."""

    folder: Path
    home: Path
    info: dict[str, Any]
    _encoder: list[Encoder] = field(default_factory=list, repr=False)
    _opened: list[Any] = field(default_factory=list, repr=False)

    def __len__(self) -> int:
        return int(self.info["images"])

    @property
    def name(self) -> str:
        return str(self.info["name"])

    @property
    def dimension(self) -> int:
        return int(self.info["dimension"])

    @property
    def mean(self) -> F32:
        """Mean of all readable embeddings, float32 [d]."""
        return np.asarray(self.info["mean"], np.float32)

    def encoder(self, weights: str | Path | None = None, device: str | None = None) -> Encoder:
        """The encoder that the index was made with, loaded once and checked.

        Raises:
            ReferenceMismatch: it is not the same any more. RequestError: its weights file is gone.
        """
        if not self._encoder:
            self._encoder.append(reload_encoder(self.info["encoder"], weights=weights, device=device))
        return self._encoder[0]

    def table(self) -> Any:
        """The LanceDB table, for queries of your own (columns position, key, vector, width, height, size, status)."""
        return self._open()[0]

    def reference(self) -> Reference:
        """The indexed collection with its manifest.

        Raises:
            ReferenceMismatch: the images are not those that were indexed.
        """
        where = self.info["reference"]
        reference = open_reference(where["name"], open_source(where["location"], self.home), self.home)
        found = reference.manifest.content_id.hex()
        if found != self.info["content_id"]:
            raise ReferenceMismatch(
                f"{where['location']}: index '{self.name}' was made of images with content id {self.info['content_id'][:16]}, "
                f"these have {found[:16]}. Restore them, or run `plada index` again",
                wanted=self.info["content_id"],
                found=found,
            )
        return reference

    def scan(self, batch_size: int = 65_536) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float16]]]:
        """(positions int64 [m], vectors float16 [m, d]) of all readable images, in order, in blocks."""
        columns = ["position", "vector"]
        for batch in self._open()[1].to_batches(columns=columns, batch_size=batch_size, scan_in_order=True):
            yield readable_rows(batch)

    def has_looks(self) -> bool:
        """Whether the index was made by a plada that keeps looks (format 2)."""
        return "look" in self._open()[1].schema.names

    def looks(self, batch_size: int = 65_536) -> Iterator[npt.NDArray[np.uint8]]:
        """Looks of all images in order, in blocks uint8 [m, LOOK_BYTES]; zeros for an unreadable image."""
        for batch in self._open()[1].to_batches(columns=["look"], batch_size=batch_size, scan_in_order=True):
            yield binary_rows(batch.column("look"))

    def vectors(self, positions: npt.ArrayLike) -> npt.NDArray[np.float16]:
        """Embeddings of some images in the order asked for, float16 [k, d].

        Raises:
            RequestError: a position outside the index. DataError: an image without embedding (unreadable).
        """
        wanted = np.asarray(positions, np.int64)
        rows = self._take(wanted, ["position", "vector"])
        found, vectors = readable_rows(rows)
        if len(found) != len(np.unique(wanted)):
            missing = sorted(set(wanted.tolist()) - set(found.tolist()))
            raise DataError(f"index '{self.name}': image {missing[0]} has no embedding (it could not be read)")
        return vectors[np.searchsorted(found, wanted)]

    def keys(self, positions: npt.ArrayLike) -> list[str]:
        """Keys of some images, in the order asked for."""
        wanted = np.asarray(positions, np.int64)
        rows = self._take(wanted, ["position", "key"])
        names = dict(zip(rows.column("position").to_pylist(), rows.column("key").to_pylist(), strict=True))
        return [names[position] for position in wanted.tolist()]

    def images(self, positions: npt.ArrayLike) -> list[Any]:
        """Decoded images (PIL, RGB) from the reference, hashes compared."""
        reference = self.reference()
        return [reference.image(int(position)) for position in np.atleast_1d(np.asarray(positions, np.int64))]

    def search(self, queries: Any, k: int = 10) -> list[list[Hit]]:
        """The k nearest images of each query, best first.

        A query is a vector [d] or a batch of vectors [n, d]; an image (path, PIL image, uint8 array [h, w, 3]); the
        text `position:123`; or a list of these.

        Raises:
            RequestError: k out of range, no query, a query that cannot be understood or is not finite.
        """
        if not 1 <= k <= len(self):
            raise RequestError(f"k = {k}: expected 1 to {len(self)}, the images in index '{self.name}'")
        vectors = self.embed_queries(queries)
        require("faiss", extra="cpu", purpose="search")
        scores, positions = exact_search(self.scan(), vectors, min(k, len(self) - int(self.info["unreadable"])))
        names = dict(zip(flat := np.unique(positions), self.keys(flat), strict=True))
        return [
            [Hit(int(p), names[p], float(s)) for p, s in zip(row, row_scores, strict=True)]
            for row, row_scores in zip(positions, scores, strict=True)
        ]

    def embed_queries(self, queries: Any) -> F32:
        """Unit vectors float32 [n, d] of queries as `search` takes them."""
        if isinstance(queries, np.ndarray) and queries.dtype != np.uint8:
            vectors = np.atleast_2d(np.asarray(queries, np.float32))
        else:
            single = isinstance(queries, str | Path | np.ndarray) or not isinstance(queries, Sequence)
            many = [queries] if single else list(queries)
            vectors = (
                np.stack([self._embed(query) for query in many]) if many else np.zeros((0, self.dimension), np.float32)
            )
        lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
        if vectors.ndim != 2 or vectors.shape[1] != self.dimension or not len(vectors):
            raise RequestError(
                f"queries of shape {vectors.shape}: expected at least one vector of dimension {self.dimension}"
            )
        if not np.isfinite(vectors).all() or not lengths.all():
            raise RequestError("a query vector is zero or not finite: it has no neighbours")
        return np.asarray(vectors / lengths, np.float32)

    def _embed(self, query: Any) -> F32:
        if isinstance(query, str) and query.startswith("position:"):
            try:
                return np.asarray(self.vectors([int(query.removeprefix("position:"))])[0], np.float32)
            except ValueError as err:
                raise RequestError(f"query '{query}': expected position: and a whole number") from err
        if isinstance(query, np.ndarray) and query.dtype != np.uint8:
            return np.asarray(query, np.float32)
        encoder = self.encoder()
        if isinstance(query, str | Path):
            try:
                image = decode(Path(query).read_bytes())
            except OSError as err:
                raise RequestError(
                    f"query '{query}': neither position:NUMBER nor an image file ({err.strerror})"
                ) from err
            except Unreadable as err:
                raise RequestError(f"query '{query}': {err}") from err
        else:
            from PIL import Image

            image = (query if isinstance(query, Image.Image) else Image.fromarray(query)).convert("RGB")
        return np.asarray(encoder.encode(encoder.view.of(image)[None])[0], np.float32)

    def _open(self) -> tuple[Any, Any]:
        """(LanceDB table, Lance data set below it), opened once: opening anew costs more than most reads."""
        if not self._opened:
            table = connect(self.folder).open_table(TABLE)
            # The version that was checked and described by index.json, whatever was appended since.
            table.checkout(self.info["version"])
            self._opened.append((table, table.to_lance()))
        table, dataset = self._opened[0]
        return table, dataset

    def _take(self, positions: npt.NDArray[np.int64], columns: list[str]) -> Any:
        """Rows of the distinct positions, rising; Lance would leave out what is beyond the end without a word."""
        if len(positions) and not 0 <= positions.min() <= positions.max() < len(self):
            bad = positions[(positions < 0) | (positions >= len(self))][0]
            raise RequestError(f"position {bad}: index '{self.name}' holds 0 to {len(self) - 1}")
        rows = self._open()[1].take(np.unique(positions), columns=columns).combine_chunks()
        if not np.array_equal(rows.column("position").to_numpy(), np.unique(positions)):
            raise DataError(f"index '{self.name}': the table gave other rows than were asked for. Index again")
        return rows.to_batches()[0] if rows.num_rows else rows


def indexes(home: Path) -> list[str]:
    """Names of the complete indexes below a home."""
    return sorted(path.parent.name for path in (home / "indexes").glob("*/index.json"))


def open_index(name: str | Path | None = None, *, home: str | Path | None = None) -> Index:
    """Open an index by name or by its folder; without a name, the only one there is.

    Raises:
        UnknownName: there is none of that name. RequestError: none was named, and there is not just one.
        DataError: its index.json is damaged or newer.
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
    info = Store(folder).info()
    if info is None:
        unfinished = (folder / "building.json").exists()
        hint = "It is not finished: run the same `plada index` again" if unfinished else "Make one with `plada index`"
        raise UnknownName("index", str(name), known, hint=hint)
    return Index(folder.absolute(), root, info)
