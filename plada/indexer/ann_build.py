"""An approximate index built: train, add, measure on images that were held out, write. See `plada.indexer.ann`."""

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from plada.common.arrays import F16, F32, I64, Bools
from plada.common.checksums import write_sealed_json
from plada.common.failures import first_line
from plada.common.files import whole_file
from plada.common.machine import free_memory
from plada.common.packages import require
from plada.common.progress import Clock, Report, Tracker, silent
from plada.errors import DataError, RequestError, ResourceError
from plada.indexer.ann import FILES, FORMAT, KINDS, KNOB, Ann, digest, file_state, import_faiss
from plada.indexer.scores import VectorBlocks

Exact = Callable[[VectorBlocks, F32, int], tuple[F32, I64]]

RECALL_AT = 10
_FEWEST = 256  # images: below this there is nothing to leave out
_HELD_OUT = 1000  # queries that recall is measured with
_A_LIST, _TRAINED = 32, 262_144  # vectors a list that k-means sees, and at most in all
_ROUNDS = 8  # of k-means
_AXES, _VARIANCE = 128, 0.98  # principal axes at most; as many as hold this share of the variance
_LINKS, _BUILD_EF = 32, 80  # of a graph: neighbours kept, and candidates looked at when one is added
_PROBES = {
    "ivf": (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096, 8192, 16_384),
    "hnsw": (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048),
}
_FIRST = 150  # queries by which an effort is given up
_CANDIDATES = (2, 4, 8, 16, 32, 64)  # for each result, scored from the vectors


