"""The order in which images of one class are taken by the target's own images of that class."""

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
DEPTH = 256  # neighbours that each target image looks at before the rest is taken by similarity alone


def nearest_order(candidates: F32, wanted: F32) -> tuple[npt.NDArray[np.int64], F32]:
    """(order int64 [n], similarity float32 [n]) of `candidates` [n, d], taken turn by turn by `wanted` [m, d].

    The similarity of a candidate is the largest one to any wanted image.

    In each turn every wanted image, in its given order, takes its nearest candidate (cosine) that is still free; the
    first k of the order are what k places would be filled with. Candidates that nobody reaches within DEPTH neighbours
    follow by their largest similarity. Ties go to the lower row. Both inputs have rows of length one.
    """
    n = len(candidates)
    if not len(wanted) or not n:
        return np.arange(n), np.zeros(n, np.float32)
    depth = min(DEPTH, n)
    best = np.full(n, -1, np.float32)
    near = np.empty((len(wanted), depth), np.int64)
    for row, vector in enumerate(wanted):
        close = candidates @ vector
        best = np.maximum(best, close)
        top = np.argpartition(-close, depth - 1)[:depth] if depth < n else np.arange(n)
        near[row] = top[np.lexsort((top, -close[top]))]
    free = np.ones(n, np.bool_)
    order: list[int] = []
    cursor = np.zeros(len(wanted), np.int64)
    reaching = list(range(len(wanted)))
    while reaching:
        for row in reaching.copy():
            while cursor[row] < depth and not free[near[row, cursor[row]]]:
                cursor[row] += 1
            if cursor[row] == depth:
                reaching.remove(row)
                continue
            taken = int(near[row, cursor[row]])
            free[taken] = False
            order.append(taken)
    rest = np.flatnonzero(free)
    tail = rest[np.argsort(-best[rest], kind="stable")]
    complete = np.concatenate([np.asarray(order, np.int64), tail])
    return complete, best[complete]
