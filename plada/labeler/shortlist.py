"""Candidates: the images that an expensive teacher is shown, found by a linear one in a single pass over the index.

For each class the pass keeps the images with the largest lead, the class's logit less the largest other one, whatever their
label. The expensive teacher then labels these, and among images of one label the order is still the pass's. So a rule that
goes down that order chooses from the shortlist what it would choose from everything, until the shortlist of a class runs out.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from plada.common.arrays import F32, I64
from plada.common.machine import cores
from plada.common.products import BLAS, one_thread
from plada.errors import DataError
from plada.labeler.pseudo_labels import PseudoLabels
from plada.labeler.scan import MarginCollector, two_largest

MIN_DEPTH = 50  # images of each class that it is shown at least
_ROWS = 512  # logits of so many images are compared at a time: they stay in the processor's cache
_PART = 4096  # images whose logits a thread makes at a time, of many classes fewer
_NUMBERS = 1 << 22  # logits that a thread makes at a time
_NO_LEAD = np.zeros(0, np.float32)


@dataclass(frozen=True, slots=True)
class Shortlist:
    """positions int64 [n] (rising); `counts` int64 [c] of the pass's labels over the whole reference, `images` of which there were."""

    positions: I64
    counts: I64
    images: int


@dataclass(frozen=True, slots=True)
class Leads:
    """Large leads of some images: positions int64 [m] (rising within a class), classes int64 [m], leads float32 [m]. An image is there once for
    each class that may keep it. `counts` int64 [c] of the labels of all that were looked at, `images` of which there were."""

    positions: I64
    classes: I64
    leads: F32
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
    best, second = np.empty(len(logits), np.float32), np.empty(len(logits), np.float32)
    for start in range(0, len(logits), _ROWS):
        some = slice(start, start + _ROWS)
        # A copy, since it is changed; it stays in the cache while it is looked at twice.
        _, best[some], second[some] = two_largest(logits[some].astype(np.float32))
    return best, second


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
    gives (positions [m], embeddings [m, d]), positions rising. Memory holds four times the shortlist, at 20 bytes a lead, and one
    block of logits for each thread, whatever the number of images.

    Raises:
        DataError: no image has an embedding; logits that are not finite.
    """
    kept = LeadCollector(classes, shortlist_depth(classes, images, share))
    kept.look_through(blocks, logits_of, threads=cores(), advance=advance)
    return kept.finish()


def shortlist_depth(classes: int, images: int, share: float) -> int:
    """How many images of each class `share` of `images` are."""
    return max(MIN_DEPTH, int(share * images / classes))


def large_leads(positions: I64, logits: F32, depth: int, floor: F32) -> Leads:
    """The leads of images at rising `positions` int64 [n] that exceed `floor` float32 [c] of their class, of each class the
    `depth` largest and perhaps some more.

    Raises:
        DataError: logits that are not finite.
    """
    classes = logits.shape[1]
    kept, counts = MarginCollector(classes, depth, floor), np.zeros(classes, np.int64)
    for start in range(0, len(positions), _ROWS):
        lead = logits[start : start + _ROWS].astype(np.float32)  # a copy, which stays in the cache
        labels, best, second = two_largest(lead)
        margins = best - second
        if not np.isfinite(margins).all():
            bad = int(positions[start + np.flatnonzero(~np.isfinite(margins))[0]])
            raise DataError(f"teacher: the logits of image {bad} are not finite. Train it again, or check the index")
        lead -= best[:, None]
        lead[np.arange(len(labels)), labels] = margins
        found = np.flatnonzero(lead > kept.floor)
        rows, columns = np.divmod(found, classes)
        kept.keep(positions[start + rows], columns, lead.reshape(-1)[found])
        counts += np.bincount(labels, minlength=classes)
    return Leads(*kept.uncut(), counts, len(positions))


class LeadCollector:
    """Collects the images with the largest leads of each class. A lead that cannot stay is not written down, so memory does not
    grow with images x classes."""

    def __init__(self, classes: int, depth: int, floor: F32 | None = None) -> None:
        """What does not exceed `floor` float32 [c] of its class is left out."""
        self.depth = depth
        self.counts = np.zeros(classes, np.int64)
        self.images = 0
        self._largest = MarginCollector(classes, depth, floor)

    @property
    def floor(self) -> F32:
        """The lead of each class's depth-th image so far, float32 [c]: equal ones come later, so they lose the tie."""
        return self._largest.floor

    def join(self, leads: Leads) -> None:
        """Take in the leads of images behind those so far."""
        self.counts += leads.counts
        self.images += leads.images
        self._largest.keep(leads.positions, leads.classes, leads.leads)

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
        size = max(_ROWS, min(_PART, _NUMBERS // len(self.counts)))

        def look(positions: I64, vectors: npt.NDArray[np.floating]) -> Leads:
            # A floor of before is lower or the same: more is kept than need be, and cut later.
            return large_leads(positions, logits_of(vectors), self.depth, self.floor)

        # Each product is made whole by one thread, so the results are the same on any number of them.
        with one_thread(BLAS), ThreadPoolExecutor(threads) as pool:
            for where, vectors in blocks:
                parts = [slice(start, start + size) for start in range(0, len(where), size)]
                for leads in pool.map(look, (where[part] for part in parts), (vectors[part] for part in parts)):
                    self.join(leads)
                advance(len(where))

    def finish(self) -> Shortlist:
        """The shortlist.

        Raises:
            DataError: no image at all.
        """
        if not self.images:
            raise DataError("teacher: the reference has no readable image")
        return Shortlist(np.unique(self.kept().positions), self.counts, self.images)

    def kept(self) -> Leads:
        """What is kept, also where it is nothing."""
        largest = self._largest.kept()
        return Leads(largest.positions, largest.labels, largest.margins, self.counts, self.images)


def with_leads(shortlist: Shortlist, labels: PseudoLabels, linear: Callable[[I64], F32]) -> PseudoLabels:
    """An expensive teacher's labels of the shortlist in the order of the pass. `labels` are of images that it could read. The score
    `margin` becomes the pass's lead of the class that the teacher gives; the other scores stay the teacher's. `linear` gives the
    pass's logits float32 [m, c] of positions int64 [m]."""
    size = max(_ROWS, min(_PART, _NUMBERS // labels.classes))
    parts = [_NO_LEAD]
    for start in range(0, len(labels), size):
        logits = linear(labels.positions[start : start + size])
        parts.append(label_leads(logits, labels.labels[start : start + size], *two_best(logits)))
    scores = {**labels.scores, "margin": np.concatenate(parts)}
    return with_population(shortlist, replace(labels, scores=scores))


def with_population(shortlist: Shortlist, labels: PseudoLabels) -> PseudoLabels:
    """Labels of some of the shortlist with an estimate of the teacher's counts over the reference from those of the pass."""
    counts = labels.counts()
    return replace(labels, whole=np.maximum(counts, np.where(counts > 0, shortlist.counts, 0)))
