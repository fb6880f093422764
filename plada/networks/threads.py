"""Threads of torch: as many as the machine has free, unless somebody has said how many.

Threads of torch that wait for one another do so by spinning. Beside another job, two of them on two busy processors are slower
than one alone (docs/log.md).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from plada.common.machine import free_cores
from plada.errors import RequestError

MAX_THREADS = 1024


def check_threads(wanted: int | None) -> None:
    """Raises RequestError: a number of threads that cannot be."""
    if wanted is not None and not 1 <= wanted <= MAX_THREADS:
        raise RequestError(f"--threads {wanted}: expected 1 to {MAX_THREADS}")


@contextmanager
def torch_threads(wanted: int | None = None) -> Iterator[int]:
    """Within it torch computes on `wanted` threads; None stands for OMP_NUM_THREADS, else for what is free. Yields how many
    these are. More than torch has now are taken only where they are asked for."""
    import torch

    before = torch.get_num_threads()
    count = wanted or (before if before == 1 or os.environ.get("OMP_NUM_THREADS") else min(before, free_cores()))
    torch.set_num_threads(count)
    try:
        yield count
    finally:
        torch.set_num_threads(before)
