"""Whether an index holds what it promises: `plada index --check`."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from plada.common.arrays import F32, I64
from plada.common.progress import Report, silent
from plada.encoders.encoder import Encoder, reload_encoder
from plada.errors import DataError, PladaError, ReferenceMismatch, RequestError, ResourceError
from plada.indexer.ann import Ann
from plada.indexer.audit import AuditedRows, audit_rows, compare_images, compare_manifest, reason_of, some_rows
from plada.indexer.store import DAMAGE
from plada.retrieval.index import Index, open_index
from plada.sources.collection import Collection
from plada.sources.compare import SAMPLE
from plada.sources.decode import decode
from plada.sources.manifest import key_id, load_manifest
from plada.sources.reference import manifest_path, manifests_in
from plada.sources.registry import open_source

_EMBEDDED = 16
_ALIKE = {"fp32": 0.999, "fp16": 0.998, "bf16": 0.98}  # least cosine of an embedding made again
_QUERIES, _NEAR = 200, 10  # for the recall of the approximate index
_SPREAD = 4  # standard errors that a recall measured again may be below what was wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckItem:
    """One promise of an index.

    Attributes:
        what: What was checked.
        ok: Whether it holds. None where it could not be checked here, say because weights or images are elsewhere.
        detail: What was found, or why it could not be checked.
        code: The exit status that it calls for: 4, other images or another encoder; 5, damage; else 0.
    """

    what: str
    ok: bool | None
    detail: str
    code: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What `plada.check_index` found.

    Attributes:
        name: Name of the index.
        path: Its folder.
        images: Images that index.json promises.
        ok: Nothing that could be checked failed.
        unchecked: Number of items that could not be checked.
        items: The promises, one by one.
        seconds: How long it took.
        exit_code: 0, 4 or 5: the highest that an item calls for.
    """

    name: str
    path: str
    images: int
    ok: bool
    unchecked: int
    items: tuple[CheckItem, ...]
    seconds: float
    exit_code: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def check_index(
    name: Index | str | Path | None = None,
    *,
    full: bool = False,
    sample: int = SAMPLE,
    weights: str | Path | None = None,
    device: str | None = None,
    seed: int = 0,
    home: str | Path | None = None,
    report: Report = silent,
) -> CheckReport:
    """Verify everything that a finished index promises.

    These are its rows, their order, vectors and digests, the manifest, the encoder, the images, and the approximate index
    with its recall. Every row of the table is read. What is not on this machine counts as unchecked, not as failed.

    Args:
        name: An opened index, its name, folder or URL; None for the only one there is.
        full: Hash every image, not a sample.
        sample: Images that are hashed; some of them are also embedded again.
        weights: Where the encoder's weights are now, if they have moved.
        device: torch's name of where the encoder runs; None for a GPU if there is one.
        seed: Decides which images are taken.
        home: Where indexes and manifests are kept. None: $PLADA_HOME, or the user's data folder.
        report: Called with the progress.

    Returns:
        What was found, item by item.

    Raises:
        UnknownName: There is no such index.
        RequestError: None was named, and there is not exactly one.
        DataError: Its index.json cannot be read, or was written by a newer plada.

    Examples:
        >>> import plada
        >>> plada.check_index("glyphs").ok
        True
    """
    if sample < 0:
        raise RequestError(f"sample = {sample}: expected the number of images to hash, 0 or more")
    start = time.monotonic()
    index = name if isinstance(name, Index) else open_index(name, home=home, report=report)
    items = tuple(_items(index, None if full else sample, weights, device, seed, report))
    return CheckReport(
        name=str(index.info.get("name", index.folder.name)),
        path=index.place,
        images=int(index.info.get("images", 0)),
        ok=all(item.ok is not False for item in items),
        unchecked=sum(item.ok is None for item in items),
        items=items,
        seconds=time.monotonic() - start,
        exit_code=max((item.code for item in items), default=0),
    )


def _items(
    index: Index, sample: int | None, weights: str | Path | None, device: str | None, seed: int, report: Report
) -> Iterator[CheckItem]:
    lacking = _lacking(index.info)
    yield _item("index.json", not lacking, f"lacks {lacking}, or has it of another kind" if lacking else "complete")
    if lacking:
        return
    try:
        rows = audit_rows(index.rows.dataset(), index.info, report)
    except DAMAGE as err:
        if index.at_url and not isinstance(meant := index.rows.explain(err), DataError):
            raise meant from err  # the store, and not what it holds
        yield _item("rows", False, f"the table cannot be read: {reason_of(err)}")
        return
    for what, (ok, detail) in rows.checks.items():
        yield _item(what, ok, detail)
    if "shards" not in rows.checks:
        yield _item("shards", None, "no digests of shards in index.json: made by an older plada")
    if rows.keys is None:
        return
    collection, why = _collection(index)
    images = _item("images", None, why)
    if collection is None:
        yield _item("manifest", None, why)
    else:
        path, there = manifest_path(index.home, collection), collection
        kept = manifests_in(path.parent)
        fitting = (manifest.path for manifest in kept if manifest.content_id.hex() == index.info["content_id"])
        path = next(fitting, path)
        if path.exists():
            yield _checked("manifest", lambda: compare_manifest(rows, load_manifest(path)))
        else:
            yield _item("manifest", None, "not here; `plada verify` makes it again")
        images = _checked(
            "images", lambda: _images(index, there, rows, sample, seed, report), code=ReferenceMismatch.exit_code
        )
    yield images
    encoder, item = _encoder(index, weights, device)
    yield item
    if encoder is not None and collection is not None and images.ok:
        loaded, there = encoder, collection
        yield _checked("embeddings", lambda: _embeddings(index, there, loaded, seed))
    yield from _ann(index, seed)


