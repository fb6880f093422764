"""One pass of a linear teacher over a large reference, in bounded memory and at nearly the speed of its matrix product.

With a thousand classes the logits of an image are sixty times its embedding; whatever touches them all costs as much as
the product. So two passes are made over a block of logits while it is in the cache (largest, second largest), and every
other score is computed only for images that can still enter the shortlist.
"""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from plada.errors import DataError
from plada.labeler.scores import SCORES, PseudoLabels
from plada.labeler.teachers import Head

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
KEEP_ALL = 1 << 18  # images up to which nothing need be left out
_ROWS = 4096  # of a block that is multiplied at a time
_SLACK = 3  # times the shortlist that is gathered before it is cut down again


def scan_linear(
    blocks: Iterable[tuple[I64, npt.NDArray[np.floating]]], head: Head, *, depth: int, workers: int | None = None
) -> PseudoLabels:
    """Pseudo-labels of the `depth` images of each class with the largest margins; `blocks` gives (positions [m], embeddings
    [m, d]). `whole` of the result counts all labels. Ties go to the lower position.

    Memory: classes x depth x (1 + _SLACK) rows of 40 bytes, and one block of logits.

    Raises:
        DataError: no image; logits that are not finite.
    """
    classes = head.weight.shape[1]
    # The mean and the bias ride along as one more row of weights: no pass over the logits adds them.
    weights = np.vstack([head.weight, head.bias - head.mean @ head.weight]).astype(np.float32)
    inputs = np.ones((_ROWS, len(weights)), np.float32)
    logits = np.empty((_ROWS, classes), np.float32)
    kept = _Kept(classes, depth)
    threads = workers or os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        for positions, vectors in blocks:
            for start in range(0, len(positions), _ROWS):
                some = positions[start : start + _ROWS]
                count = len(some)
                inputs[:count, :-1] = vectors[start : start + _ROWS]
                out = np.matmul(inputs[:count], weights, out=logits[:count])
                edges = np.linspace(0, count, threads + 1).astype(int)
                parts = pool.map(lambda low, high: _two_largest(out[low:high]), edges[:-1], edges[1:])  # noqa: B023
                label, best, second = (np.concatenate(part) for part in zip(*parts, strict=True))
                kept.add(some, out, label, best, second)
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

    def __init__(self, classes: int, depth: int) -> None:
        self.classes, self.depth = classes, depth
        self.counts = np.zeros(classes, np.int64)
        self.floor = np.full(classes, -np.inf, np.float32)
        self.parts: list[tuple[I64, I64, F32]] = []
        self.rows = 0

    def add(self, positions: I64, logits: F32, label: I64, best: F32, second: F32) -> None:
        """Take in a block; `logits` are without their largest, which are `best`."""
        margin = best - second
        if not np.isfinite(margin).all():
            bad = int(positions[np.flatnonzero(~np.isfinite(margin))[0]])
            raise DataError(f"teacher: the logits of image {bad} are not finite. Train it again, or check the index")
        self.counts += np.bincount(label, minlength=self.classes)
        # A class's floor is the margin of its depth-th image so far: equal ones come later, so they lose the tie.
        stay = np.flatnonzero(margin > self.floor[label])
        if not len(stay):
            return
        some = logits[stay]
        if self.classes > 1:
            some[np.arange(len(stay)), label[stay]] = best[stay]
        scores = np.stack([score(some) for score in SCORES.values()], axis=1)
        self.parts.append((positions[stay], label[stay], scores))
        self.rows += len(stay)
        if self.rows > _SLACK * self.classes * self.depth + _ROWS:
            self._cut()

    def _cut(self) -> None:
        positions, labels, scores = (np.concatenate(part) for part in zip(*self.parts, strict=True))
        margin = scores[:, list(SCORES).index("margin")]
        order = np.lexsort((positions, -margin, labels))
        sorted_labels = labels[order]
        rank = np.arange(len(order)) - np.searchsorted(sorted_labels, sorted_labels)
        last = order[rank == self.depth - 1]
        self.floor[labels[last]] = margin[last]
        keep = order[rank < self.depth]
        self.parts = [(positions[keep], labels[keep], scores[keep])]
        self.rows = len(keep)

    def finish(self) -> PseudoLabels:
        if not self.parts:
            raise DataError("teacher: the reference has no readable image")
        self._cut()
        positions, labels, scores = self.parts[0]
        order = np.argsort(positions)
        named = {name: np.ascontiguousarray(scores[order, at]) for at, name in enumerate(SCORES)}
        return PseudoLabels(positions[order], labels[order], named, self.classes, self.counts)
