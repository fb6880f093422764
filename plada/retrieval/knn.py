"""Exact nearest neighbours over a stream of blocks.

A coarse pass (FAISS on CPU or GPU, or matrix products, see `plada.retrieval.coarse`) finds the rows that can matter. These
are scored by `plada.indexer.scores`, so that every pass and every block size give the same result.
"""

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from plada.common.arrays import F16, F32, I64
from plada.errors import DataError, RequestError
from plada.indexer.scores import VectorBlocks, score
from plada.retrieval.coarse import Pass, choose_pass

_NUMBERS, _ROWS = 1 << 22, 16_384  # of a block that is scored at a time: it stays near the caches
NOWHERE = np.iinfo(np.int64).max


def exact_search(blocks: VectorBlocks, queries: F32, k: int, *, coarse: Pass | None = None) -> tuple[F32, I64]:
    """(scores float32 [n, k], positions int64 [n, k]) of the k largest inner products, ties to the lower position.

    `blocks` gives (positions [m], vectors [m, d]), each position once; `queries` is float32 [n, d]. One block is in memory,
    beside it n x k results. `coarse` is the first pass, by default the fastest here; it does not change the result.

    Raises:
        RequestError: a query that is not finite, or of another dimension than the vectors.
        DataError: fewer than k vectors in all; a vector that is not finite.
    """
    queries = check_queries(queries)
    best = np.full((len(queries), k), -np.inf, np.float32)
    places = np.full((len(queries), k), NOWHERE, np.int64)
    if not queries.size or not k:
        return best, places
    coarse = choose_pass(queries, k) if coarse is None else coarse
    to_float32 = _ToFloat32(queries.shape[1])
    for positions, vectors in _pieces(blocks, queries.shape[1], to_float32.rows):
        block = to_float32(vectors)
        longest = _longest(positions, block)
        for chunk, asked, rows in coarse.candidates(block, longest, best[:, -1], k):
            scores = score(queries[chunk], block, asked, rows)
            keep = scores >= best[chunk][asked, -1]
            if keep.any():
                merge(best[chunk], places[chunk], asked[keep], scores[keep], positions[rows[keep]])
    if (places == NOWHERE).any():
        raise DataError(f"fewer than {k} images have an embedding")
    return best, places


def check_queries(queries: F32) -> F32:
    """The queries as float32 [n, d] in one piece. Raises RequestError: not of that shape, or not finite."""
    queries = np.ascontiguousarray(queries, np.float32)
    if queries.ndim != 2 or not np.isfinite(queries).all():
        raise RequestError(f"queries of shape {queries.shape}: expected [n, d], all of it finite")
    return queries


class _ToFloat32:
    """float16 to float32 in a buffer that is used again. torch, where it is loaded, is ten times as fast as numpy."""

    def __init__(self, dimension: int) -> None:
        self.rows = min(_ROWS, max(1024, _NUMBERS // dimension))
        self._wide = np.empty((self.rows, dimension), np.float32)
        self._half = np.empty((self.rows, dimension), np.float16)
        self._torch: Any = sys.modules.get("torch")

    def __call__(self, vectors: npt.NDArray[np.floating]) -> F32:
        """float32 [m, d], good until the next call."""
        wide = self._wide[: len(vectors)]
        if self._torch is None or vectors.dtype != np.float16:
            np.copyto(wide, vectors)
            return wide
        # torch takes no array that is read-only, as a table's columns are.
        half = self._half[: len(vectors)]
        np.copyto(half, vectors)
        self._torch.from_numpy(wide).copy_(self._torch.from_numpy(half))
        return wide


def _pieces(blocks: VectorBlocks, dimension: int, rows: int) -> Iterator[tuple[I64, F16]]:
    for positions, vectors in blocks:
        if vectors.shape[1:] != (dimension,):
            raise RequestError(f"queries of dimension {dimension}: the vectors are of shape {vectors.shape}")
        for start in range(0, len(positions), rows):
            yield positions[start : start + rows], vectors[start : start + rows]


def _longest(positions: I64, block: F32) -> float:
    """A bound on the lengths of the vectors [m, d], refusing those that would never be found."""
    lengths: F32 = np.sqrt(np.einsum("md,md->m", block, block))
    if not np.isfinite(lengths).all():
        raise damaged_vector(int(positions[np.flatnonzero(~np.isfinite(lengths))[0]]))
    longest: float = lengths.max(initial=0).item()
    return float(longest * (1 + block.shape[1] * 2.0**-23))


def damaged_vector(position: int) -> DataError:
    """What is said of an embedding that would never be found."""
    return DataError(f"the embedding of image {position} is not finite. Check the index, or index again with --restart")


def merge(best: F32, places: I64, asked: I64, scores: F32, positions: I64) -> None:
    """Put new (query, score, position) among the best of their queries, in place; best and places are [n, k]."""
    queries, k = np.unique(asked), best.shape[1]
    owner = np.concatenate([np.repeat(queries, k), asked])
    value = np.concatenate([best[queries].reshape(-1), scores])
    place = np.concatenate([places[queries].reshape(-1), positions])
    order = np.lexsort((place, -value, owner))
    owner = owner[order]
    rank = np.arange(len(owner)) - np.searchsorted(owner, owner)
    first = order[rank < k]
    best[queries], places[queries] = value[first].reshape(-1, k), place[first].reshape(-1, k)