def build_ann(
    folder: Path,
    scan: Callable[[], VectorBlocks],
    *,
    kind: str,
    images: int,
    rows: int,
    dimension: int,
    source: Mapping[str, Any],
    exact: Exact,
    recall: float = 0.95,
    seed: int = 0,
    report: Report = silent,
) -> dict[str, Any]:
    """Build the approximate index in `folder` (INDEX/ann), measure it and write it: what its ann.json then says.

    `scan()` gives the `rows` readable ones of `images` as (positions int64 [m], vectors float16 [m, d]) from the start;
    `source` is `ann_source` of the index; `exact(blocks, queries, k)` is exact search. Some images are held out, searched for,
    and only then added; the cheapest effort is kept whose recall@10 is `recall` or more, less two standard errors.
    All randomness is seeded and a graph is built on one thread: the same table gives the same two files.

    Raises:
        RequestError: another kind, too few images. ResourceError: not enough memory, disk full.
        DataError: no effort reaches the recall.
    """
    _refuse(kind, recall, rows)
    require("faiss", extra="cpu", purpose="an approximate index")
    check_memory(kind, rows, dimension)
    clock, (lists, trained) = Clock(), sizes(rows)
    held, trained_on = _drawn(rows, trained, seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ann.json").unlink(missing_ok=True)  # from here on there is no approximate index
    with whole_file(folder / FILES[1]) as part:
        with clock("copy"):
            held_out, training = _copy(
                part, scan(), images, dimension, held, trained_on, Tracker("ann copy", rows, report)
            )
        with clock("train"):
            index = _trained(kind, training, lists, seed)
            del training
        vectors = np.memmap(part, np.float16, "r", shape=(images, dimension))
        tracker = Tracker("ann add", rows, report)
        with clock("add"):
            _add(index, kind, _split(scan(), ~held), tracker)
        with clock("measure"):
            ann = Ann({"kind": kind}, index, vectors)
            measured = _measure(ann, exact, scan, ~held, held_out[1], recall)
        with clock("add"):
            _add(index, kind, [held_out], tracker)
        del vectors, ann
    chosen, axes = measured.pop("effort"), int(index.index.d)
    shape = {"lists": lists, "trained": trained} if kind == "ivf" else {"links": _LINKS, "build_ef": _BUILD_EF}
    with whole_file(folder / FILES[0]) as part:
        _write(index, part)
    info = {
        "format": FORMAT,
        "kind": kind,
        "parameters": {**shape, "axes": axes, KNOB[kind]: chosen[0], "candidates": chosen[1], "seed": seed},
        "made_of": dict(source),
        "images": images,
        "rows": rows,
        "dimension": dimension,
        "digests": {name: digest(folder / name) for name in FILES},
        "states": {name: file_state(folder / name) for name in FILES},
        "bytes": sum((folder / name).stat().st_size for name in FILES),
        "seconds": clock.seconds,
        **measured,
    }
    write_sealed_json(folder / "ann.json", info)
    return info


def _refuse(kind: str, recall: float, rows: int) -> None:
    if kind not in KINDS or not 0 < recall < 1:
        raise RequestError(
            f"approximate index {kind} with recall {recall}: expected {' or '.join(KINDS)}, a recall between 0 and 1"
        )
    if rows < _FEWEST:
        raise RequestError(
            f"{rows} images: an approximate index needs {_FEWEST} or more. Exact search takes no time with so few"
        )


def _drawn(rows: int, trained: int, seed: int) -> tuple[Bools, Bools]:
    """Which rows are held out, and which are trained on, bool [rows] each."""
    order = np.random.default_rng(seed).permutation(rows)
    held, sample = np.zeros(rows, np.bool_), np.zeros(rows, np.bool_)
    held[order[: min(_HELD_OUT, rows // 10)]] = True
    sample[order[-trained:]] = True
    return held, sample


def sizes(rows: int) -> tuple[int, int]:
    """(inverted lists, vectors that k-means sees): about 4 sqrt(rows) lists, a power of two, of 16 images or more."""
    lists = 1 << round(float(np.log2(4 * rows**0.5)))
    while lists > 4 and lists > rows // 16:
        lists //= 2
    return lists, min(rows * 9 // 10, max(_A_LIST * lists, 4096), _TRAINED)


def check_memory(kind: str, rows: int, dimension: int) -> int:
    """Bytes that a build holds at its peak: the sample for k-means, codes with room to grow, and the links of a graph.

    Raises:
        ResourceError: this machine has not that much.
    """
    lists, trained = sizes(rows)
    axes = min(dimension, _AXES)
    # FAISS doubles a list that is full: on average a third of the room is empty.
    held = rows * (axes // 2 + 8) * 4 // 3 if kind == "ivf" else rows * (2 * axes + 8 * _LINKS + 24) * 4 // 3
    need = held + trained * (10 * dimension + 8 * axes) + 8 * lists * axes + 2 * rows
    there = free_memory()
    if there is not None and need > there:
        raise ResourceError(
            f"an approximate index ({kind}) of {rows} images of dimension {dimension} needs {need / 1e9:.1f} GB of memory; "
            f"{there / 1e9:.1f} GB are free. Build it on a larger machine, or search exactly"
        )
    return need


def _copy(
    path: Path, blocks: VectorBlocks, images: int, dimension: int, held: Bools, sample: Bools,
    tracker: Tracker,
) -> tuple[tuple[I64, F16], F16]:  # fmt: skip
    """Write all vectors to a file, zeros for unreadable images: ((positions, vectors) of the rows held out, the sample)."""
    positions, held_out, training, at, end = [], [], [], 0, 0
    with path.open("wb") as file:
        for places, vectors in blocks:
            if len(places) == 0:
                continue
            stop = at + len(places)
            positions.append(places[held[at:stop]])
            held_out.append(vectors[held[at:stop]])
            training.append(vectors[sample[at:stop]])
            whole = np.zeros((int(places[-1]) + 1 - end, dimension), "<f2")
            whole[places - end] = vectors
            file.write(whole.tobytes())
            at, end = stop, int(places[-1]) + 1
            tracker.advance(len(places))
        file.write(bytes(2 * dimension * (images - end)))
    if at != len(held):
        raise DataError(f"{at} embeddings where {len(held)} were expected. Check the index")
    return (np.concatenate(positions), np.concatenate(held_out)), np.concatenate(training)


def _trained(kind: str, sample: F16, lists: int, seed: int) -> Any:
    """An empty FAISS index, trained on a sample float16 [t, d]."""
    faiss = import_faiss()
    rotation = _principal_axes(sample)
    points = rotation.apply(np.ascontiguousarray(sample, np.float32))
    axes = points.shape[1]
    if kind == "hnsw":
        graph = faiss.IndexHNSWSQ(axes, faiss.ScalarQuantizer.QT_fp16, _LINKS)
        graph.hnsw.efConstruction = _BUILD_EF
        inner: Any = faiss.IndexIDMap(graph)
    else:
        means, quantizer = faiss.Clustering(axes, lists), faiss.IndexFlatL2(axes)
        means.niter, means.seed = _ROUNDS, (seed + 1) % 2**31
        means.min_points_per_centroid, means.max_points_per_centroid = 1, len(points)
        means.train(points, quantizer)
        # One code a number: with fewer, more candidates are needed for the same recall (measured).
        inner = faiss.IndexIVFPQFastScan(quantizer, axes, lists, axes, 4)
        inner.cp.seed = inner.pq.cp.seed = (seed + 1) % 2**31
        inner.pq.cp.min_points_per_centroid = 1
    inner.train(points)
    return faiss.IndexPreTransform(rotation, inner)


def _principal_axes(sample: F16) -> Any:
    """A FAISS transform onto the axes that hold most of the variance of the sample [t, d]. Distances stay what they are but
    for the rest; for unit vectors they order as inner products do, which this rotation about the mean would not keep."""
    faiss = import_faiss()
    dimension = sample.shape[1]
    mean = sample.mean(axis=0, dtype=np.float64)
    spread = np.zeros((dimension, dimension))
    for start in range(0, len(sample), 8192):
        centred = (sample[start : start + 8192] - mean).astype(np.float32)
        spread += centred.T @ centred
    shares, axes = np.linalg.eigh(spread)
    shares, axes = np.maximum(shares[::-1], 0), axes[:, ::-1]
    enough = 1 + int(np.searchsorted(np.cumsum(shares) / max(shares.sum(), 1e-30), _VARIANCE))
    kept = min(dimension, _AXES, -(-enough // 16) * 16)
    chosen = axes[:, :kept]
    # The sign of an axis is arbitrary: fixed, so that the same table gives the same file.
    chosen = chosen * np.where(chosen[np.abs(chosen).argmax(axis=0), np.arange(kept)] < 0, -1.0, 1.0)
    rotation = faiss.LinearTransform(dimension, kept, True)
    faiss.copy_array_to_vector(np.ascontiguousarray(chosen.T, np.float32).reshape(-1), rotation.A)
    faiss.copy_array_to_vector(np.ascontiguousarray(-(mean @ chosen), np.float32), rotation.b)
    rotation.is_trained = True
    return rotation


def _add(index: Any, kind: str, blocks: VectorBlocks, tracker: Tracker) -> None:
    faiss = import_faiss()
    threads = faiss.omp_get_max_threads()
    try:
        if kind == "hnsw":  # the links depend on who comes first
            faiss.omp_set_num_threads(1)
        for positions, vectors in blocks:
            if len(positions):
                index.add_with_ids(np.ascontiguousarray(vectors, np.float32), positions)
                tracker.advance(len(positions))
    finally:
        faiss.omp_set_num_threads(threads)


def _split(blocks: VectorBlocks, keep: Bools) -> Iterator[tuple[I64, F16]]:
    """The rows whose number (0 for the first of the scan) is kept."""
    at = 0
    for positions, vectors in blocks:
        mine = keep[at : at + len(positions)]
        at += len(positions)
        yield (positions, vectors) if mine.all() else (positions[mine], vectors[mine])


def _measure(
    ann: Ann, exact: Exact, scan: Callable[[], VectorBlocks], keep: Bools, held: F16, recall: float
) -> dict[str, Any]:
    """The cheapest effort that reaches the recall, and what it and exact search cost, for queries not in the index."""
    queries = held.astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    truth = exact(_split(scan(), keep), queries, RECALL_AT)[0][:, -1:]
    effort, (mean, error) = _min_effort(ann, queries, truth, recall)
    batch = min(_seconds(lambda: ann.search(queries, RECALL_AT, effort)) for _ in range(3))
    alone = [_seconds(partial(ann.search, queries[row : row + 1], RECALL_AT, effort)) for row in range(25)]
    return {
        "effort": effort,
        "recall_at_10": mean,
        "recall_error": error,
        "recall_wanted": recall,
        "queries": len(queries),
        "approximate": {"queries_per_second": len(queries) / batch, "latency_ms": 1e3 * float(np.median(alone))},
        "exact": {
            "queries_per_second": len(queries) / _seconds(lambda: exact(scan(), queries, RECALL_AT)),
            "latency_ms": 1e3 * _seconds(lambda: exact(scan(), queries[:1], RECALL_AT)),
        },
    }


def _min_effort(ann: Ann, queries: F32, truth: F32, recall: float) -> tuple[tuple[int, int], tuple[float, float]]:
    """((nprobe or ef, candidates), (recall, its standard error)); `truth` is the score of the tenth image [n, 1].

    Raises:
        DataError: the recall is out of reach.
    """
    inner, dimension = ann.index.index, queries.shape[1]
    max_probes = int(getattr(import_faiss().downcast_index(inner), "nlist", _PROBES[ann.kind][-1]))
    probes = [*(probe for probe in _PROBES[ann.kind] if probe < max_probes), max_probes]
    row_share = ann.index.ntotal / max_probes if ann.kind == "ivf" else 32.0
    # A number of a code is compared 64 times as fast as one of a vector is fetched and multiplied (measured).
    efforts = [(probe * row_share * inner.d + 64 * RECALL_AT * more * dimension, probe, more)
               for probe in probes for more in _CANDIDATES]  # fmt: skip

    def reached(probe: int, more: int) -> tuple[bool, float, float]:
        for some in (slice(0, _FIRST), slice(None)):  # most efforts are out of the question after a few queries
            scores, _, complete = ann.search(queries[some], RECALL_AT, (probe, more))
            # By score, not by position: of two equal images either is right.
            hits = (scores >= truth[some]).mean(axis=1) * complete
            mean, error = float(hits.mean()), float(hits.std() / len(hits) ** 0.5)
            if mean + 2 * error < recall:
                break
        return mean - 2 * error >= recall or mean == 1, mean, error

    # With all candidates first: what does not suffice then never will.
    tried = ((probe, reached(probe, _CANDIDATES[-1])) for probe in probes)
    min_probes, (_, best, _) = next(
        ((probe, result) for probe, result in tried if result[0]), (None, (False, 0.0, 0.0))
    )
    for _, probe, more in sorted(effort for effort in efforts if min_probes is not None and effort[1] >= min_probes):
        enough, mean, error = reached(probe, more)
        if enough:
            return (probe, more), (mean, error)
    best = best or reached(max_probes, _CANDIDATES[-1])[1]
    raise DataError(
        f"an approximate index of kind {ann.kind} reaches a recall@{RECALL_AT} of {best:.3f} where {recall} was wanted. "
        "Take another kind, a lower recall, or search exactly"
    )


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _write(index: Any, path: Path) -> None:
    faiss = import_faiss()
    try:
        faiss.write_index(index, str(path))
    except RuntimeError as err:
        reason = first_line(err)
        raise ResourceError(f"{path}: cannot be written ({reason}). Free space and run again") from err
