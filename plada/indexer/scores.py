"""The score of a search, in one place, so that every way of searching gives the same.

It is the inner product of a float32 query and a stored float16 vector, taken in float64 and rounded to float32. The products are
exact in float64 and their sum is good to 1e-13: the score does not depend on machine, batch, block or order of summation.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from plada.common.arrays import F16, F32, I64

VectorBlocks = Iterable[tuple[I64, F16]]  # (positions int64 [m], vectors float16 [m, d]), block by block

_PAIRS = 4096  # scored at a time


def score(queries: F32, vectors: npt.NDArray[np.floating], which: I64, rows: I64) -> F32:
    """Scores of pairs (query `asked[i]` of [n, d], vector `rows[i]` of [m, d]), float32 [c]."""
    scores, wide = np.empty(len(which), np.float32), queries.astype(np.float64)
    for start in range(0, len(which), _PAIRS):
        some = slice(start, start + _PAIRS)
        scores[some] = np.einsum("cd,cd->c", wide[which[some]], vectors[rows[some]].astype(np.float64))
    return scores


def ranked(scores: F32, positions: I64) -> tuple[F32, I64]:
    """Rows of results [n, k] ordered by falling score, then rising position."""
    order = np.lexsort((positions, -scores), axis=1)
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(positions, order, axis=1)
