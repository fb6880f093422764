"""The embeddings of all that can be chosen, in small: on their main axes and in memory, for the many rules and students
that a selection tries."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
AXES = 128  # as good as all 1 280 dimensions for choosing and judging, ten times as fast (docs/log.md)
SAMPLE = 5000  # images that the axes are taken from
_BLOCK = 16_384


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """`points` float32 [n, axes]: the embeddings of `positions` int64 [n] (rising), less `mean`, on `axes` [d, axes]."""

    positions: I64
    points: F32
    mean: F32
    axes: F32

    def at(self, positions: I64) -> F32:
        """Points of some of the positions, [m, axes], in the order asked for."""
        return self.points[np.searchsorted(self.positions, positions)]

    def of(self, vectors: F32) -> F32:
        """Any embeddings [n, d] on the same axes."""
        return np.asarray((vectors - self.mean) @ self.axes, np.float32)


def main_axes(vectors: F32, count: int) -> F32:
    """The directions [d, m] of largest variance of vectors [n, d], at most `count` of them, largest first. The sign of
    each is the one that makes its largest number positive, so that no library's habit shows."""
    _, axes = np.linalg.eigh(np.cov(vectors.astype(np.float64), rowvar=False))
    axes = axes[:, ::-1][:, :count]
    peaks = np.abs(axes).argmax(axis=0)
    return np.ascontiguousarray(axes * np.sign(axes[peaks, np.arange(axes.shape[1])]), np.float32)


def make_space(vectors: Callable[[I64], F32], positions: I64, mean: F32, *, axes: int = AXES) -> Space:
    """The space of the images at `positions`, whose embeddings [m, d] `vectors` gives; read in blocks."""
    sample = positions[:: max(1, len(positions) // SAMPLE)]
    directions = main_axes(vectors(sample), axes)
    points = np.empty((len(positions), directions.shape[1]), np.float32)
    for start in range(0, len(positions), _BLOCK):
        rows = slice(start, start + _BLOCK)
        points[rows] = (vectors(positions[rows]) - mean) @ directions
    return Space(positions, points, mean, directions)
