"""The paper's label variants: what a class's chosen images are like, by the probabilities that the teacher gives them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from plada.common.arrays import F32, F64, I64
from plada.errors import RequestError
from plada.payload.soft_labels import MAX_CLASSES, PARTS, SoftLabels

HARD, SOFT, DIRICHLET = "hard", "soft", "dirichlet"
LABELS = (HARD, SOFT, DIRICHLET)
MIN_PRECISION = 0.1  # the paper's
MAX_PRECISION = 1e4  # where all probabilities are alike, or there is one image, the paper's would be infinite


class SoftNotes:
    """Notes on what classes are like, for a choice of images. `probabilities` gives the teacher's, float32 [n, classes], at
    rising positions [n]; it is asked once about each image, however many choices are tried."""

    def __init__(self, kind: str, probabilities: Callable[[I64], F32]) -> None:
        self.kind, self._probabilities = kind, probabilities
        self._known: dict[int, F32] = {}  # by position

    def note(self, positions: I64, labels: I64) -> dict[str, Any]:
        """The member of a payload's notes for images at `positions` with `labels`; nothing for hard labels."""
        if self.kind == HARD:
            return {}
        fresh = np.array(sorted(set(positions.tolist()) - self._known.keys()), np.int64)
        if len(fresh):
            self._known.update(zip(fresh.tolist(), self._probabilities(fresh), strict=True))
        known = np.stack([self._known[position] for position in positions.tolist()])
        return soft_labels(known, labels, known.shape[1], self.kind).note()


def soft_labels(probabilities: F32, labels: I64, classes: int, kind: str) -> SoftLabels:
    """Soft labels of images with the teacher's probabilities [k, classes] and labels [k]: the mean probabilities of each class
    (eq. 12), with kind DIRICHLET also the precision mu (1 - mu) / sigma^2 - 1 of its own class (eq. 13). A class without
    images means itself alone."""
    if classes > MAX_CLASSES:
        raise RequestError(f"--labels {kind}: {classes} classes; readers take at most {MAX_CLASSES}. Send hard labels")
    means, precision = np.eye(classes), np.full(classes, MAX_PRECISION)
    for label in np.unique(labels):
        mine = probabilities[labels == label].astype(np.float64)
        means[label] = mine.mean(axis=0)
        own = mine[:, label]
        if own.var() > 0:
            precision[label] = own.mean() * (1 - own.mean()) / own.var() - 1
    shares = np.stack([whole_parts(row) for row in means])
    if kind != DIRICHLET:
        return SoftLabels(shares)
    return SoftLabels(shares, np.clip(precision, MIN_PRECISION, MAX_PRECISION))


def whole_parts(shares: F64) -> I64:
    """Shares [c] as whole numbers that add up to PARTS, by largest remainder, ties to the lower class."""
    ideal = shares / shares.sum() * PARTS
    parts: I64 = np.floor(ideal + 1e-9).astype(np.int64)
    first = np.argsort(-(ideal - parts), kind="stable")
    parts[first[: PARTS - int(parts.sum())]] += 1
    return parts
