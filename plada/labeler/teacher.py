"""A teacher: anything that gives logits for images of the target and of the reference."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from plada.common.arrays import F32, I64
from plada.common.progress import Report, Tracker, silent
from plada.common.statistics import softmax
from plada.errors import DataError, Unreadable
from plada.networks.linear_head import Head
from plada.retrieval.index import Index
from plada.sources.decode import View, decode, load_pixels
from plada.sources.targets.target import Split

VECTORS, PIXELS, PICTURES, POSITIONS = "vectors", "pixels", "pictures", "positions"
SHOWN = 1024  # images that are decoded at a time
READ = 16_384  # embeddings that are read at a time: a multiple of SHOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """`logits` gives float32 [n, classes] for what `needs` says: embeddings of the index (vectors float32 [n, d]), pixels
    uint8 [n, size, size, 3] as `view` makes them, a list of n PIL images (pictures), or positions int64 [n] of the
    reference, in which case it knows nothing of the target's images.

    `temperature` is what logits are divided by before teachers vote. `head` is there where `logits` is no more than a linear
    head.
    """

    kind: str
    classes: int
    needs: str
    logits: Callable[[Any], F32]
    view: View | None = None
    temperature: float = 1.0
    head: Head | None = None

    @property
    def needs_no_pixels(self) -> bool:
        """Whether it can label the whole reference without decoding an image."""
        return self.needs in (VECTORS, POSITIONS)

    def ask(self, inputs: Any, count: int) -> F32:
        """Logits, checked.

        Raises:
            DataError: they are of another shape, or not finite.
        """
        return checked_logits(self.kind, self.logits(inputs), count, self.classes)


def checked_logits(kind: str, logits: Any, images: int, classes: int) -> F32:
    """Logits float32 [images, classes].

    Raises:
        DataError: another shape, no numbers, or not finite; names the first image and class.
    """
    try:
        checked = np.asarray(logits, np.float32)
    except (TypeError, ValueError) as err:
        raise DataError(f"teacher {kind}: gave {type(logits).__name__}, expected numbers [images, classes]") from err
    if checked.shape != (images, classes):
        raise DataError(
            f"teacher {kind}: logits of shape {checked.shape}, expected ({images}, {classes}): one row an image, one column "
            "a class, in the order of the target's classes"
        )
    if not np.isfinite(checked).all():
        row, column = np.argwhere(~np.isfinite(checked))[0]
        raise DataError(
            f"teacher {kind}: logits that are not finite (the first is {checked[row, column]}, of class {column}). Train "
            "it again, or with a smaller learning rate"
        )
    return checked


def target_logits(
    teacher: Teacher,
    split: Split,
    vectors: F32,
    readable: npt.NDArray[np.bool_],
    stage: str,
    report: Report = silent,
) -> F32 | None:
    """Logits of the readable images of a split, float32 [readable, classes]; None where the teacher cannot say. `vectors`
    [readable, d] are their embeddings.

    Raises:
        DataError: bad logits.
    """
    if teacher.needs == POSITIONS:
        return None
    if teacher.needs == VECTORS:
        return teacher.ask(vectors, len(vectors))
    positions = split.positions[readable]
    parts = [np.zeros((0, teacher.classes), np.float32)]
    tracker = Tracker(f"label {stage}", len(positions), report)
    for start in range(0, len(positions), SHOWN):
        wanted = positions[start : start + SHOWN]
        seen, logits = _look(teacher, split.collection.read, wanted, stage)
        if not seen.all():
            raise DataError(f"{split.collection.location}: image {wanted[~seen][0]} can no longer be read")
        parts.append(logits)
        tracker.advance(len(wanted))
    return np.concatenate(parts)


def reference_logits(
    teacher: Teacher, index: Index, positions: I64, vectors: Callable[[I64], npt.NDArray[np.floating]], report: Report
) -> Iterator[tuple[I64, F32]]:
    """(positions int64 [m], logits float32 [m, classes]) of readable images of the reference, block by block, in order.

    Raises:
        DataError: bad logits. ReferenceMismatch: an image has changed since it was indexed.
    """
    tracker = Tracker("label", len(positions), report)
    tracker.advance(0)
    if teacher.needs_no_pixels:
        for start in range(0, len(positions), READ):
            wanted = positions[start : start + READ]
            yield wanted, teacher.ask(vectors(wanted) if teacher.needs == VECTORS else wanted, len(wanted))
            tracker.advance(len(wanted))
        return
    reference = index.reference()
    for start in range(0, len(positions), SHOWN):
        wanted = positions[start : start + SHOWN]
        seen, logits = _look(teacher, reference.read, wanted, "label")
        yield wanted[seen], logits
        tracker.advance(len(wanted))


def _look(
    teacher: Teacher, read: Callable[[int], bytes], positions: I64, stage: str
) -> tuple[npt.NDArray[np.bool_], F32]:
    """(readable bool [m], logits of the readable ones)."""
    if teacher.needs == PIXELS:
        assert teacher.view is not None
        pixels, readable = load_pixels(read, positions, teacher.view, stage=stage)
        inputs: Any = pixels[readable]
    else:
        pictures, flags = [], []
        for position in positions.tolist():
            try:
                pictures.append(decode(read(position)))
                flags.append(True)
            except Unreadable:
                flags.append(False)
        readable, inputs = np.array(flags, np.bool_), pictures
    if not readable.any():
        return readable, np.zeros((0, teacher.classes), np.float32)
    return readable, teacher.ask(inputs, int(readable.sum()))


MEAN, MAJORITY = "mean", "majority"  # how several teachers vote


def vote(logits: Sequence[F32], temperatures: Sequence[float], how: str = MEAN) -> F32:
    """What several teachers say together, float32 [n, classes]: the logarithm of something that adds up to 1 over classes.

    MEAN: the mean of their calibrated probabilities. All weigh the same; an unsure teacher has less to say because its
    probabilities are flat. MAJORITY: how many have a class as their first choice, and the mean probability below that, so that
    it decides between equals; teachers whose probabilities mean different things count the same.
    """
    mean = np.mean([softmax(each, temperature) for each, temperature in zip(logits, temperatures, strict=True)], axis=0)
    if how == MAJORITY:
        rows = np.arange(len(mean))
        for each in logits:
            mean[rows, each.argmax(axis=1)] += 1
        mean /= len(logits) + 1
    return np.asarray(np.log(np.maximum(mean, np.finfo(np.float32).tiny)), np.float32)
