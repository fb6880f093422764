"""Evaluation of a model on labelled images: accuracy with its interval, each class, confusions, and calibration."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from plada.common.arrays import F32, I64, U8
from plada.common.progress import Report, Tracker, silent
from plada.common.statistics import Bin, calibration_error, reliability_table, softmax, wilson
from plada.errors import DataError
from plada.sources.decode import View, load_pixels
from plada.sources.targets.target import Split

_BLOCK = 1024  # images in memory at a time


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
        confusion: int64 [c, c]; at [i, j] the number of images of class i that were called j.
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
    confusion: I64
    reliability: tuple[Bin, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        bare = asdict(replace(self, confusion=np.zeros((0, 0), np.int64)))
        return {**bare, "confusion": self.confusion.tolist()}

    def confused(self, most: int = 5) -> list[tuple[str, str, int]]:
        """The pairs (class, class that it was taken for) that occur most often, with their counts."""
        names = [result.name for result in self.classes]
        pairs = [
            (-int(self.confusion[true, called]), names[true], names[called])
            for true, called in np.argwhere(self.confusion).tolist()
            if true != called
        ]
        return [(true, called, -count) for count, true, called in sorted(pairs)[:most]]


def evaluate_logits(logits: F32, labels: I64, classes: tuple[str, ...], *, unreadable: int = 0) -> Evaluation:
    """The evaluation of logits float32 [n, c] against labels int64 [n]. Raises DataError: no image, or logits that are
    not finite."""
    if not len(labels) or not np.isfinite(logits).all():
        what = "logits that are not finite" if len(labels) else "no readable image"
        raise DataError(f"evaluation: {what}. Check the model and the images")
    called = logits.argmax(axis=1)
    confusion = np.bincount(labels * len(classes) + called, minlength=len(classes) ** 2).reshape(len(classes), -1)
    right, totals = confusion.diagonal(), confusion.sum(axis=1)
    bins = reliability_table(softmax(logits.astype(np.float64)).max(axis=1), called == labels)
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
        confusion=np.asarray(confusion, np.int64),
        reliability=bins,
    )


def evaluate_split(
    logits_of: Callable[[U8], F32], view: View, split: Split, classes: tuple[str, ...], *, report: Report = silent
) -> Evaluation:
    """The evaluation of a model, pixels uint8 [n, size, size, 3] to logits, on a split with the model's classes, in
    order. Raises DataError: none of the images can be read."""
    tracker = Tracker("test", len(split), report)
    logits: list[F32] = []
    labels: list[I64] = []
    unreadable = 0
    for start in range(0, len(split), _BLOCK):
        rows = slice(start, start + _BLOCK)
        pixels, readable = load_pixels(split.collection.read, split.positions[rows], view, stage="test")
        if readable.any():
            logits.append(logits_of(pixels[readable]))
            labels.append(split.labels[rows][readable])
        unreadable += int((~readable).sum())
        tracker.advance(len(readable))
    if unreadable == len(split):
        raise DataError(f"{split.collection.location}: none of {len(split)} images can be read")
    return evaluate_logits(np.concatenate(logits), np.concatenate(labels), classes, unreadable=unreadable)


def _class_result(name: str, images: int, right: int) -> ClassResult:
    low, high = wilson(right, images)
    accuracy = right / images if images else None
    return ClassResult(name=name, images=images, right=right, accuracy=accuracy, low=low, high=high)
