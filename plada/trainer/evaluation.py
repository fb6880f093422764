"""What a trained model is worth on labelled images: accuracy with its interval, each class, what is taken for what, and
whether its confidence can be believed."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from plada.common.progress import Report, Tracker, silent
from plada.common.statistics import Bin, calibration_error, reliability_table, softmax, wilson
from plada.errors import DataError
from plada.sources.decode import View, load_pixels
from plada.sources.targets.target import Split

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
_BLOCK = 1024  # images in memory at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassResult:
    """One class: its images, how many of them were named right, and the 95 % interval of that share (0 to 1 of none)."""

    name: str
    images: int
    right: int
    accuracy: float | None
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """`low` and `high` are the 95 % interval of the accuracy (Wilson's). `confusion[i, j]`, int64 [c, c], counts images of
    class i that were called j. `ece` is the expected calibration error: the mean distance of confidence and accuracy over the filled
    `reliability` bins, weighted by their images. `unreadable` images do not count."""

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
        """The pairs (class, called) that are confused most often, with their count."""
        names = [result.name for result in self.classes]
        pairs = [
            (-int(self.confusion[true, called]), names[true], names[called])
            for true, called in np.argwhere(self.confusion).tolist()
            if true != called
        ]
        return [(true, called, -count) for count, true, called in sorted(pairs)[:most]]


def evaluate_logits(logits: F32, labels: I64, classes: tuple[str, ...], *, unreadable: int = 0) -> Evaluation:
    """The evaluation of logits float32 [n, c] of images with labels [n].

    Raises:
        DataError: no image, or logits that are not finite.
    """
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
    logits_of: Callable[[npt.NDArray[np.uint8]], F32],
    view: View,
    split: Split,
    classes: tuple[str, ...] | None = None,
    *,
    stage: str = "test",
    report: Report = silent,
) -> Evaluation:
    """The evaluation of a model, pixels uint8 [n, size, size, 3] to logits, on a split whose classes are the model's, in its
    order (by default they are called 0, 1, ...).

    Raises:
        DataError: none of the images can be read.
    """
    tracker = Tracker(stage, len(split), report)
    logits: list[F32] = []
    labels: list[I64] = []
    unreadable = 0
    for start in range(0, len(split), _BLOCK):
        rows = slice(start, start + _BLOCK)
        pixels, readable = load_pixels(split.collection.read, split.positions[rows], view, stage=stage)
        if readable.any():
            logits.append(logits_of(pixels[readable]))
            labels.append(split.labels[rows][readable])
        unreadable += int((~readable).sum())
        tracker.advance(len(readable))
    if unreadable == len(split):
        raise DataError(f"{split.collection.location}: none of {len(split)} images can be read")
    answers = np.concatenate(logits)
    names = classes or tuple(map(str, range(answers.shape[1])))
    return evaluate_logits(answers, np.concatenate(labels), names, unreadable=unreadable)


def _class_result(name: str, images: int, right: int) -> ClassResult:
    low, high = wilson(right, images)
    accuracy = right / images if images else None
    return ClassResult(name=name, images=images, right=right, accuracy=accuracy, low=low, high=high)
