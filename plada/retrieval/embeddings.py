"""Embeddings of some images of an index, held in memory where they fit."""

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

F16 = npt.NDArray[np.float16]
I64 = npt.NDArray[np.int64]
Vectors = Callable[[I64], npt.NDArray[np.floating]]  # positions int64 [m] -> embeddings [m, d]
MAX_BYTES = 1 << 30  # of embeddings that are kept in memory; more are read when they are asked for


def hold(
    positions: I64,
    dimension: int,
    blocks: Callable[[], Iterable[tuple[I64, F16]]],
    read: Callable[[I64], F16],
    *,
    limit: int = MAX_BYTES,
) -> Callable[[I64], F16]:
    """A function that gives embeddings [m, d] of some of `positions` int64 [n] (rising): from memory where they fit into
    `limit` bytes, taken from one pass over `blocks`, else by `read`."""
    if len(positions) * dimension * 2 > limit:
        return read
    held = np.empty((len(positions), dimension), np.float16)
    for where, vectors in blocks():
        low, high = np.searchsorted(positions, [where[0], where[-1] + 1]) if len(where) else (0, 0)
        held[low:high] = vectors[np.searchsorted(where, positions[low:high])]
    return lambda wanted: held[np.searchsorted(positions, wanted)]
