"""Products of matrices that come out the same, to the last bit, whatever else is computed and on however many threads.

BLAS takes other routes for other shapes and other numbers of threads, and each rounds in its own way. Where a choice hangs
on a number, two routes choose two images.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt

BLAS = "blas"
_limited: ContextVar[frozenset[str | None]] = ContextVar("libraries on one thread", default=frozenset())
ROWS = 512  # that are multiplied at a time, filled up with zeros: every product has the same shape


@contextmanager
def one_thread(libraries: str | None = None) -> Iterator[None]:
    """Within it (or within a function that it decorates) libraries compute on one thread, in one order: all of them, or with
    BLAS products alone. Within another that limits the same, it costs nothing."""
    outer = _limited.get()
    if libraries in outer or find_spec("threadpoolctl") is None:  # which comes with all that makes embeddings
        yield
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api=libraries):  # looks through all libraries, which takes 10 ms
        token = _limited.set(outer | {libraries})
        try:
            yield
        finally:
            _limited.reset(token)


def steady_product(
    rows: npt.NDArray[np.floating], weights: npt.NDArray[np.float32], *, less: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[np.float32]:
    """rows [n, d], less `less` [d], times weights [d, c], float32 [n, c]: each row of the result depends on its own row alone, not
    on `n`."""
    result = np.empty((len(rows), weights.shape[1]), np.float32)
    block = np.zeros((ROWS, rows.shape[1]), np.float32)
    for start in range(0, len(rows), ROWS):
        some = rows[start : start + ROWS]
        block[: len(some)] = some if less is None else some - less
        result[start : start + ROWS] = (block @ weights)[: len(some)]
    return result
