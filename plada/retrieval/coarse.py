"""The fast first pass of exact search: which rows of a block could be among the best of a query.

A pass gives every row an approximate score, with a bound on its error (the slack, proved below). It drops only rows that fall
short by more than that. The rest is scored again by `plada.retrieval.knn`, so the result is exact, and the same from every
pass.

The slack. With q, v the true vectors, Q, V what is multiplied, |v - V| <= u |v| for rounding to unit roundoff u, and a sum of
d products in float32 being wrong by at most d 2^-23 |Q| |V| in whatever order it is taken (twice the textbook bound, which
leaves room for multiplies that are not fused):
    |q.v - computed| <= (|q - Q| + u |Q| + d 2^-23 (1 + u) |Q|) |v|
A result that is itself rounded (bfloat16) needs no more: rounding keeps order, so the threshold is rounded alike.
"""

import sys
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from plada.common.arrays import F32, F64, I64

_CHUNK = 1024  # queries of one matrix product
_GROUP = 64  # columns whose largest is compared first: most are then never looked at one by one
_SPARE = 16  # rows that FAISS is asked for beyond k, so that rounding seldom decides who is in
_GPU_MOST = 2048  # FAISS on a GPU gives no more neighbours than this
_BF16 = 2.0**-8  # unit roundoff of bfloat16
_MANY = 64  # rows a query and block above which the finer product is cheaper than scoring all of them


class Pass(Protocol):
    """`candidates` gives, chunk by chunk of queries, (slice of queries, query in the chunk int64 [c], row int64 [c]): all rows
    that could reach `floor` (the score to beat, -inf where there is none yet) and be among the k best of the block.

    `vectors` are float32 [m, d], finite; `longest` is at least the length of the longest.
    """

    def candidates(self, vectors: F32, longest: float, floor: F32, k: int) -> Iterator[tuple[slice, I64, I64]]: ...


def choose_pass(queries: F32, k: int) -> Pass:
    """The fastest pass of this machine for float32 [n, d] queries: FAISS on a GPU that faiss-gpu sees; bfloat16 matrix
    products where the CPU has instructions for them; FAISS where the batch is large enough for BLAS; float32 products."""
    import faiss

    # Asked in this order: without a GPU build the second call is absent, and knn_gpu would end the process.
    if k + _SPARE <= _GPU_MOST and "GPU" in faiss.get_compile_options() and faiss.get_num_gpus() > 0:
        return FaissPass(queries, gpu=True)
    if has_bf16(len(queries)):
        return MatrixPass(queries, half=True)
    if queries.size >= faiss.cvar.distance_compute_blas_threshold and k <= _CHUNK:
        return FaissPass(queries)
    return MatrixPass(queries)


def has_bf16(queries: int) -> bool:
    """Whether torch multiplies bfloat16 natively here; for a few queries torch is not loaded to find out."""
    if queries < 16 and "torch" not in sys.modules:
        return False
    import torch

    return any(
        getattr(torch.cpu, name, lambda: False)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )


class MatrixPass:
    """Matrix products on the CPU: float32 by numpy, or bfloat16 by torch, three times as fast where it is native."""

    def __init__(self, queries: F32, *, half: bool = False) -> None:
        self.queries, self.half = queries, half
        self._slack = slack(queries, queries)
        self._buffers: tuple[Any, Any] | None = None
        if half:
            import torch

            self._coarse: Any = torch.from_numpy(queries).to(torch.bfloat16)
            self._coarse_slack = slack(queries, self._coarse.float().numpy(), unit=_BF16)

    def candidates(self, vectors: F32, longest: float, floor: F32, k: int) -> Iterator[tuple[slice, I64, I64]]:
        """See Pass."""
        block = self._rounded(vectors) if self.half else None
        # With a large k most of a block stays: fewer queries at a time bound the memory.
        step = _CHUNK if k <= len(vectors) // 16 else _CHUNK // 16
        for start in range(0, len(self.queries), step):
            chunk = slice(start, min(start + step, len(self.queries)))
            if block is None:
                yield chunk, *self._fine(chunk, vectors, longest, floor[chunk], k)
                continue
            missing = self._coarse_slack[chunk] * longest
            keys, low = self._coarse_scores(chunk, block, len(vectors), floor[chunk], missing, k)
            queries, rows = at_least(keys, low, len(vectors))
            if len(queries) > _MANY * (chunk.stop - start):
                queries, rows = self._fine(chunk, vectors, longest, floor[chunk], k)
            yield chunk, queries, rows

    def of(self, chunk: I64, vectors: F32, longest: float, floor: F32, k: int) -> tuple[I64, I64]:
        """Candidates of some queries alone (their numbers in `chunk`), by the float32 product."""
        return self._fine(chunk, vectors, longest, floor, k)

    def _fine(self, chunk: Any, vectors: F32, longest: float, floor: F32, k: int) -> tuple[I64, I64]:
        scores = self.queries[chunk] @ vectors.T
        missing = self._slack[chunk] * longest
        low = lowest(floor, _kth(scores, floor, k), missing)
        return at_least(scores, low, len(vectors))

    def _rounded(self, vectors: F32) -> Any:
        """The block as bfloat16, padded by zeros to whole groups, in a buffer that is used again."""
        import torch

        rows = -(-len(vectors) // _GROUP) * _GROUP
        if self._buffers is None or self._buffers[0].shape[0] < rows:
            rounded = torch.empty((rows, vectors.shape[1]), dtype=torch.bfloat16)
            self._buffers = rounded, torch.empty(min(_CHUNK, len(self.queries)) * rows, dtype=torch.bfloat16)
        block = self._buffers[0][:rows]
        block[: len(vectors)].copy_(torch.from_numpy(vectors))
        block[len(vectors) :].zero_()
        return block

    def _coarse_scores(
        self, chunk: slice, block: Any, rows: int, floor: F32, missing: F64, k: int
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """(scores [n, padded rows], thresholds [n]) as int16 that order as the bfloat16 they stand for."""
        import torch

        assert self._buffers is not None
        n, padded = chunk.stop - chunk.start, len(block)
        scores = self._buffers[1][: n * padded].view(n, padded)
        torch.mm(self._coarse[chunk], block.T, out=scores)
        kth = np.full(n, -np.inf)
        if (new := np.flatnonzero(np.isneginf(floor))).size and k <= rows:
            best = scores[torch.from_numpy(new), :rows].float().topk(k).values[:, -1].numpy().astype(np.float64)
            kth[new] = best - _BF16 * np.abs(best)  # the score before it was rounded
        low = torch.from_numpy(lowest(floor, kth, missing)).to(torch.bfloat16)
        keys: Any = scores.view(torch.int16).numpy()
        threshold: Any = low.view(torch.int16).numpy()
        if (threshold <= 0).any():
            keys, threshold = _ordered(keys), _ordered(threshold)
        return keys, threshold


class FaissPass:
    """FAISS on the CPU or a GPU: the best k and a few more of a block; where rounding could hide one, a product decides."""

    def __init__(self, queries: F32, *, gpu: bool = False) -> None:
        import faiss

        self.queries, self.exact = queries, MatrixPass(queries)
        self._slack = slack(queries, queries)
        self._resources = faiss.StandardGpuResources() if gpu else None

    def candidates(self, vectors: F32, longest: float, floor: F32, k: int) -> Iterator[tuple[slice, I64, I64]]:
        """See Pass."""
        import faiss

        near, missing = min(k + _SPARE, len(vectors)), self._slack * longest
        if self._resources is not None:
            found = faiss.knn_gpu(self._resources, self.queries, vectors, near, metric=faiss.METRIC_INNER_PRODUCT)
        else:
            found = faiss.knn(self.queries, vectors, near, metric=faiss.METRIC_INNER_PRODUCT)
        scores, rows = found
        kth = scores[:, k - 1].astype(np.float64) if near >= k else np.full(len(scores), -np.inf)
        low = lowest(floor, kth, missing)
        # The last row that FAISS gave may still count: then others behind it may, too.
        unsure = np.flatnonzero(scores[:, -1] >= low) if near < len(vectors) else np.zeros(0, np.int64)
        keep = scores >= low[:, None]
        keep[unsure] = False
        queries, columns = np.nonzero(keep)
        yield slice(0, len(self.queries)), queries, rows[queries, columns].astype(np.int64)
        for start in range(0, len(unsure), _CHUNK):
            some = unsure[start : start + _CHUNK]
            queries, found_rows = self.exact.of(some, vectors, longest, floor[some], k)
            yield slice(0, len(self.queries)), some[queries], found_rows


def slack(queries: F32, used: F32, *, unit: float = 0.0) -> F64:
    """How far an approximate score can be off per length of a vector, float64 [n]; see the head of this module. The last
    term is the rounding of scores and thresholds to float32."""
    length = np.linalg.norm(used.astype(np.float64), axis=1)
    moved = np.linalg.norm(queries.astype(np.float64) - used, axis=1)
    sums = queries.shape[1] * 2.0**-23
    return np.asarray(moved + (unit + sums * (1 + unit) + 2.0**-22) * length + 2.0**-22 * moved, np.float64)


def lowest(floor: F32, kth: F64, missing: F64) -> F32:
    """The approximate score that a row must have to count, float32 [n]: the larger of what the score to beat and the k-th
    best approximate score of this block (a lower bound of the k-th best true one, once `missing` is taken off) say."""
    low = np.maximum(floor.astype(np.float64), kth - missing) - missing
    return np.nextafter(low.astype(np.float32), np.float32(-np.inf))


def at_least(scores: npt.NDArray[Any], low: npt.NDArray[Any], rows: int) -> tuple[I64, I64]:
    """(query int64 [c], row int64 [c]) of the scores [n, m] that reach their query's threshold; columns from `rows` on are
    padding."""
    columns = scores.shape[1]
    whole = columns // _GROUP * _GROUP
    # A group is every (columns / 64)-th column: its largest is then found with whole vectors of the processor.
    slabs = scores[:, :whole].reshape(len(scores), _GROUP, -1)
    queries, groups = np.nonzero(slabs.max(axis=1) >= low[:, None])
    found, member = np.nonzero(slabs[queries, :, groups] >= low[queries, None])
    queries, found_rows = queries[found], member * slabs.shape[2] + groups[found]
    if whole < columns:
        more_queries, more_rows = np.nonzero(scores[:, whole:] >= low[:, None])
        queries, found_rows = np.concatenate([queries, more_queries]), np.concatenate([found_rows, more_rows + whole])
    inside = found_rows < rows
    return queries[inside], found_rows[inside]


def _kth(scores: F32, floor: F32, k: int) -> F64:
    """The k-th best of the block for the queries that have no score to beat yet, else -inf."""
    kth = np.full(len(scores), -np.inf)
    new = np.isneginf(floor)
    if k <= scores.shape[1] and new.any():
        kth[new] = np.partition(scores[new], -k, axis=1)[:, -k]
    return kth


def _ordered(bits: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """Sign and magnitude to integers in the same order: the bits of a negative number run backwards."""
    return bits ^ ((bits >> 15) & np.int16(0x7FFF))
