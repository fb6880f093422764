"""Candidates: the images that an expensive teacher is shown, found by a linear one in a single pass over the index.

For each class the pass keeps the images with the largest lead, the class's logit less the largest other one, whatever their
label. The expensive teacher then labels these, and among images of one label the order is still the pass's. So a rule that
goes down that order chooses from the shortlist what it would choose from everything, until the shortlist of a class runs out.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from plada.common.arrays import F32, I64
from plada.common.machine import cores
from plada.common.products import BLAS, one_thread
from plada.errors import DataError
from plada.labeler.pseudo_labels import PseudoLabels
from plada.labeler.scan import two_largest

MIN_DEPTH = 50  # images of each class that it is shown at least
_ROWS = 512  # logits of so many images are compared at a time: they stay in the processor's cache
_PART = 4096  # images whose logits a thread makes at a time
_COLUMNS = 16  # classes whose leads are compared at a time: a line of the cache holds so many logits


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
    best, second = (each[:, None] for each in two_best(logits))
    return np.where(logits == best, logits - second, logits - best).astype(np.float32)


def two_best(logits: F32) -> tuple[F32, F32]:
    """(largest, second largest) logit of each image, float32 [n] each; of one class the second is zero."""
    _, best, second = _labels_and_two_best(logits)
    return best, second


def _labels_and_two_best(logits: F32) -> tuple[I64, F32, F32]:
    """The label of each image, int64 [n], and what `two_best` gives."""
    labels = np.empty(len(logits), np.int64)
    best, second = np.empty(len(logits), np.float32), np.empty(len(logits), np.float32)
    for start in range(0, len(logits), _ROWS):
        some = slice(start, start + _ROWS)
        # A copy, since it is changed; it stays in the cache while it is looked at twice.
        labels[some], best[some], second[some] = two_largest(logits[some].astype(np.float32))
    return labels, best, second


def label_leads(logits: F32, labels: I64, best: F32, second: F32) -> F32:
    """The lead of each image in its label alone, float32 [n]: what `leads` has at [i, labels[i]]. `best` and `second` as
    `two_best` gives them."""
    own = logits[np.arange(len(labels)), labels]
    return np.asarray(own - np.where(own == best, second, best), np.float32)


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
    gives (positions [m], embeddings [m, d]), positions rising. Memory holds twice the shortlist and one block, whatever the
    number of images.

    Raises:
        DataError: no image has an embedding; logits that are not finite.
    """
    kept = ShortlistCollector(classes, shortlist_depth(classes, images, share), images)
    kept.look_through(blocks, logits_of, threads=cores(), advance=advance)
    return kept.finish()


def shortlist_depth(classes: int, images: int, share: float) -> int:
    """How many images of each class `share` of `images` are."""
    return images if share >= 1 else max(MIN_DEPTH, int(share * images / classes))  # a class may have all images


