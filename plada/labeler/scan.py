"""One pass of a linear teacher over a large reference, in bounded memory and at nearly the speed of its matrix product.

With a thousand classes the logits of an image are sixty times its embedding, and touching them all costs as much as the
product. So a block of logits is passed twice while it is in the cache (largest, second largest), and only position, label
and the scores that are asked for are kept of an image.
"""

from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plada.common.arrays import F32, I64
from plada.common.machine import cores
from plada.common.statistics import class_ranks
from plada.errors import DataError
from plada.labeler.pseudo_labels import PseudoLabels
from plada.labeler.scores import SCORES
from plada.networks.linear_head import Head

KEEP_ALL = 1 << 18  # images up to which all embeddings are held, and rules are judged on all
_ROWS = 512  # that are multiplied at a time: their logits stay in the cache while the two largest are found
_NO_ROW, _NO_SCORE = np.zeros(0, np.int64), np.zeros(0, np.float32)
_SLACK = 3  # times the shortlist that is gathered before it is cut down again


@dataclass(frozen=True, slots=True)
class TopMargins:
    """The images with the largest margins of each class: positions int64 [n] (rising), labels int64 [n], margins float32 [n]; `counts` int64 [classes]
    of all labels of the reference."""

    positions: I64
    labels: I64
    margins: F32
    counts: I64


def score_all(
    blocks: Iterable[tuple[I64, npt.NDArray[np.floating]]],
    head: Head,
    scores: Collection[str],
    *,
    advance: Callable[[int], None] = lambda _: None,
) -> PseudoLabels:
    """Labels and margins of all images, and those of SCORES that are asked for; `blocks` as for scan_linear.

    An image's numbers depend on its embedding alone, so a rule chooses the same whichever scores are kept beside its own.
    Memory: 16 bytes an image and 4 for each score.

    Raises:
        DataError: no image; logits that are not finite.
    """
    found = score_some(blocks, head, scores, threads=cores(), advance=advance)
    if not len(found):
        raise DataError("teacher: the reference has no readable image")
    return found


def join_scores(parts: Iterable[PseudoLabels]) -> PseudoLabels:
    """Parts of a reference, in order of position, as one.

    Raises:
        DataError: no image.
    """
    held = list(parts)
    if not any(map(len, held)):
        raise DataError("teacher: the reference has no readable image")
    scores = {name: np.concatenate([part.scores[name] for part in held]) for name in held[0].scores}
    positions, labels = (np.concatenate([getattr(part, name) for part in held]) for name in ("positions", "labels"))
    return PseudoLabels(positions, labels, scores, held[0].classes)


def score_some(
    blocks: Iterable[tuple[I64, npt.NDArray[np.floating]]],
    head: Head,
    scores: Collection[str],
    *,
    threads: int = 1,
    advance: Callable[[int], None] = lambda _: None,
) -> PseudoLabels:
    """As `score_all`, of some images or of none, by so many `threads`."""
    weights = _weights(head)
    positions: list[I64] = []
    labels: list[I64] = []
    kept: dict[str, list[F32]] = {name: [] for name in SCORES if name in scores or name == "margin"}

    def score(vectors: npt.NDArray[np.floating]) -> tuple[I64, dict[str, F32]]:
        inputs = np.ones((_ROWS, len(weights)), np.float32)
        inputs[: len(vectors), :-1] = vectors
        logits = (inputs @ weights)[: len(vectors)]
        bad = ~np.isfinite(logits).all(axis=1)
        logits[bad] = 0
        values = {name: SCORES[name](logits) for name in kept if name != "margin"}
        label, best, second = two_largest(logits)
        values["margin"] = best - second
        values["margin"][bad] = np.nan
        return label, values

    # Each product is made whole by one thread, so the results are the same on any number of them.
    with ThreadPoolExecutor(threads) as pool:
        for where, vectors in blocks:
            if not len(where):
                continue
            parts = [vectors[start : start + _ROWS] for start in range(0, len(where), _ROWS)]
            for start, (label, values) in zip(range(0, len(where), _ROWS), pool.map(score, parts), strict=True):
                bad = np.flatnonzero(~np.isfinite(values["margin"]))
                if len(bad):
                    image = int(where[start + bad[0]])
                    raise DataError(
                        f"teacher: the logits of image {image} are not finite. Train it again, or check the index"
                    )
                for name, value in values.items():
                    kept[name].append(value)
                labels.append(label)
            positions.append(where)
            advance(len(where))
    joined = {name: np.concatenate([_NO_SCORE, *parts]) for name, parts in kept.items()}
    classes = head.weight.shape[1]
    return PseudoLabels(np.concatenate([_NO_ROW, *positions]), np.concatenate([_NO_ROW, *labels]), joined, classes)


def surest_rows(labels: PseudoLabels, depth: int) -> I64:
    """Rows of the `depth` largest margins of each class, int64 [n], rising; ties to the lower row."""
    order = np.argsort(-labels.scores["margin"], kind="stable")
    return np.sort(order[class_ranks(labels.labels[order]) < depth])


def _weights(head: Head) -> F32:
    """Weights with the mean and the bias as one more row, for inputs with a column of ones: no pass over the logits adds
    them."""
    return np.vstack([head.weight, head.bias - head.mean @ head.weight]).astype(np.float32)


