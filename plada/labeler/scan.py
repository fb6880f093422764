"""One pass of a linear teacher over a large reference, in bounded memory and at nearly the speed of its matrix product.

With a thousand classes the logits of an image are sixty times its embedding; whatever touches them all costs as much as
the product. So two passes are made over a block of logits while it is in the cache (largest, second largest), and every
other score is computed again, from the embedding, for the images that stay in the shortlist when it is cut.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from plada.errors import DataError
from plada.labeler.scores import SCORES, PseudoLabels
from plada.labeler.teachers import Head

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
KEEP_ALL = 1 << 18  # images up to which nothing need be left out
_ROWS = 512  # that are multiplied at a time: their logits stay in the cache while the two largest are found
_SLACK = 3  # times the shortlist that is gathered before it is cut down again


def scan_linear(blocks: Iterable[tuple[I64, npt.NDArray[np.floating]]], head: Head, *, depth: int) -> PseudoLabels:
    """Pseudo-labels of the `depth` images of each class with the largest margins; `blocks` gives (positions [m], embeddings
    [m, d]). `whole` of the result counts all labels. Ties go to the lower position.

    Memory: classes x depth x (1 + _SLACK) rows of some 40 bytes and an embedding, and one block of logits.

    Raises:
        DataError: no image; logits that are not finite.
    """
    classes = head.weight.shape[1]
    # The mean and the bias ride along as one more row of weights: no pass over the logits adds them.
    weights = np.vstack([head.weight, head.bias - head.mean @ head.weight]).astype(np.float32)
    inputs = np.ones((_ROWS, len(weights)), np.float32)
    logits = np.empty((_ROWS, classes), np.float32)
    kept = _Kept(head, classes, depth)
    for positions, vectors in blocks:
        for start in range(0, len(positions), _ROWS):
            some = positions[start : start + _ROWS]
            inputs[: len(some), :-1] = vectors[start : start + _ROWS]
            out = np.matmul(inputs[: len(some)], weights, out=logits[: len(some)])
            label, best, second = _two_largest(out)
            kept.add(some, vectors[start : start + _ROWS], label, best - second)
    return kept.finish()


def _two_largest(logits: F32) -> tuple[I64, F32, F32]:
    """(label, largest, second largest) of logits [n, c]; the largest are put to -inf in place."""
    rows = np.arange(len(logits))
    label = logits.argmax(axis=1)
    best = logits[rows, label]
    if logits.shape[1] == 1:
        return label, best, np.zeros_like(best)
    logits[rows, label] = -np.inf
    return label, best, logits.max(axis=1)


class _Kept:
    """The shortlist while it grows: rows beyond the worst that can stay in their class are not even written down."""

    def __init__(self, head: Head, classes: int, depth: int) -> None:
        self.head, self.classes, self.depth = head, classes, depth
        self.counts = np.zeros(classes, np.int64)
        self.floor = np.full(classes, -np.inf, np.float32)
        self.fresh: list[tuple[I64, I64, F32, npt.NDArray[np.floating]]] = []  # not scored yet: with their embeddings
        self.settled = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, len(SCORES)), np.float32))
        self.rows = 0

    def add(self, positions: I64, vectors: npt.NDArray[np.floating], label: I64, margin: F32) -> None:
        """Take in a block."""
        if not np.isfinite(margin).all():
            bad = int(positions[np.flatnonzero(~np.isfinite(margin))[0]])
            raise DataError(f"teacher: the logits of image {bad} are not finite. Train it again, or check the index")
        self.counts += np.bincount(label, minlength=self.classes)
        # A class's floor is the margin of its depth-th image so far: equal ones come later, so they lose the tie.
        stay = np.flatnonzero(margin > self.floor[label])
        if len(stay):
            self.fresh.append((positions[stay], label[stay], margin[stay], vectors[stay]))
            self.rows += len(stay)
            if self.rows > _SLACK * self.classes * self.depth + _ROWS:
                self._cut()

    def _cut(self) -> None:
        """Keep the best of each class, and score those that were not yet."""
        old, old_labels, old_scores = self.settled
        positions, labels, margin, vectors = (np.concatenate(part) for part in zip(*self.fresh, strict=True))
        all_labels = np.concatenate([old_labels, labels])
        all_margins = np.concatenate([old_scores[:, list(SCORES).index("margin")], margin])
        order = np.lexsort((np.concatenate([old, positions]), -all_margins, all_labels))
        sorted_labels = all_labels[order]
        rank = np.arange(len(order)) - np.searchsorted(sorted_labels, sorted_labels)
        last = order[rank == self.depth - 1]
        self.floor[all_labels[last]] = all_margins[last]
        keep = order[rank < self.depth]
        was, new = keep[keep < len(old)], keep[keep >= len(old)] - len(old)
        made = [
            self._scored(vectors[new[at : at + _ROWS]], margin[new[at : at + _ROWS]])
            for at in range(0, len(new), _ROWS)
        ]
        self.settled = (
            np.concatenate([old[was], positions[new]]),
            np.concatenate([old_labels[was], labels[new]]),
            np.concatenate([old_scores[was], *made]),
        )
        self.fresh, self.rows = [], 0

    def _scored(self, vectors: npt.NDArray[np.floating], margin: F32) -> F32:
        """All scores [n, scores]; the margin stays the one that floors are made of, to the last bit."""
        logits = self.head.logits(vectors)
        return np.stack([margin if name == "margin" else score(logits) for name, score in SCORES.items()], axis=1)

    def finish(self) -> PseudoLabels:
        if self.fresh:
            self._cut()
        positions, labels, scores = self.settled
        if not len(positions):
            raise DataError("teacher: the reference has no readable image")
        order = np.argsort(positions)
        named = {name: np.ascontiguousarray(scores[order, at]) for at, name in enumerate(SCORES)}
        return PseudoLabels(positions[order], labels[order], named, self.classes, self.counts)
