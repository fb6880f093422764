"""Embeddings of some images of an index, held in memory where they fit, else in a file that is mapped."""

import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from plada.common.arrays import F16, I64, Bools

Vectors = Callable[[I64], npt.NDArray[np.floating]]  # positions int64 [m] -> embeddings [m, d]
MAX_BYTES = 1 << 30  # of embeddings that are kept in memory; more lie in a mapped file


def hold(
    positions: I64,
    dimension: int,
    blocks: Callable[[], Iterable[tuple[I64, F16]]],
    read: Callable[[I64], F16],
    *,
    limit: int = MAX_BYTES,
    scratch: Path | None = None,
) -> Callable[[I64], F16]:
    """A function that gives embeddings [m, d] of some of `positions` int64 [n] (rising), taken from one pass over `blocks`: from
    memory where they fit into `limit` bytes, else from a file without a name in the folder `scratch`, which is mapped and gone
    with the process. Where there is no such folder, or not twice the room on its disk, `read` gives them."""
    if len(positions) * dimension * 2 <= limit:
        held: F16 = np.empty((len(positions), dimension), np.float16)
    else:
        mapped = _scratch_array((len(positions), dimension), scratch) if scratch is not None else None
        if mapped is None:
            return read
        held = mapped
    for where, vectors in blocks():
        low, high = np.searchsorted(positions, [where[0], where[-1] + 1]) if len(where) else (0, 0)
        held[low:high] = vectors[np.searchsorted(where, positions[low:high])]
    return lambda wanted: held[np.searchsorted(positions, wanted)]


def _scratch_array(shape: tuple[int, int], folder: Path) -> F16 | None:
    """A float16 array in a file without a name; None where the disk has no room for it."""
    size = shape[0] * shape[1] * 2
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < 2 * size:
            return None
        with tempfile.TemporaryFile(dir=folder) as file:
            file.truncate(size)
            return np.memmap(file, np.float16, "r+", shape=shape)
    except OSError:
        return None


def in_order(blocks: Iterable[tuple[I64, F16]]) -> Callable[[I64], F16]:
    """A function that gives embeddings [m, d] of positions int64 [m] from one pass over `blocks`. It is asked for rising positions,
    each time for later ones than before, or for the same again; memory holds what was asked for last, and one block."""
    source = iter(blocks)
    left: tuple[I64, F16] | None = None  # what the last block had beyond what was asked for
    last: tuple[I64, F16] | None = None

    def vectors(wanted: I64) -> F16:
        nonlocal left, last
        if last is not None and np.array_equal(wanted, last[0]):
            return last[1]
        parts: list[F16] = []
        missing = wanted
        while len(missing):
            where, block = left if left is not None else next(source)
            first = int(np.searchsorted(missing, where[-1], side="right")) if len(where) else 0
            rows = np.searchsorted(where, missing[:first])
            parts.append(block[rows])
            missing = missing[first:]
            beyond = int(rows[-1]) + 1 if len(rows) else 0
            left = (where[beyond:], block[beyond:]) if not len(missing) and beyond < len(where) else None
        last = wanted, np.concatenate(parts)
        return last[1]

    return vectors


def held_or_read(positions: I64, held: Callable[[I64], F16], read: Callable[[I64], F16]) -> Callable[[I64], F16]:
    """A function that gives embeddings [m, d] of any positions: those of `positions` int64 [n] (rising) by `held`, others by
    `read`."""

    def vectors(wanted: I64) -> F16:
        inside = is_among(wanted, positions)
        if inside.all():
            return held(wanted)
        if not inside.any():
            return read(wanted)
        first, second = held(wanted[inside]), read(wanted[~inside])
        found = np.empty((len(wanted), first.shape[1]), np.float16)
        found[inside], found[~inside] = first, second
        return found

    return vectors


def is_among(wanted: I64, positions: I64) -> Bools:
    """Whether each of `wanted` int64 [m] is one of `positions` int64 [n] (rising), bool [m]."""
    if not len(positions):
        return np.zeros(len(wanted), np.bool_)
    return np.asarray(positions[np.minimum(np.searchsorted(positions, wanted), len(positions) - 1)] == wanted)
