"""Evaluation of a model on labelled images: accuracy with its interval, each class, confusions, and calibration."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from plada.common.arrays import F32, F64, I64, U8
from plada.common.progress import Report, Tracker, silent
from plada.common.statistics import Bin, calibration_error, reliability_table, softmax, wilson
from plada.errors import DataError
from plada.sources.decode import View, load_pixels
from plada.sources.targets.target import Split

_BLOCK = 1024  # images in memory at a time
_NUMBERS = 1 << 20  # logits whose probabilities are computed at a time
DENSE = 500  # classes up to which JSON has the whole confusion matrix
MAX_PAIRS = 300_000  # entries of the confusion matrix that JSON has beyond that: the most frequent ones


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassResult:
    """The result of one class.

    Attributes:
        name: Name of the class.
        images: Its images.
        right: How many of them were named right.
        accuracy: Share of them, 0 to 1; None where there is no image.
        low: Lower end of the accuracy's 95 % interval (Wilson).
        high: Upper end.
    """

    name: str
    images: int
    right: int
    accuracy: float | None
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """The evaluation of a model on labelled images.

    Attributes:
        images: Images that count.
        unreadable: Images that cannot be read, and do not count.
        right: Images that were named right.
        accuracy: Share of them, 0 to 1.
        low: Lower end of the accuracy's 95 % interval (Wilson).
        high: Upper end.
        ece: Expected calibration error: sum over bins b of n_b / n |accuracy_b - confidence_b| (Guo et al., arXiv 1706.04599).
        classes: The result of each class.
        confusion_pairs: int64 [p, 3]: (true class, class that it was called, images) of the pairs that occur, by both classes.
        reliability: The bins of confidence.
    """

    images: int
    unreadable: int
    right: int
    accuracy: float
    low: float
    high: float
    ece: float
    classes: tuple[ClassResult, ...]
    confusion_pairs: I64
    reliability: tuple[Bin, ...]

    def __repr__(self) -> str:
        unreadable = f", {self.unreadable} unreadable" if self.unreadable else ""
        return f"<Evaluation: {self.accuracy:.1%} of {self.images} images, {len(self.classes)} classes{unreadable}>"

    @property
    def confusion(self) -> I64:
        """The confusion matrix int64 [c, c], made when it is asked for: at [i, j] the number of images of class i that were
        called j. It takes 8 c^2 bytes; with many classes take `confusion_pairs`."""
        matrix = np.zeros((len(self.classes), len(self.classes)), np.int64)
        true, called, images = self.confusion_pairs.T
        matrix[true, called] = images
        return matrix

    def binned_confusion(self, side: int) -> I64:
        """The confusion matrix of at most `side` equal runs of neighbouring classes, int64 [m, m]: for pictures."""
        run = max(1, -(-len(self.classes) // side))
        bins = -(-len(self.classes) // run)
        matrix = np.zeros((bins, bins), np.int64)
        true, called, images = self.confusion_pairs.T
        np.add.at(matrix, (true // run, called // run), images)
        return matrix

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON.

        `confusion` is the whole matrix up to DENSE classes. With more it is None, and `confusion_pairs` has [true class,
        class that it was called, images] of the pairs that occur; beyond MAX_PAIRS the rarest are left out, and
        `confusion_left_out` counts them.
        """
        bare = asdict(replace(self, confusion_pairs=np.zeros((0, 3), np.int64)))
        del bare["confusion_pairs"]
        reliability = bare.pop("reliability")
        if len(self.classes) <= DENSE:
            return {**bare, "confusion": self.confusion.tolist(), "reliability": reliability}
        pairs = self.confusion_pairs
        left_out = max(0, len(pairs) - MAX_PAIRS)
        if left_out:
            pairs = pairs[np.sort(np.argsort(-pairs[:, 2], kind="stable")[:MAX_PAIRS])]
        return {
            **bare, "confusion": None, "reliability": reliability, "confusion_pairs": pairs.tolist(),
            "confusion_left_out": left_out,
        }  # fmt: skip

    def confused(self, most: int = 5) -> list[tuple[str, str, int]]:
        """The pairs (class, class that it was taken for) that occur most often, with their counts."""
        names = [result.name for result in self.classes]
        wrong = self.confusion_pairs[self.confusion_pairs[:, 0] != self.confusion_pairs[:, 1]]
        if len(wrong) > most > 0:  # names decide between equal counts, so all of the last count stay
            wrong = wrong[wrong[:, 2] >= np.partition(wrong[:, 2], -most)[-most]]
        pairs = [(-count, names[true], names[called]) for true, called, count in wrong.tolist()]
        return [(true, called, -count) for count, true, called in sorted(pairs)[:most]]


