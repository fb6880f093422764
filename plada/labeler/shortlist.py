"""Candidates: the images that an expensive teacher is shown, found by a linear one in a single pass over the index.

For each class the pass keeps the images with the largest lead, the class's logit less the largest other one, whatever their
label. The expensive teacher then labels these, and among images of one label the order is still the pass's. So a rule that
goes down that order chooses from the shortlist what it would choose from everything, until the shortlist of a class runs out.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plada.common.arrays import F32, I64
from plada.errors import DataError
from plada.labeler.pseudo_labels import PseudoLabels

MIN_DEPTH = 50  # images of each class that it is shown at least


@dataclass(frozen=True, slots=True)
class Shortlist:
    """positions int64 [n] (rising) with the pass's logits float32 [n, c]; `counts` int64 [c] of its labels over the whole
    reference, `images` of which there were."""

    positions: I64
    logits: F32
    counts: I64
    images: int


def leads(logits: F32) -> F32:
    """For each image and class the class's logit less the largest other one, float32 [n, c]: positive for the label alone."""
    if logits.shape[1] == 1:
        return logits
    top = np.partition(logits, -2, axis=1)
    best, second = top[:, -1:], top[:, -2:-1]
    return np.where(logits == best, logits - second, logits - best).astype(np.float32)


def find_shortlist(
    blocks: Iterable[tuple[I64, npt.NDArray[np.floating]]],
    logits_of: Callable[[npt.NDArray[np.floating]], F32],
    *,
    classes: int,
    images: int,
    share: float,
    advance: Callable[[int], None] = lambda _: None,
) -> Shortlist:
    """The images with the largest leads, the same number of each class, `share` of `images` in all, from one pass. `blocks`
    gives (positions [m], embeddings [m, d]). Memory holds the shortlist and one block, whatever the number of images.

    Raises:
        DataError: no image has an embedding.
    """
    depth = images if share >= 1 else max(MIN_DEPTH, int(share * images / classes))  # a class may have all images
    positions, logits = np.zeros(0, np.int64), np.zeros((0, classes), np.float32)
    counts, seen = np.zeros(classes, np.int64), 0
    for where, vectors in blocks:
        if not len(where):
            continue
        block = logits_of(vectors)
        counts += np.bincount(block.argmax(axis=1), minlength=classes)
        seen += len(where)
        positions, logits = np.concatenate([positions, where]), np.concatenate([logits, block])
        keep = _deepest(leads(logits), depth)
        positions, logits = positions[keep], logits[keep]
        advance(len(where))
    if not seen:
        raise DataError("teacher: the reference has no readable image")
    order = np.argsort(positions)
    return Shortlist(positions[order], logits[order], counts, seen)


def _deepest(lead: F32, depth: int) -> I64:
    """Rows that are among the `depth` largest of any class, rising; ties to the lower row."""
    keep = np.zeros(len(lead), np.bool_)
    for label in range(lead.shape[1]):
        keep[np.argsort(-lead[:, label], kind="stable")[:depth]] = True
    return np.flatnonzero(keep)


def with_leads(shortlist: Shortlist, positions: I64, labels: PseudoLabels) -> PseudoLabels:
    """An expensive teacher's labels of the shortlist in the order of the pass. `labels` are of `positions`, the images that it
    could read. The score `margin` becomes the pass's lead of the class that the teacher gives; the other scores stay the
    teacher's. `whole` estimates the teacher's counts over the reference from the pass's."""
    rows = np.searchsorted(shortlist.positions, positions)
    lead = leads(shortlist.logits)[rows, labels.labels]
    whole = np.maximum(labels.counts(), np.where(labels.counts() > 0, shortlist.counts, 0))
    return PseudoLabels(labels.positions, labels.labels, {**labels.scores, "margin": lead}, labels.classes, whole)