def _item(what: str, ok: bool | None, detail: str, code: int = DataError.exit_code) -> CheckItem:
    return CheckItem(what=what, ok=ok, detail=detail, code=0 if ok is not False else code)


def _checked(what: str, check: Callable[[], tuple[bool | None, str]], code: int = DataError.exit_code) -> CheckItem:
    """The item of a check. An error of plada's own is what it found, with the exit status of its class."""
    try:
        ok, detail = check()
    except ResourceError:
        raise
    except RequestError as err:
        return _item(what, None, str(err))
    except PladaError as err:
        return _failed(what, err)
    return _item(what, ok, detail, code)


def _failed(what: str, err: PladaError) -> CheckItem:
    return _item(what, False, str(err), err.exit_code if err.exit_code in (4, 5) else DataError.exit_code)


def _lacking(info: Mapping[str, Any]) -> str:
    """The first field of index.json that is missing or of another kind; empty where all are there."""
    kinds: dict[str, type | tuple[type, ...]] = {
        "name": str, "images": int, "unreadable": int, "dimension": int, "key_id": str, "content_id": str, "version": int,
        "encoder": dict, "reference": dict, "mean": list,
    }  # fmt: skip
    for name, kind in kinds.items():
        if not isinstance(info.get(name), kind):
            return name
    for name in ("name", "location"):
        if not isinstance(info["reference"].get(name), str):
            return f"reference {name}"
    if not isinstance(info["encoder"].get("self_check"), list):
        return "encoder self_check"
    shards = info.get("shards")
    sound = isinstance(shards, dict) and isinstance(shards.get("rows"), int) and isinstance(shards.get("digests"), list)
    return "shards" if shards is not None and not (sound and shards["rows"] > 0) else ""


def _collection(index: Index) -> tuple[Collection | None, str]:
    location = index.info["reference"]["location"]
    try:
        return open_source(location, index.home), ""
    except PladaError as err:
        return None, f"the images cannot be opened here: {reason_of(err)}"


def _images(
    index: Index, collection: Collection, rows: AuditedRows, sample: int | None, seed: int, report: Report
) -> tuple[bool, str]:
    """Whether the collection is the one of the table: keys, known sizes, and content of a sample."""
    if key_id(collection.keys).hex() != index.info["key_id"]:
        return False, f"{collection.location} has {len(collection)} images with other keys than the index"
    return compare_images(rows, collection, sample, seed, report)


def _encoder(index: Index, weights: str | Path | None, device: str | None) -> tuple[Encoder | None, CheckItem]:
    try:
        encoder = reload_encoder(index.info["encoder"], weights=weights, device=device)
    except RequestError as err:
        return None, _item("encoder", None, f"cannot be loaded here: {reason_of(err)}")
    except PladaError as err:
        return None, _failed("encoder", err)
    return encoder, _item("encoder", True, f"{encoder.config.name}: a fixed picture gives the embedding that was kept")


def _embeddings(index: Index, collection: Collection, encoder: Encoder, seed: int) -> tuple[bool, str]:
    """Whether some images give the embeddings that the table has for them."""
    places, vectors = some_rows(index.rows.dataset(), index.info, _EMBEDDED, seed)
    if not len(places):
        return True, "none of those chosen is readable"
    views = np.stack([encoder.view.of(decode(collection.read(int(place)))) for place in places])
    stored = vectors.astype(np.float32)
    cosines = (encoder.encode(views) * stored).sum(axis=1) / np.linalg.norm(stored, axis=1)
    least = _ALIKE.get(encoder.config.precision, 0.999)
    bad = np.flatnonzero(~(cosines >= least))
    if len(bad):
        return (
            False,
            f"image {places[bad[0]]} embedded again has cosine {cosines[bad[0]]:.4f} to its row, expected {least}",
        )
    return True, f"{len(places)} images embedded again, least cosine {cosines.min():.5f}"


def _ann(index: Index, seed: int) -> Iterator[CheckItem]:
    if not index.has_ann():
        return
    try:
        ann = index.read_ann(whole=True)
    except RequestError as err:  # no FAISS here
        yield _item("ann", None, reason_of(err))
        return
    except PladaError as err:
        yield _failed("ann", err)
        return
    yield _item("ann", True, f"{ann.kind}: digests of both files are right, made of this table")
    yield _checked("ann recall", lambda: _recall(index, ann, seed))


def _recall(index: Index, ann: Ann, seed: int) -> tuple[bool, str]:
    """Recall@10 again, on images of the index, each of which is left out of its own answer."""
    places, vectors = some_rows(index.rows.dataset(), index.info, _QUERIES, seed)
    queries = vectors.astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    near = min(_NEAR, index.readable - 1)
    truth = _others(*index.nearest(queries, near + 1), places)[:, near - 1 : near]
    hits = (_others(*index.nearest(queries, near + 1, ann), places)[:, :near] >= truth).mean(axis=1)
    wanted = float(ann.info.get("recall_wanted", 0.0))
    least = wanted - _SPREAD * float(hits.std()) / len(hits) ** 0.5
    measured = float(hits.mean())
    return measured >= least, f"recall@{near} {measured:.3f} on {len(hits)} images, {wanted} was wanted"


def _others(scores: F32, positions: I64, own: I64) -> F32:
    """Scores [n, k] without each query's own image, best first; -inf fills up."""
    left = np.where(positions == own[:, None], -np.inf, scores)
    return np.asarray(-np.sort(-left, axis=1), np.float32)