def evaluate_logits(logits: F32, labels: I64, classes: tuple[str, ...], *, unreadable: int = 0) -> Evaluation:
    """The evaluation of logits float32 [n, c] against labels int64 [n]. Raises DataError: no image, or logits that are
    not finite."""
    return _evaluate_calls(*_calls(logits), labels, classes, unreadable=unreadable)


def _calls(logits: F32) -> tuple[I64, F64]:
    """(class that each image is called int64 [n], its probability float64 [n]) of logits float32 [n, c].

    Raises:
        DataError: logits that are not finite.
    """
    confidence = np.empty(len(logits))
    step = max(1, _NUMBERS // max(logits.shape[1], 1))
    for start in range(0, len(logits), step):
        some = logits[start : start + step]
        if not np.isfinite(some).all():
            raise DataError("evaluation: logits that are not finite. Check the model and the images")
        confidence[start : start + step] = softmax(some.astype(np.float64)).max(axis=1)
    return logits.argmax(axis=1), confidence


def _evaluate_calls(
    called: I64, confidence: F64, labels: I64, classes: tuple[str, ...], *, unreadable: int
) -> Evaluation:
    if not len(labels):
        raise DataError("evaluation: no readable image. Check the model and the images")
    cells, counts = np.unique(labels * len(classes) + called, return_counts=True)
    hits = called == labels
    right, totals = (np.bincount(some, minlength=len(classes)) for some in (labels[hits], labels))
    bins = reliability_table(confidence, hits)
    low, high = wilson(int(right.sum()), len(labels))
    return Evaluation(
        images=len(labels),
        unreadable=unreadable,
        right=int(right.sum()),
        accuracy=float(right.sum() / len(labels)),
        low=low,
        high=high,
        ece=calibration_error(bins),
        classes=tuple(_class_result(name, int(n), int(r)) for name, n, r in zip(classes, totals, right, strict=True)),
        confusion_pairs=np.stack([cells // len(classes), cells % len(classes), counts], axis=1).astype(np.int64),
        reliability=bins,
    )


def evaluate_split(
    logits_of: Callable[[U8], F32], view: View, split: Split, classes: tuple[str, ...], *, report: Report = silent
) -> Evaluation:
    """The evaluation of a model, pixels uint8 [n, size, size, 3] to logits, on a split with the model's classes, in
    order. Of each image a label, a class and a probability are kept, so memory does not grow with the classes. Raises
    DataError: none of the images can be read."""
    tracker = Tracker("test", len(split), report)
    calls: list[tuple[I64, F64]] = []
    labels: list[I64] = []
    unreadable = 0
    for start in range(0, len(split), _BLOCK):
        rows = slice(start, start + _BLOCK)
        pixels, readable = load_pixels(split.collection.read, split.positions[rows], view, stage="test")
        if readable.any():
            calls.append(_calls(logits_of(pixels[readable])))
            labels.append(split.labels[rows][readable])
        unreadable += int((~readable).sum())
        tracker.advance(len(readable))
    if unreadable == len(split):
        raise DataError(f"{split.collection.location}: none of {len(split)} images can be read")
    called, confidence = (np.concatenate(parts) for parts in zip(*calls, strict=True))
    return _evaluate_calls(called, confidence, np.concatenate(labels), classes, unreadable=unreadable)


def _class_result(name: str, images: int, right: int) -> ClassResult:
    low, high = wilson(right, images)
    accuracy = right / images if images else None
    return ClassResult(name=name, images=images, right=right, accuracy=accuracy, low=low, high=high)
