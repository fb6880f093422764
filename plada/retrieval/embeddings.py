"""Embeddings of a shortlist, held in memory where they fit."""

from collections.abc import Callable, Iterable

import numpy as np

from plada.common.arrays import F16, I64

HELD = 1 << 30  # bytes of embeddings that are kept in memory; more are read when they are asked for


def hold(
    positions: I64,
    dimension: int,
    blocks: Callable[[], Iterable[tuple[I64, F16]]],
    read: Callable[[I64], F16],
    *,
    limit: int = HELD,
) -> Callable[[I64], F16]:
    """A function that gives embeddings [m, d] of some of `positions` int64 [n] (rising): out of memory where they fit into
    `limit` bytes, taken from one pass over `blocks`, else by `read`."""
    if len(positions) * dimension * 2 > limit:
        return read
    kept = np.empty((len(positions), dimension), np.float16)
    for found, vectors in blocks():
        low, high = np.searchsorted(positions, [found[0], found[-1] + 1]) if len(found) else (0, 0)
        wanted = positions[low:high]
        kept[low:high] = vectors[np.searchsorted(found, wanted)]
    return lambda asked: kept[np.searchsorted(positions, asked)]
