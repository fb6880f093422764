"""An approximate index beside the table: its files, opening it, and searching it. `ann_build` builds it.

`INDEX/ann/` holds
    vectors.f16   the vectors of the table, float16 [N, d], row after row (zeros for unreadable images)
    index.faiss   a FAISS index over them: rotated onto their first principal axes, then inverted lists of 4 bits a number
                  (ivf) or a graph (hnsw); its ids are positions
    ann.json      written last: kind and parameters, digests of both files, which table it was made of, and what was measured
                  on images held out of it (recall@10 against exact search, queries a second and latency of both)
The FAISS index names candidates, and these are scored from the vectors as exact search scores them: an approximate search
may miss an image, but never gives a wrong score.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from plada.common.arrays import F16, F32, I64, Bools
from plada.common.checksums import is_sealed
from plada.common.failures import first_line
from plada.common.packages import require
from plada.errors import DataError, ReferenceMismatch, RequestError
from plada.indexer.scores import ranked

FORMAT = 1
KINDS = ("ivf", "hnsw")
KNOB = {"ivf": "nprobe", "hnsw": "ef"}  # the parameter that decides how much of the index is searched
FILES = ("index.faiss", "vectors.f16")
# Rows from which auto builds one: there a single exact query takes a third of a second on two cores.
ANN_PAYS = 1_000_000
_NUMBERS = 1 << 22  # of vectors that one piece of a search scores
_REMEDY = "Make it again with plada.make_ann, or search exactly"


def choose_ann_kind(kind: str, rows: int, dimension: int) -> str | None:
    """The kind of index to build for `rows` images, of auto, none, ivf or hnsw; None for no index.

    Raises:
        RequestError: another word.
    """
    if kind not in ("auto", "none", *KINDS):
        raise RequestError(f"approximate index '{kind}': expected auto, none, {' or '.join(KINDS)}")
    if kind == "auto":
        return "ivf" if rows >= ANN_PAYS and dimension > 1 else None
    return None if kind == "none" else kind


def ann_source(info: Mapping[str, Any]) -> dict[str, Any]:
    """What an approximate index depends on, of index.json: the images, the build and its version, and the vectors by their
    mean."""
    mean = blake3(np.asarray(info["mean"], "<f8").tobytes()).hexdigest(length=8)
    return {"content_id": info["content_id"], "table": info.get("table"), "version": info["version"], "mean": mean}


@dataclass(frozen=True, slots=True)
class Ann:
    """An approximate index, opened. `info` is what ann.json says, `index` the FAISS index, `vectors` float16 [N, d], mapped."""

    info: Mapping[str, Any]
    index: Any
    vectors: F16

    @property
    def kind(self) -> str:
        return str(self.info["kind"])

    @property
    def effort(self) -> tuple[int, int]:
        """What was chosen when it was built: (nprobe or ef, candidates for each result)."""
        knobs = self.info["parameters"]
        return int(knobs[KNOB[self.kind]]), int(knobs["candidates"])

    def search(self, queries: F32, k: int, effort: tuple[int, int] | None = None) -> tuple[F32, I64, Bools]:
        """(scores float32 [n, k], positions int64 [n, k], complete bool [n]), best first, ties to the lower position.

        `effort` as the property of that name, which is the default. A query for which fewer than k were found is not
        complete, and its row means nothing: ask exact search.
        """
        probes, times = effort or self.effort
        near = max(k, min(k * times, self.index.ntotal))
        step = max(1, _NUMBERS // (near * queries.shape[1]))
        scores = np.empty((len(queries), k), np.float32)
        positions, complete = np.empty((len(queries), k), np.int64), np.zeros(len(queries), np.bool_)
        # FAISS is asked for many queries at once, the vectors are fetched for a few: each at what is fastest.
        for begin in range(0, len(queries), 1024):
            batch = np.ascontiguousarray(queries[begin : begin + 1024], np.float32)
            found = self.candidates(batch, near, probes)
            for start in range(0, len(batch), step):
                piece = slice(start, start + step)
                best, places = ranked(self._scores(batch[piece], found[piece]), found[piece])
                rows = slice(begin + start, begin + start + len(best))
                scores[rows], positions[rows] = best[:, :k], places[:, :k]
                complete[rows] = (places[:, :k] >= 0).all(axis=1)
        return scores, positions, complete

    def candidates(self, queries: F32, near: int, probes: int) -> I64:
        """Positions int64 [n, near] that the FAISS index holds to be nearest, -1 where it found no more."""
        faiss = import_faiss()
        if self.kind == "ivf":
            inner: Any = faiss.downcast_index(self.index.index)
            # Many neighbours need many lists, whatever was measured for ten.
            lists = min(inner.nlist, max(probes, -(-2 * near * inner.nlist // inner.ntotal)))
            own = faiss.SearchParametersIVF(nprobe=lists)
        else:
            own = faiss.SearchParametersHNSW(efSearch=max(probes, near))
        _, found = self.index.search(queries, near, params=faiss.SearchParametersPreTransform(index_params=own))
        return np.asarray(found, np.int64)

    def _scores(self, queries: F32, found: I64) -> F32:
        """float32 [n, near], as `plada.indexer.scores` defines a score; -inf where there is no candidate."""
        vectors = self.vectors[np.maximum(found, 0)].astype(np.float64)
        scores: F32 = np.einsum("nd,nkd->nk", queries.astype(np.float64), vectors).astype(np.float32)
        scores[found < 0] = -np.inf
        return scores


def read_ann(folder: Path, source: Mapping[str, Any], *, whole: bool = False) -> Ann:
    """Open INDEX/ann.

    A file of the size and the time of writing that ann.json says is believed. Any other is hashed, which takes a third of a
    second a gigabyte, and so is every one if `whole`: one wrong byte is then found.

    Raises:
        RequestError: there is none. ReferenceMismatch: made of another version of the index than `source`, its `ann_source`.
        DataError: damaged, or written by a newer plada.
    """
    require("faiss", extra="cpu", purpose="approximate search")
    faiss = import_faiss()
    info = read_ann_json(folder / "ann.json")
    if info["made_of"] != dict(source):
        here, there = _described(source), _described(info["made_of"])
        raise ReferenceMismatch(
            f"{folder}: the approximate index was made of {there}; this index is {here}. {_REMEDY}",
            wanted=here,
            found=there,
        )
    for name in FILES:
        path = folder / name
        if not whole and untouched(path, info):
            continue
        found = digest(path) if path.is_file() else "no file"
        if found != info["digests"].get(name):
            wanted_digest = str(info["digests"].get(name))[:16]
            raise DataError(f"{path}: damaged: expected digest {wanted_digest}, found {found[:16]}. {_REMEDY}")
    try:
        index = faiss.read_index(str(folder / FILES[0]))
        vectors = np.memmap(folder / FILES[1], np.float16, "r", shape=(info["images"], info["dimension"]))
    except (RuntimeError, ValueError) as err:
        raise DataError(f"{folder}: cannot be read by this FAISS ({first_line(err)}). {_REMEDY}") from err
    if (index.ntotal, index.d) != (info["rows"], info["dimension"]):
        raise DataError(
            f"{folder}: {index.ntotal} vectors of dimension {index.d}; ann.json says {info['rows']} of {info['dimension']}. "
            f"{_REMEDY}"
        )
    return Ann(info, index, vectors)


def file_state(path: Path) -> list[int]:
    """What tells cheaply whether a file was written since: its size, and when it was last written, in nanoseconds."""
    state = path.stat()
    return [state.st_size, state.st_mtime_ns]


def untouched(path: Path, info: Mapping[str, Any]) -> bool:
    """Whether a file is, by size and time, the one that ann.json describes; never for one that an older plada wrote."""
    return path.is_file() and file_state(path) == info.get("states", {}).get(path.name)


def import_faiss() -> Any:
    """FAISS without its type stubs, which lack much of what is used here."""
    import faiss

    return faiss


def digest(path: Path) -> str:
    """BLAKE3 of a file, on all cores."""
    return blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest()


def _described(source: Mapping[str, Any]) -> str:
    return (
        f"version {source.get('version')} of content id {str(source.get('content_id'))[:16]} with vectors of mean "
        f"{source.get('mean')}"
    )


def read_ann_json(path: Path) -> dict[str, Any]:
    """What ann.json says.

    Raises:
        RequestError: there is none. DataError: damaged, or written by a newer plada.
    """
    try:
        info = json.loads(path.read_text())
    except FileNotFoundError:
        raise RequestError(
            f"{path.parent.parent}: this index has no approximate index. Make one with plada.make_ann "
            "(`plada index ... --ann ivf`), or search exactly"
        ) from None
    except (OSError, ValueError) as err:
        raise DataError(f"{path}: cannot be read ({err}). {_REMEDY}") from err
    if isinstance(info, dict) and isinstance(info.get("format"), int) and info["format"] > FORMAT:
        raise DataError(f"{path}: format {info['format']}; this plada reads {FORMAT}. Install a newer plada")
    if not _sound(info):
        raise DataError(f"{path}: not what plada writes: fields are missing or of another type. {_REMEDY}")
    if not is_sealed(info):
        raise DataError(f"{path}: its checksum is wrong; it is damaged. {_REMEDY}")
    whole: dict[str, Any] = {name: value for name, value in info.items() if name != "digest"}
    return whole


def _sound(info: Any) -> bool:
    if not isinstance(info, dict) or info.get("kind") not in KINDS:
        return False
    knobs, numbers = info.get("parameters"), [info.get(name) for name in ("format", "images", "rows", "dimension")]
    if not isinstance(knobs, dict) or not all(isinstance(info.get(name), dict) for name in ("made_of", "digests")):
        return False
    if not isinstance(info.get("states", {}), dict):
        return False
    numbers += [knobs.get(KNOB[info["kind"]]), knobs.get("candidates")]
    return all(isinstance(number, int) and number > 0 for number in numbers)
