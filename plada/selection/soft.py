"""The paper's label variants: what a class's chosen images are like, by the odds that the teacher gives them."""

import numpy as np
import numpy.typing as npt

from plada.payload.soft import PARTS, SoftLabels

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

HARD, SOFT, DIRICHLET = "hard", "soft", "dirichlet"
LABELS = (HARD, SOFT, DIRICHLET)
LEAST_PRECISION = 0.1  # the paper's
MOST_PRECISION = 1e4  # where all odds are alike, or there is one image, the paper's would be infinite


def soft_labels(odds: F32, labels: I64, classes: int, kind: str) -> SoftLabels:
    """Soft labels of images with teacher's odds [k, classes] and labels [k]: the mean odds of each class (eq. 12), with kind
    DIRICHLET the precision mu (1 - mu) / sigma^2 - 1 of its own class, too (eq. 13). A class without images means itself
    alone."""
    means, precision = np.eye(classes), np.full(classes, MOST_PRECISION)
    for label in np.unique(labels):
        mine = odds[labels == label].astype(np.float64)
        means[label] = mine.mean(axis=0)
        own = mine[:, label]
        if own.var() > 0:
            precision[label] = own.mean() * (1 - own.mean()) / own.var() - 1
    shares = np.stack([whole_parts(row) for row in means])
    if kind != DIRICHLET:
        return SoftLabels(shares)
    return SoftLabels(shares, np.clip(precision, LEAST_PRECISION, MOST_PRECISION))


def whole_parts(shares: F64) -> I64:
    """Shares [c] as whole numbers that add up to PARTS, by largest remainder, ties to the lower class."""
    ideal = shares / shares.sum() * PARTS
    parts: I64 = np.floor(ideal + 1e-9).astype(np.int64)
    first = np.argsort(-(ideal - parts), kind="stable")
    parts[first[: PARTS - int(parts.sum())]] += 1
    return parts
