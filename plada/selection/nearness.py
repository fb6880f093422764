"""How near the reference comes to a target: whether it has images like the target's at all.

A far-off target (X-rays, where the reference has photographs) can be labelled and sent all the same, but students lose much of the
teacher's accuracy, those with another encoder most of it. Distances say so before anything is sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from plada.common.arrays import F32, I64
from plada.selection.rules.rule import Context

FAR = 1.3  # times the reference's own distances; docs/selecting.md has the eleven targets that it was set by
_REFERENCE = 20_000  # images of the reference that distances are measured to
_PROBES = 1000  # images, of the reference and of the target, whose distances are measured
_BLOCK = 256


@dataclass(frozen=True, slots=True)
class Nearness:
    """Distance of a target image to its nearest reference image, as a multiple of a reference image's distance to its nearest
    neighbour: the median over the target's images, and of each class by name. 1 is as near as the reference's images are to each
    other; a target is `far` from FAR on."""

    ratio: float
    classes: Mapping[str, float]

    @property
    def far(self) -> bool:
        """The reference hardly has images like the target's."""
        return self.ratio >= FAR

    def farthest(self) -> tuple[str, float]:
        """The class that is farthest off, and its ratio."""
        return max(self.classes.items(), key=lambda item: item[1])


def measure_nearness(context: Context, classes: tuple[str, ...]) -> Nearness | None:
    """The nearness of a context's target images, on its main axes; None for a target without images or a reference of one image.
    Both distances are to the same even sample of the reference."""
    assert context.space is not None
    points, target = context.space.points, context.target_points()
    sample = points[:: max(1, len(points) // _REFERENCE)].astype(np.float32)
    if len(sample) < 2 or not len(target):
        return None
    probes = np.arange(len(sample))[:: max(1, len(sample) // _PROBES)]
    rows = np.arange(len(target))[:: max(1, len(target) // _PROBES)]
    own = float(np.median(_nearest(sample[probes], sample, leave=probes)))
    away = _nearest(target[rows], sample) / max(own, 1e-12)
    labels = context.target_labels[rows]
    medians = {
        name: float(np.median(away[labels == label])) for label, name in enumerate(classes) if (labels == label).any()
    }
    return Nearness(float(np.median(away)), medians)


def _nearest(queries: F32, points: F32, leave: I64 | None = None) -> F32:
    """Distance of each query [m, d] to the nearest of `points` [n, d], float32 [m]; but for the point in row leave[i]."""
    lengths = np.einsum("nd,nd->n", points, points)
    found = np.empty(len(queries), np.float32)
    for start in range(0, len(queries), _BLOCK):
        block = queries[start : start + _BLOCK]
        away = lengths - 2 * (block @ points.T)
        if leave is not None:
            away[np.arange(len(block)), leave[start : start + _BLOCK]] = np.inf
        found[start : start + _BLOCK] = away.min(axis=1) + np.einsum("nd,nd->n", block, block)
    return np.sqrt(np.maximum(found, 0.0))
