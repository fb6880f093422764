"""Accuracies of rules over numbers of images, smoothed together.

A few hundred held-out images tell one selection from another to within two points. But a rule's accuracy changes smoothly with
the number of images, and rules resemble each other. So all cells (rule, number of images) are read together: a Gaussian process over
them (Rasmussen and Williams 2006, chapter 2), with the noise that the held-out images show. What a cell gained by luck it
loses again, so the best of many cells is no longer too good.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from plada.common.arrays import F64

Cell = tuple[str, int]  # rule, number of images

# Standard deviations, in accuracy, and the ratio of numbers of images (its logarithm) over which curves keep their course.
_COMMON, _COMMON_LENGTH = 0.10, 1.5  # of the curve that rules have in common
_RULE = (0.01, 0.02, 0.04, 0.08)  # of a rule as a whole; the likeliest is taken
_BEND, _BEND_LENGTH = (0.005, 0.01, 0.02, 0.04), 1.2  # of a rule's own curve; likewise
_DIAGONAL = (
    0.1  # share of the noise's covariance that is replaced by its diagonal: it is known from a few hundred images
)
_JITTER = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """What is known of the accuracy of each cell: its mean float64 [m], and their covariance [m, m]."""

    cells: tuple[Cell, ...]
    mean: F64
    covariance: F64

    def at(self, cell: Cell) -> tuple[float, float]:
        """(accuracy, standard deviation) of a cell."""
        place = self.cells.index(cell)
        return float(self.mean[place]), float(np.sqrt(self.covariance[place, place]))

    def lead(self, cell: Cell, base: Cell) -> tuple[float, float]:
        """(mean, standard deviation) of how much better a cell is than another one."""
        one, other = self.cells.index(cell), self.cells.index(base)
        spread = self.covariance[one, one] + self.covariance[other, other] - 2 * self.covariance[one, other]
        return float(self.mean[one] - self.mean[other]), float(np.sqrt(max(spread, 0.0)))


def smooth(cells: Sequence[Cell], scores: F64, *, inflation: float = 1.0) -> Curves:
    """Curves from `scores` float64 [m, n] of n held-out images in each of m cells, 0 (wrong) to 1 (right); `inflation` is by how
    much the variance of their mean is larger than that of independent images.

    How hard an image is for all cells alike says nothing of their differences. So these are smoothed by themselves, and the
    level is the mean of all cells: read together, the two made levels outside of all that was seen.
    """
    mean, hardness = scores.mean(axis=1), scores.mean(axis=0)
    images, level = scores.shape[1], float(mean.mean())
    noise = np.atleast_2d(np.cov(scores - hardness)) * inflation / images
    noise = (1 - _DIAGONAL) * noise + np.diag(_DIAGONAL * np.diag(noise) + _JITTER)
    rules = np.array([rule for rule, _ in cells])
    logs = np.log(np.array([count for _, count in cells], np.float64))
    apart = (logs[:, None] - logs[None]) ** 2 / 2
    same = rules[:, None] == rules[None]

    def prior_of(rule: float, bend: float) -> F64:
        common = _COMMON**2 * np.exp(-apart / _COMMON_LENGTH**2)
        return np.asarray(common + same * (rule**2 + bend**2 * np.exp(-apart / _BEND_LENGTH**2)))

    def likelihood(prior: F64) -> float:
        root = np.linalg.cholesky(prior + noise)
        white = np.linalg.solve(root, mean - level)
        return float(-0.5 * white @ white - np.log(np.diag(root)).sum())

    prior = max((prior_of(rule, bend) for rule in _RULE for bend in _BEND), key=likelihood)
    gain = np.linalg.solve(prior + noise, prior).T
    unsure = float(hardness.var()) * inflation / images  # of the level
    return Curves(tuple(cells), level + gain @ (mean - level), prior - gain @ prior + unsure)
