"""Where the students stand that judge rules: on the server's embedding, and somewhere else.

Clients seldom have the server's encoder. Labels near the teacher's boundary teach a student on the server's embedding, and
mislead one elsewhere. So every rule is judged twice: by a student on the server's own embedding, and by one on a second view of
the same images. That is another index of the reference where there is one, else a noisy copy of the embedding: what a student
learns from labels alone survives the noise, what it owes to the teacher's own features does not (docs/benchmarks.md).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from plada.common.arrays import F32, I64
from plada.networks.linear_head import PENALTY, STUDENT_PENALTY, Head
from plada.retrieval.embeddings import Vectors
from plada.selection.space import HALF, Space, make_space, reference_axes
from plada.selection.student import fit_student

OWN, NOISY, OTHER = "own", "noisy", "other"
NOISE = 0.5  # deviations of each axis that are added
_COPIED = HALF  # images of which a noisy copy is held; beyond, noise is added when points are asked for
_SAMPLE = 1 << 16  # points that their deviation is taken from, at most
_BANK = 1 << 16  # rows of noise there: images far apart share one


@dataclass(frozen=True, slots=True)
class View:
    """`points` gives the points float32 [m, d] of positions [m] of the reference, centred; `held_out` float32 [h, d] are those of
    the images that a student is judged on; `penalty` is its own."""

    name: str
    points: Callable[[I64], F32]
    held_out: F32
    penalty: float

    def student(self, positions: I64, labels: I64, classes: int) -> Head:
        """A linear student of the images at `positions` [k] with `labels` [k]."""
        return fit_student(self.points(positions), labels, classes=classes, penalty=self.penalty)


@dataclass(frozen=True, slots=True, eq=False)
class SecondIndex:
    """Another index of the same reference: embeddings float32 [m, d] of positions, its mean [d], its main axes, and those of the
    target's images [t, d], in the order of the context's."""

    vectors: Callable[[I64], F32]
    mean: F32
    axes: F32
    target: F32


def second_index(vectors: Vectors, positions: I64, mean: F32, target: F32) -> SecondIndex:
    """What a second view needs of another index; `positions` are those that can be chosen."""

    def points(some: I64) -> F32:
        return vectors(some).astype(np.float32)

    return SecondIndex(points, mean, reference_axes(points, positions), target)


def own_view(space: Space, held_out: F32) -> View:
    """The server's own embedding; `held_out` [h, d] are embeddings."""
    return View(OWN, space.at, space.of(held_out), STUDENT_PENALTY)


def noisy_view(space: Space, held_out: F32, *, seed: int) -> View:
    """A noisy copy of it: each image of the reference, and each that is held out, has noise of its own."""
    deviation = space.points[:: max(1, -(-len(space.points) // _SAMPLE))].astype(np.float32).std(axis=0)

    def noise(images: int, stream: int) -> F32:
        drawn = np.random.default_rng([seed, stream]).standard_normal((images, len(deviation)), np.float32)
        drawn *= NOISE * deviation
        return drawn

    shown = space.of(held_out) + noise(len(held_out), 12)
    if len(space.points) <= _COPIED:
        return View(NOISY, replace(space, points=space.points + noise(len(space.points), 11)).at, shown, PENALTY)
    bank = noise(_BANK, 11)

    def points(positions: I64) -> F32:
        moved = space.at(positions)
        moved += bank[positions % _BANK]
        return moved

    return View(NOISY, points, shown, PENALTY)


def other_view(index: SecondIndex, positions: I64, seen: F32, held_out: F32) -> View:
    """Another index's embedding; its axes know the images `seen` [s, d] of the target, and not those held out."""
    space = make_space(index.vectors, positions, index.mean, seen, index.axes)
    return View(OTHER, space.at, space.of(held_out), PENALTY)
