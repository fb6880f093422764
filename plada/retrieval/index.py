"""An opened index: search, scan, vectors by position.

Search is exact unless asked otherwise: the table is streamed once in blocks. Scores are inner products of unit vectors
(cosines); ties go to the lower position. The approximate index of `plada.indexer.ann` answers on request.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plada.common.arrays import F16, F32, I64, U8
from plada.common.files import home_directory, local_place
from plada.common.packages import require
from plada.common.progress import Report, silent
from plada.encoders.encoder import Encoder, config_from_json, reload_encoder
from plada.errors import DataError, PladaError, ReferenceMismatch, RequestError, UnknownName
from plada.indexer.ann import Ann, ann_source, read_ann
from plada.indexer.builds import BuildHold, open_build
from plada.indexer.store import readable_rows
from plada.retrieval.device_search import ExactSearch
from plada.retrieval.fingerprints import stored_fingerprints
from plada.retrieval.hit import Hit
from plada.retrieval.manifest import keep_manifest_of
from plada.retrieval.queries import embed_queries, position_of_key
from plada.retrieval.remote import RemoteFolder, copied_ann, is_url, remote_folder
from plada.retrieval.table import SCAN, IndexTable, read_info
from plada.sources.decode import View
from plada.sources.manifest import binary_rows
from plada.sources.reference import Reference, open_reference
from plada.sources.registry import open_source
from plada.sources.storage import slug

_FOLDERS = 8  # that a message names


@dataclass(frozen=True, slots=True, repr=False)
class Index:
    """An index on this machine or at a URL, opened by `plada.open_index`.

    Attributes:
        folder: The folder of the index; of one at a URL the folder here that parts of it are copied to.
        home: Where indexes and manifests are kept.
        info: What index.json says: name, reference, encoder, images, ids, mean.

    Examples:
        >>> import plada
        >>> index = plada.open_index("characters")
        >>> len(index), index.vectors([0, 7]).shape == (2, index.dimension)
        (400, True)
        >>> picture = index.images([7])[0]
        >>> index.search([picture], k=1)[0][0].position
        7
        >>> scores, positions = index.nearest(index.embed_queries([picture]), k=3)
        >>> positions.shape
        (1, 3)
    """

    folder: Path
    home: Path
    info: dict[str, Any]
    _encoder: list[Encoder] = field(default_factory=list)
    _opened: list[IndexTable] = field(default_factory=list)
    _ann: list[Ann] = field(default_factory=list)
    _exact: ExactSearch = field(default_factory=ExactSearch)
    _remote: RemoteFolder | None = None
    _report: Report = silent
    _hold: BuildHold | None = None  # keeps the table from being removed while this index is open

    def __len__(self) -> int:
        return int(self.info["images"])

    def __repr__(self) -> str:
        encoder = self.info["encoder"]["name"]
        return f"Index({self.name!r}, images={len(self)}, dimension={self.dimension}, encoder={encoder!r}, folder={self.place!r})"

    @property
    def name(self) -> str:
        """Name of the index."""
        return str(self.info["name"])

    @property
    def place(self) -> str:
        """Where the index is: its folder, or its URL."""
        return self._remote.url if self._remote is not None else str(self.folder)

    @property
    def at_url(self) -> bool:
        """Whether the index is at a URL."""
        return self._remote is not None

    @property
    def rows(self) -> IndexTable:
        """The rows as they are stored, compared with their digests when they are read."""
        if not self._opened:
            self._opened.append(IndexTable(self._remote or self.folder, self.info))
        return self._opened[0]

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
        return self.rows.database()

    def keep_manifest(self) -> None:
        """Keep the manifest of an index at a URL in the home, as the table has it, unless it is there.

        Payloads are smaller with it, and no image need be hashed to make it. An index in a folder has one already.

        Raises:
            DataError: The table is damaged.
        """
        if self._remote is not None:
            keep_manifest_of(self.rows, self.home, self._report)

    def reference(self) -> Reference:
        """The indexed collection with its manifest.

        Returns:
            The reference.

        Raises:
            ReferenceMismatch: The images are not those that were indexed.
        """
        self.keep_manifest()
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
            reference, fingerprints=lambda rows: stored_fingerprints(rows, len(self), self.rows.batches, self.rows.take)
        )

    def scan(self, batch_size: int = SCAN) -> Iterator[tuple[I64, F16]]:
        """All readable images in order of position, in blocks.

        Args:
            batch_size: Images of a block at most.

        Returns:
            An iterator of (positions int64 [m], embeddings float16 [m, d]).

        Raises:
            DataError: The table holds another number of rows than index.json says, or other vectors: each shard is compared
                with its digest.
        """
        return self.rows.embeddings(batch_size)

    def has_fingerprints(self) -> bool:
        """Whether the index was made by a plada that keeps fingerprints (format 2)."""
        return "look" in self.rows.dataset().schema.names

    def fingerprints(self, batch_size: int = 65_536) -> Iterator[U8]:
        """Fingerprints of all images in order of position, in blocks.

        Args:
            batch_size: Images of a block at most.

        Yields:
            uint8 [m, 64]; zeros for an unreadable image.
        """
        yield from map(binary_rows, self.rows.column("look", "fingerprints", batch_size))

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
        rows = self.rows.take(wanted, ["position", "vector"])
        self.rows.check("vector", "vectors", wanted)
        found, vectors = readable_rows(rows)
        if len(found) != len(np.unique(wanted)):
            missing = min(set(wanted.tolist()) - set(found.tolist()))
            row = self.rows.take(np.asarray([missing]), ["position", "key", "status"]).to_pylist()[0]
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
        rows = self.rows.take(wanted, ["position", "key"])
        self.rows.check("key", "keys", wanted)
        names = dict(zip(rows.column("position").to_pylist(), rows.column("key").to_pylist(), strict=True))
        return [names[position] for position in wanted.tolist()]

    def keys_in_order(self) -> Iterator[Any]:
        """Keys of all images in order of position.

        Yields:
            A pyarrow string array, block by block.
        """
        return self.rows.column("key", "keys", SCAN)

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
        blocks = partial(self.rows.embeddings, SCAN, check=False)
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
            self._ann.append(self.read_ann())
        return self._ann[0]

    def has_ann(self) -> bool:
        """Whether an approximate index lies beside the table, sound or not.

        Returns:
            Whether there is one.
        """
        if self._remote is not None:
            return self._remote.read("ann/ann.json") is not None
        return (self.folder / "ann" / "ann.json").exists()

    def read_ann(self, *, whole: bool = False) -> Ann:
        """The approximate index, opened anew. That of an index at a URL is copied to the home first.

        Args:
            whole: Hash its files, whatever their times say.

        Returns:
            The approximate index.

        Raises:
            PladaError: As `ann` raises.
        """
        folder = (
            copied_ann(self._remote, self.folder, self._report) if self._remote is not None else self.folder / "ann"
        )
        return read_ann(folder, ann_source(self.info), whole=whole)

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


def open_index(
    name: str | Path | None = None,
    *,
    home: str | Path | None = None,
    storage_options: Mapping[str, str] | None = None,
    report: Report = silent,
) -> Index:
    """Open an index.

    Args:
        name: Its name, its folder, or the URL of its folder (`s3://BUCKET/indexes/NAME`); None for the only one there is.
        home: Where indexes are kept. None: $PLADA_HOME, or the user's data folder. Of an index at a URL, its approximate index and
            its manifest are copied there when they are needed.
        storage_options: For a URL, options of the store beyond those that the environment gives (AWS_ENDPOINT, AWS_ALLOW_HTTP,
            AWS_REGION, AWS_ACCESS_KEY_ID, ...): `{"aws_endpoint": "http://...", "allow_http": "true"}`, as LanceDB takes them.
        report: Called with the progress when parts of an index at a URL are copied.

    Returns:
        The index, which stays this very build: what `plada index` does meanwhile makes another one beside it.

    Raises:
        UnknownName: There is no index of that name.
        RequestError: None was named, and there is not exactly one. At a URL: there is none, or no access.
        DataError: Its index.json is damaged, or written by a newer plada.
        ResourceError: The store at the URL does not answer.

    Examples:
        >>> import plada
        >>> index = plada.open_index("glyphs")
        >>> len(index), index.dimension
        (1500, 256)
    """
    root = home_directory(home)
    if is_url(name):
        return _open_remote(str(name), root, storage_options, report)
    known = indexes(root)
    if name is None:
        if len(known) != 1:
            there = f"there are {len(known)} indexes: {', '.join(known)}. Name one with --index"
            raise RequestError(there if known else f"there is no index in {root} yet. Make one with `plada index`")
        name = known[0]
    place = Path(local_place(name))
    folder = place if place.is_dir() and (place / "index.json").exists() else root / "indexes" / str(name)
    build = open_build(folder)
    if build is None:
        unfinished = (folder / "building.json").exists()
        hint = "It is not finished: run the same `plada index` again" if unfinished else "Make one with `plada index`"
        raise UnknownName("index", str(name), known, hint=hint)
    return Index(folder.absolute(), root, build[0], _hold=build[1])


def _open_remote(url: str, home: Path, options: Mapping[str, str] | None, report: Report) -> Index:
    remote = remote_folder(url, options)
    info = read_info(remote)
    if info is None:
        there = remote.folders()  # says, too, where there is no such bucket
        named = f"; the folders there are {', '.join(there[:_FOLDERS])}" if there else ""
        raise RequestError(
            f"{remote.url}: no index.json is there, so no finished index{named}. Mend the address, or copy the folder of one there "
            "(`aws s3 cp --recursive`)"
        )
    return Index(home / "cache" / "indexes" / slug(remote.url), home, info, _remote=remote, _report=report)