def scan_linear(blocks: Iterable[tuple[I64, npt.NDArray[np.floating]]], head: Head, *, depth: int) -> TopMargins:
    """As `collect_margins`.

    Raises:
        DataError: no image; logits that are not finite.
    """
    return collect_margins(blocks, head, depth=depth).finish()


def collect_margins(
    blocks: Iterable[tuple[I64, npt.NDArray[np.floating]]], head: Head, *, depth: int
) -> "MarginCollector":
    """The `depth` images of each class with the largest margins; `blocks` gives (positions [m], embeddings [m, d]), positions
    rising. Ties go to the lower position.

    Memory: classes x depth x (1 + _SLACK) rows of 20 bytes, and one block of logits.

    Raises:
        DataError: logits that are not finite.
    """
    classes = head.weight.shape[1]
    weights = _weights(head)
    inputs = np.ones((_ROWS, len(weights)), np.float32)
    logits = np.empty((_ROWS, classes), np.float32)
    kept = MarginCollector(classes, depth)
    for positions, vectors in blocks:
        for start in range(0, len(positions), _ROWS):
            some = positions[start : start + _ROWS]
            inputs[: len(some), :-1] = vectors[start : start + _ROWS]
            out = np.matmul(inputs, weights, out=logits)[: len(some)]
            label, best, second = two_largest(out)
            kept.add(some, label, best - second)
    return kept


def two_largest(logits: F32) -> tuple[I64, F32, F32]:
    """(label, largest, second largest) of logits [n, c]; the largest are put to -inf in place."""
    rows = np.arange(len(logits))
    label = logits.argmax(axis=1)
    best = logits[rows, label]
    if logits.shape[1] == 1:
        return label, best, np.zeros_like(best)
    logits[rows, label] = -np.inf
    return label, best, logits.max(axis=1)


class MarginCollector:
    """Collects the largest margins; a row that cannot stay in its class is not even written down."""

    def __init__(self, classes: int, depth: int, floor: F32 | None = None) -> None:
        """What does not exceed `floor` float32 [classes] of its class is left out."""
        self.classes, self.depth = classes, depth
        self.counts = np.zeros(classes, np.int64)
        self.floor = np.full(classes, -np.inf, np.float32) if floor is None else floor.copy()
        # (positions, labels, margins) by class, then by position; behind them what has come since, in order.
        self.parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))]
        self.rows = 0  # that have come since

    def add(self, positions: I64, labels: I64, margins: F32) -> None:
        """Take in a block."""
        if not np.isfinite(margins).all():
            bad = int(positions[np.flatnonzero(~np.isfinite(margins))[0]])
            raise DataError(f"teacher: the logits of image {bad} are not finite. Train it again, or check the index")
        self.counts += np.bincount(labels, minlength=self.classes)
        self.keep(positions, labels, margins)

    def keep(self, positions: I64, labels: I64, margins: F32) -> None:
        """Take in a block, without counting its labels."""
        # A class's floor is the margin of its depth-th image so far: equal ones come later, so they lose the tie.
        stay = np.flatnonzero(margins > self.floor[labels])
        if len(stay):
            self.parts.append((positions[stay], labels[stay], margins[stay]))
            self.rows += len(stay)
            if self.rows > _SLACK * self.classes * self.depth + _ROWS:
                self._cut()

    def _cut(self) -> None:
        """Keep the best of each class. No row need be sorted for that, only brought to its class."""
        positions, labels, margins = self.uncut()
        narrow = labels.astype(np.uint16) if self.classes <= 1 << 16 else labels  # sixteen bits are sorted by counting
        order = np.argsort(narrow, kind="stable")
        edges = np.concatenate([[0], np.cumsum(np.bincount(labels, minlength=self.classes))]).tolist()
        keep = np.ones(len(order), np.bool_)
        sorted_margins = margins[order]
        for label in range(self.classes):
            mine = sorted_margins[edges[label] : edges[label + 1]]
            if len(mine) >= self.depth:
                last = np.partition(mine, -self.depth)[-self.depth]
                inside = mine > last
                equal = np.flatnonzero(mine == last)[: self.depth - int(inside.sum())]
                inside[equal] = True
                keep[edges[label] : edges[label + 1]] = inside
                self.floor[label] = last
        order = order[keep]
        self.parts, self.rows = [(positions[order], labels[order], margins[order])], 0

    def uncut(self) -> tuple[I64, I64, F32]:
        """(positions, labels, margins) that are kept so far, more than `depth` of some classes; positions rise within a class."""
        positions, labels, margins = zip(*self.parts, strict=True)
        return np.concatenate(positions), np.concatenate(labels), np.concatenate(margins)

    def join(self, part: TopMargins) -> None:
        """Take in what a collector of the same depth has kept of images behind those so far: as if it had looked at them itself."""
        self.counts += part.counts
        self.keep(part.positions, part.labels, part.margins)

    def finish(self) -> TopMargins:
        """The images.

        Raises:
            DataError: no image at all.
        """
        kept = self.kept()
        if not len(kept.positions):
            raise DataError("teacher: the reference has no readable image")
        return kept

    def kept(self) -> TopMargins:
        """What is kept, also where it is nothing."""
        self._cut()
        positions, labels, margins = self.parts[0]
        order = np.argsort(positions, kind="stable")
        return TopMargins(positions[order], labels[order], margins[order], self.counts)
