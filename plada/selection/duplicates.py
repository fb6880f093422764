"""Near-duplicates within a class: of images that are nearly the same, the best one is enough."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from plada.errors import RequestError
from plada.labeler.pseudo_labels import PseudoLabels
from plada.selection.rules.rule import F32, I64, Choose, Chosen, Context, Prepare, class_pools, in_order_of

ALIKE = 0.9  # cosine of embeddings from which on the rule that leaves copies for last takes two images for the same
MOST = 4096  # images of a class that are compared, the best ones: what lies further down is hardly ever chosen
_BLOCK = 512
_TINY = 1e-12


def near_duplicates(labels: PseudoLabels, vectors: Callable[[I64], F32], threshold: float) -> npt.NDArray[np.bool_]:
    """Whether each row has a better one of its class beside it, bool [n]: by falling margin, an image is a copy if its
    cosine to an image that is none, of those before it, is above `threshold`. `vectors` gives embeddings [m, d] of
    positions.

    Of each class the MOST largest margins are compared; the rest counts as different.

    Raises:
        RequestError: a threshold that is not above 0 and up to 1.
    """
    if not 0 < threshold <= 1:
        raise RequestError(f"near-duplicates from a cosine of {threshold} on: expected a number above 0 and up to 1")
    copies = np.zeros(len(labels), np.bool_)
    for pool in class_pools(labels):
        rows = pool[:MOST]
        if len(rows) > 1:
            copies[rows] = _copies(vectors(labels.positions[rows]), threshold)
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


def without_copies(labels: PseudoLabels, copies: npt.NDArray[np.bool_]) -> PseudoLabels:
    """The pseudo-labels of the other rows; how many images of the reference each class has is kept as it was."""
    kept = ~copies
    return replace(
        labels,
        positions=labels.positions[kept],
        labels=labels.labels[kept],
        scores={name: values[kept] for name, values in labels.scores.items()},
        whole=labels.population(),
    )


def copies_last(prepare: Prepare, threshold: float = ALIKE) -> Prepare:
    """A rule that chooses as `prepare` does, from all but near-duplicates; these come when nothing else is left, by margin."""

    def distinct(labels: PseudoLabels, context: Context) -> Choose:
        copies = near_duplicates(labels, context.vectors, threshold)
        rows, spare = np.flatnonzero(~copies), np.flatnonzero(copies)
        choose, last = prepare(without_copies(labels, copies), context), in_order_of(labels.scores["margin"], spare)

        def chosen(k: int) -> Chosen:
            found = choose(min(k, len(rows)))
            more = max(0, k - len(rows))
            return Chosen(
                np.concatenate([rows[found.rows], last.rows[:more]]),
                np.concatenate([found.scores, last.scores[:more]]),
            )

        return chosen

    return distinct
