"""Figures that more than one room needs: softmax, accuracy, Wilson's interval, calibration error, ranks within classes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from plada.common.arrays import F32, F64, I64, Bools

Float = TypeVar("Float", bound=np.floating)
Z95 = 1.959963984540054  # 95 % of a normal distribution lie within this many standard deviations
BINS = 15  # of the reliability table, as in Guo et al. (arXiv 1706.04599)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Images whose confidence lies in (low, high]: their mean confidence, and the share that was named right."""

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float


def softmax(logits: npt.NDArray[Float], temperature: float = 1.0) -> npt.NDArray[Float]:
    """softmax(logits / T) of logits [n, c], computed in their own precision."""
    scaled = logits / logits.dtype.type(temperature)
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), logits.dtype)


def accuracy(logits: F32, labels: I64) -> float:
    """Share of right argmaxes; 0 for no image."""
    return float((logits.argmax(axis=1) == labels).mean()) if len(labels) else 0.0


def wilson(right: int, images: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's interval of the share `right` / `images`, 95 % by default; (0, 1) for no image.

    It stays inside 0..1 and holds for the few dozen images of a validation split, where the textbook interval does not.
    """
    if not images:
        return 0.0, 1.0
    share, spread = right / images, z * z / images
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / images + spread / (4 * images))
    # The ends are exact where nothing, or everything, was right; rounding would miss them by a bit.
    return middle - half if right else 0.0, middle + half if right < images else 1.0


def reliability_table(confidence: F64, right: Bools) -> tuple[Bin, ...]:
    """Images by confidence float64 [n] in BINS bins of equal width, with how often they were named right, bool [n]."""
    places = np.minimum(np.ceil(confidence * BINS).astype(np.int64) - 1, BINS - 1)
    bins = []
    for place in range(BINS):
        inside = places == place
        count = int(inside.sum())
        bins.append(
            Bin(
                low=place / BINS,
                high=(place + 1) / BINS,
                images=count,
                confidence=float(confidence[inside].mean()) if count else 0.0,
                accuracy=float(right[inside].mean()) if count else 0.0,
            )
        )
    return tuple(bins)


def calibration_error(bins: tuple[Bin, ...]) -> float:
    """Expected calibration error: mean distance of confidence and accuracy, each bin weighted by its images."""
    return sum(each.images * abs(each.confidence - each.accuracy) for each in bins) / sum(each.images for each in bins)


def class_ranks(labels: I64) -> I64:
    """Place of each image among those of its class, int64 [k], for labels [k] given best first."""
    if not len(labels):
        return np.zeros(0, np.int64)
    counts = np.bincount(labels)
    # Sixteen bits are sorted by counting.
    order = np.argsort(labels.astype(np.uint16) if len(counts) <= 1 << 16 else labels, kind="stable")
    ranks = np.empty(len(labels), np.int64)
    ranks[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ranks


def sign_flip_p(differences: F64, *, unit: float, inflation: float = 1.0) -> float:
    """One-sided p of the mean of paired differences float64 [n], multiples of `unit`, being no larger than 0.

    The exact test of random signs: under no difference each keeps its size and is as likely to be negative. Where the pairs are
    not independent, `inflation` is by how much the variance of their mean is larger; it divides the number of pairs.
    """
    steps = np.rint(differences / unit).astype(np.int64)
    sizes, counts = np.unique(np.abs(steps[steps != 0]), return_counts=True)
    spread = np.ones(1)  # probabilities of the sums -reach, ..., reach
    for size, count in zip(sizes.tolist(), np.rint(counts / inflation).astype(np.int64).tolist(), strict=True):
        logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, count + 1)))])  # of factorials, which may be large
        ways = np.exp(logs[-1] - logs - logs[::-1] - count * math.log(2))
        signs = np.zeros(2 * size * count + 1)
        signs[:: 2 * size] = ways / ways.sum()
        spread = np.convolve(spread, signs)
    reach = len(spread) // 2
    observed = math.ceil(steps.sum() / inflation - 1e-9)
    return float(min(1.0, spread[max(0, observed + reach) :].sum()))


def holm(values: Sequence[float]) -> list[float]:
    """Adjusted p values (Holm 1979), in the order given: below a level, they hold together at that level."""
    adjusted, highest = [0.0] * len(values), 0.0
    for place, row in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        highest = max(highest, min(1.0, (len(values) - place) * values[row]))
        adjusted[row] = highest
    return adjusted


def chi_square_p(value: float, degrees: int) -> float:
    """Probability that a chi-square variable with 1 or more degrees of freedom exceeds `value`."""
    half = max(value, 0.0) / 2
    if half == 0:
        return 1.0
    odd = degrees % 2
    powers = np.arange(degrees // 2) + odd / 2
    logs = powers * math.log(half) - half - np.array([math.lgamma(power + 1) for power in powers.tolist()])
    return min(1.0, float(np.exp(logs).sum()) + (math.erfc(math.sqrt(half)) if odd else 0.0))


def kolmogorov_p(distance: float, images: float) -> float:
    """Probability that two samples of one distribution are so far apart: the largest distance of their distribution functions,
    and the harmonic size n m / (n + m) of the samples (Kolmogorov's limit, with Stephens' correction for small ones)."""
    root = math.sqrt(images)
    scaled = (root + 0.12 + 0.11 / root) * distance if images > 0 else 0.0
    if scaled < 0.2:  # the series converges too slowly, to 1
        return 1.0
    terms = [(-1) ** (k - 1) * math.exp(-2 * (k * scaled) ** 2) for k in range(1, 101)]
    return min(1.0, max(0.0, 2 * math.fsum(terms)))
