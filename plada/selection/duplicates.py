"""Near-duplicates within a class: of images that are nearly the same, the best one is enough."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from plada.common.arrays import F32
from plada.common.progress import Report, Tracker, silent
from plada.errors import RequestError
from plada.labeler.pseudo_labels import PseudoLabels
from plada.retrieval.embeddings import Vectors
from plada.selection.rules.rule import class_pools

MAX_COMPARED = 4096  # images of a class that are compared, the best ones: what lies further down is hardly ever chosen
_BLOCK = 512
_TINY = 1e-12


def without_near_duplicates(
    labels: PseudoLabels, vectors: Vectors, threshold: float, report: Report = silent
) -> PseudoLabels:
    """The pseudo-labels without images that are nearer to a better one of their class than a cosine of `threshold`; how many
    images of the reference each class has stays as it was.

    Raises:
        RequestError: a threshold that is not above 0 and up to 1.
    """
    return replace(labels.where(~near_duplicates(labels, vectors, threshold, report)), whole=labels.population())


def near_duplicates(
    labels: PseudoLabels, vectors: Vectors, threshold: float, report: Report = silent
) -> npt.NDArray[np.bool_]:
    """Whether each row has a better one of its class beside it, bool [n]. By falling margin, an image is a copy if its cosine
    to an image before it that is no copy is above `threshold`. `vectors` gives embeddings [m, d] of positions.

    The MAX_COMPARED largest margins of each class are compared; the rest counts as different.

    Raises:
        RequestError: a threshold that is not above 0 and up to 1.
    """
    if not 0 < threshold <= 1:
        raise RequestError(f"near-duplicates from a cosine of {threshold} on: expected a number above 0 and up to 1")
    copies = np.zeros(len(labels), np.bool_)
    tracker = Tracker("near duplicates", labels.classes, report)
    tracker.advance(0)
    for pool in class_pools(labels):
        tracker.advance()
        rows = pool[:MAX_COMPARED]
        if len(rows) > 1:
            copies[rows] = _copies(vectors(labels.positions[rows]).astype(np.float32), threshold)
    return copies


def _copies(vectors: F32, threshold: float) -> npt.NDArray[np.bool_]:
    """The same for vectors [m, d] that are in order already."""
    units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _TINY)
    copies = np.zeros(len(units), np.bool_)
    for start in range(0, len(units), _BLOCK):
        block = units[start : start + _BLOCK]
        before = units[:start][~copies[:start]]
        near = (block @ before.T > threshold).any(axis=1) if len(before) else np.zeros(len(block), np.bool_)
        among = block @ block.T > threshold
        for row in range(len(block)):
            if not near[row]:
                near[row + 1 :] |= among[row, row + 1 :]
        copies[start : start + _BLOCK] = near
    return copies