class ShortlistCollector:
    """Collects the rows with the largest leads of any class; one that cannot stay is not even written down.

    Its buffer holds at most twice as many rows as all classes together can keep. When it is full the best are kept: each
    lead that did not suffice raises a floor, so this happens a few times in a pass, not once a block.
    """

    def __init__(self, classes: int, depth: int, images: int) -> None:
        self.depth = depth
        self.floor = np.full(classes, -np.inf, np.float32)
        self.counts = np.zeros(classes, np.int64)
        self.seen = self.rows = 0
        # Of each row: position, label, largest logit, second largest, all logits.
        self.parts: tuple[npt.NDArray[Any], ...] = ()
        self._reserve(max(1, min(images, 2 * classes * depth)))

    def _reserve(self, rows: int) -> None:
        """Make room for so many rows; what is never written takes no memory."""
        before = self.parts
        kinds = (np.int64, np.int64, np.float32, np.float32)
        self.parts = (*(np.empty(rows, kind) for kind in kinds), np.empty((rows, len(self.floor)), np.float32))
        for part, old in zip(self.parts, before, strict=False):
            part[: self.rows] = old[: self.rows]

    def add(self, positions: I64, logits: F32, labels: I64, best: F32, second: F32) -> None:
        """Take in a block, whose positions are larger than those before, with what `_labels_and_two_best` gives of its logits.

        Raises:
            DataError: logits that are not finite.
        """
        lead = best - second
        if not np.isfinite(lead).all():
            bad = int(positions[np.flatnonzero(~np.isfinite(lead))[0]])
            raise DataError(f"teacher: the logits of image {bad} are not finite. Train it again, or check the index")
        self.counts += np.bincount(labels, minlength=len(self.floor))
        self.seen += len(positions)
        # A class's floor is the lead of its depth-th image so far: equal ones come later, so they lose the tie.
        stay = lead > self.floor[labels]
        for start in range(0, len(logits), _ROWS):
            some = slice(start, start + _ROWS)
            stay[some] |= (logits[some] - best[some, None] > self.floor).any(axis=1)
        rows = np.flatnonzero(stay)
        blocks: tuple[npt.NDArray[Any], ...] = (positions, labels, best, second, logits)
        while len(rows):
            if self.rows == len(self.parts[0]):
                self._cut()
                if 2 * self.rows > len(self.parts[0]):  # nothing can be dropped: more images than were announced
                    self._reserve(2 * len(self.parts[0]))
            some_rows, rows = np.split(rows, [len(self.parts[0]) - self.rows])
            into = slice(self.rows, self.rows + len(some_rows))
            for array, block in zip(self.parts, blocks, strict=True):
                array[into] = block[some_rows]
            self.rows += len(some_rows)

    def _cut(self) -> None:
        """Keep the rows that are among the `depth` largest of any class; ties to the lower row. No class is sorted."""
        if self.rows <= self.depth:
            return
        _, labels, best, second, logits = (part[: self.rows] for part in self.parts)
        margin, classes = best - second, len(self.floor)
        keep = np.zeros(self.rows, np.bool_)
        for first in range(0, classes, _COLUMNS):
            columns = np.ascontiguousarray(logits[:, first : first + _COLUMNS].T)
            for label, lead in enumerate(columns, start=first):
                lead -= best
                own = labels == label
                lead[own] = margin[own]
                last = np.partition(lead, -self.depth)[-self.depth]
                inside = lead > last
                inside[np.flatnonzero(lead == last)[: self.depth - int(inside.sum())]] = True
                keep |= inside
                self.floor[label] = last
        kept = np.flatnonzero(keep)
        for start in range(0, len(kept), _ROWS):  # rising, so nothing is overwritten before it has moved
            some = kept[start : start + _ROWS]
            for array in self.parts:
                array[start : start + len(some)] = array[some]
        self.rows = len(kept)

    def look_through(
        self,
        blocks: Iterable[tuple[I64, npt.NDArray[np.floating]]],
        logits_of: Callable[[npt.NDArray[np.floating]], F32],
        *,
        threads: int,
        advance: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Take in blocks as find_shortlist has them, by so many threads.

        Raises:
            DataError: logits that are not finite.
        """

        def look(vectors: npt.NDArray[np.floating]) -> tuple[F32, I64, F32, F32]:
            logits = logits_of(vectors)
            return logits, *_labels_and_two_best(logits)

        # Each product is made whole by one thread, so the results are the same on any number of them.
        with one_thread(BLAS), ThreadPoolExecutor(threads) as pool:
            for where, vectors in blocks:
                parts = [vectors[start : start + _PART] for start in range(0, len(where), _PART)]
                for start, looked in zip(range(0, len(where), _PART), pool.map(look, parts), strict=True):
                    self.add(where[start : start + _PART], *looked)
                advance(len(where))

    def join(self, part: Shortlist) -> None:
        """Take in what a collector of the same depth has kept of images behind those so far: as if it had looked at them itself."""
        counts, seen = self.counts + part.counts, self.seen + part.images
        if len(part.positions):
            self.add(part.positions, part.logits, *_labels_and_two_best(part.logits))
        self.counts, self.seen = counts, seen

    def finish(self) -> Shortlist:
        """The shortlist.

        Raises:
            DataError: no image at all.
        """
        if not self.seen:
            raise DataError("teacher: the reference has no readable image")
        return self.kept()

    def kept(self) -> Shortlist:
        """What is kept, also where it is nothing."""
        self._cut()
        positions, logits = self.parts[0], self.parts[-1]
        self.parts = ()
        for part in (positions, logits):  # the rest of the buffer is given back; nothing else looks at it
            part.resize((self.rows, *part.shape[1:]), refcheck=False)
        if (np.diff(positions) > 0).all():  # as in every pass over an index: no copy
            return Shortlist(positions, logits, self.counts, self.seen)
        order = np.argsort(positions)
        return Shortlist(positions[order], logits[order], self.counts, self.seen)


def with_leads(shortlist: Shortlist, positions: I64, labels: PseudoLabels) -> PseudoLabels:
    """An expensive teacher's labels of the shortlist in the order of the pass. `labels` are of `positions`, the images that it
    could read. The score `margin` becomes the pass's lead of the class that the teacher gives; the other scores stay the
    teacher's. `whole` estimates the teacher's counts over the reference from the pass's."""
    rows = np.searchsorted(shortlist.positions, positions)
    best, second = two_best(shortlist.logits)
    lead = label_leads(shortlist.logits[rows], labels.labels, best[rows], second[rows])
    whole = np.maximum(labels.counts(), np.where(labels.counts() > 0, shortlist.counts, 0))
    return PseudoLabels(labels.positions, labels.labels, {**labels.scores, "margin": lead}, labels.classes, whole)
