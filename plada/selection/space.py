"""The embeddings of all that can be chosen on their main axes, in memory, for the many rules and students that a selection
tries."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from plada.common.arrays import F32, I64
from plada.common.products import steady_product
from plada.retrieval.embeddings import is_among

# Axes of the reference, and as many of the target: on the reference's alone, what tells far-off targets apart (X-rays) is
# lost, and rules were judged wrong by up to 34 points (docs/log.md).
AXES = 128
SAMPLE = 5000  # images that the reference's axes are taken from
TARGET_SAMPLE = 10_000  # images that the target's are: some of more than twice as many
HALF = 1 << 19  # images whose points are held in float32; of more, in float16
_BLOCK = 16_384
_PARALLEL = 1e-6  # length of what is left of an axis that the others contain already


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """`points` float32 (of many images float16) [n, axes]: the embeddings of `positions` int64 [n] (rising), less `mean`, on `axes` [d, axes]. Those
    of other positions are made when they are asked for, from what `vectors` gives."""

    positions: I64
    points: npt.NDArray[np.floating]
    mean: F32
    axes: F32
    vectors: Callable[[I64], F32]
    reference_axes: F32  # the first of `axes`, which know nothing of a target

    def at(self, positions: I64) -> F32:
        """Points of any positions, [m, axes], in the order asked for."""
        inside = is_among(positions, self.positions)
        found = np.empty((len(positions), self.axes.shape[1]), np.float32)
        found[inside] = self.points[np.searchsorted(self.positions, positions[inside])]
        outside = np.flatnonzero(~inside)
        for start in range(0, len(outside), _BLOCK):
            rows = outside[start : start + _BLOCK]
            found[rows] = self.of(self.vectors(positions[rows]))
        return found

    def of(self, vectors: F32) -> F32:
        """Any embeddings [n, d] on the same axes."""
        return steady_product(vectors, self.axes, less=self.mean)


def main_axes(vectors: F32, count: int) -> F32:
    """The directions [d, m] of largest variance of vectors [n, d], at most `count` of them, largest first. The sign of
    each is the one that makes its largest number positive, so that no library's habit shows."""
    _, axes = np.linalg.eigh(np.cov(vectors.astype(np.float64), rowvar=False))
    axes = axes[:, ::-1][:, :count]
    peaks = np.abs(axes).argmax(axis=0)
    return np.ascontiguousarray(axes * np.sign(axes[peaks, np.arange(axes.shape[1])]), np.float32)


def reference_axes(vectors: Callable[[I64], F32], positions: I64, *, axes: int = AXES) -> F32:
    """Up to `axes` main axes [d, m] of the images at `positions`, by an even sample of them."""
    return main_axes(vectors(positions[:: max(1, len(positions) // SAMPLE)]), axes)


def make_space(
    vectors: Callable[[I64], F32], positions: I64, mean: F32, target: F32, directions: F32, *, axes: int = AXES
) -> Space:
    """The space of the images at `positions`, whose embeddings [m, d] `vectors` gives, and of `target` [t, d]; read in
    blocks. Its axes are the reference's `directions` [d, m], and up to `axes` main ones of the target, made orthogonal."""
    both = _joint_axes(directions, target, mean, axes)
    return Space(positions, _project(vectors, positions, mean, both), mean, both, vectors, directions)


def space_of_others(space: Space, target: F32, *, axes: int = AXES) -> Space:
    """The same space for other target images [t, d], which `space` may have seen: points on the reference's axes are taken over."""
    kept = space.reference_axes
    both = _joint_axes(kept, target, space.mean, axes)
    more = np.ascontiguousarray(both[:, kept.shape[1] :])
    added = _project(space.vectors, space.positions, space.mean, more)
    points = np.hstack([space.points[:, : kept.shape[1]], added])
    return replace(space, points=points, axes=both)


def _joint_axes(directions: F32, target: F32, mean: F32, axes: int) -> F32:
    """`directions` [d, m], then up to `axes` main ones of the target, all orthogonal."""
    if len(target) < 2:
        return directions
    some = target[:: max(1, len(target) // TARGET_SAMPLE)]
    _, _, more = np.linalg.svd(some.astype(np.float64) - mean, full_matrices=False)
    both = np.hstack([directions.astype(np.float64), more[:axes].T])
    joint, triangle = np.linalg.qr(both)
    kept = np.abs(np.diag(triangle)) > _PARALLEL
    return np.ascontiguousarray(joint[:, kept] * np.sign(np.diag(triangle))[kept], np.float32)


def _project(vectors: Callable[[I64], F32], positions: I64, mean: F32, axes: F32) -> npt.NDArray[np.floating]:
    """Points [n, m] of the images at `positions` on `axes` [d, m]."""
    kind = np.float32 if len(positions) <= HALF else np.float16
    points: npt.NDArray[np.floating] = np.empty((len(positions), axes.shape[1]), kind)
    for start in range(0, len(positions), _BLOCK):
        rows = slice(start, start + _BLOCK)
        points[rows] = steady_product(vectors(positions[rows]), axes, less=mean)
    return points
