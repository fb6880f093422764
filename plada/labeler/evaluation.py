"""How good teachers are: calibrated, put to the vote, and refused where they only guess."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from plada.common.arrays import F32, I64
from plada.common.progress import Report, Tracker, silent
from plada.common.statistics import wilson
from plada.errors import DataError
from plada.labeler.calibration import fit_temperature
from plada.labeler.embedded_target import EmbeddedSplit, EmbeddedTarget
from plada.labeler.splits import HeldOut
from plada.labeler.teacher import MEAN, Teacher, target_logits, vote
from plada.sources.targets.target import Split, Target

_SURE = 1.6448536269514722  # of the normal distribution, one-sided 95 %


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherReport:
    """Kind of teacher and its accuracy on the target's test and validation images (None where there are none), each with
    its 95 % interval. For a linear teacher `validation_accuracy` is cross-validated over train and validation images.
    `temperature` is what its logits are divided by to be calibrated; `members` are the teachers of a vote."""

    kind: str
    accuracy: float | None
    validation_accuracy: float | None
    interval: tuple[float, float] | None = None
    validation_interval: tuple[float, float] | None = None
    validation_images: int = 0
    temperature: float = 1.0
    members: "tuple[TeacherReport, ...]" = ()
    note: str = ""


def judge_teachers(
    teachers: Sequence[Teacher],
    target: Target,
    embedded: EmbeddedTarget,
    held_out: Mapping[int, HeldOut],
    *,
    force: bool,
    how: str = MEAN,
    report: Report = silent,
) -> tuple[tuple[Teacher, ...], TeacherReport]:
    """(calibrated teachers, what is known of them together): temperatures are found on held-out images, accuracies on
    held-out and test images. These are the validation images, which a linear teacher is trained on: `held_out` has
    cross-validated logits of train and validation images together, or of a sample of them, by the teacher's place. `how` is how
    several vote.

    Raises:
        DataError: not above chance on the images it has not seen, unless `force`d; bad logits.
    """
    images, trained_on = len(embedded.validation.labels), len(embedded.train.labels)
    known = np.concatenate([embedded.train.labels, embedded.validation.labels])
    voted_on = np.arange(images)  # validation images that a vote is judged on
    seen: list[F32 | None] = []  # of validation images, by what was not trained on them
    judged: list[tuple[F32 | None, I64]] = []  # all that a teacher can be judged on
    for place, teacher in enumerate(teachers):
        if place in held_out:
            rows, logits = held_out[place].rows, held_out[place].logits
            voted_on = rows[rows >= trained_on] - trained_on
            seen.append(logits[rows >= trained_on] if images else None)
            judged.append((logits, known[rows]))
        else:
            seen.append(_logits(teacher, target.validation, embedded.validation, "validation images", report))
            judged.append((seen[-1], embedded.validation.labels))
    test = [_logits(teacher, target.test, embedded.test, "test images", report) for teacher in teachers]
    tracker = Tracker("teacher: calibrate", len(teachers), report)
    temperatures = []
    for logits_seen, labels in judged:
        temperatures.append(fit_temperature(logits_seen, labels) if logits_seen is not None else 1.0)
        tracker.advance()
    calibrated = tuple(
        replace(teacher, temperature=temperature) for teacher, temperature in zip(teachers, temperatures, strict=True)
    )
    members = [
        _report(teacher, logits, labels, tested, embedded.test)
        for teacher, (logits, labels), tested in zip(calibrated, judged, test, strict=True)
    ]
    summary = members[0]
    if len(teachers) > 1:
        together = replace(teachers[0], kind="+".join(teacher.kind for teacher in teachers), temperature=1.0)
        there = [each if each is None or place in held_out else each[voted_on] for place, each in enumerate(seen)]
        voted, tested = _vote(there, temperatures, how), _vote(test, temperatures, how)
        pooled = _report(together, voted, embedded.validation.labels[voted_on], tested, embedded.test)
        summary = replace(pooled, members=tuple(members))
    _refuse_chance(summary, target, force=force)
    return calibrated, summary


def _logits(
    teacher: Teacher, split: Split | None, seen: EmbeddedSplit | None, stage: str, report: Report
) -> F32 | None:
    if split is None or seen is None or not len(seen.labels):
        return None
    readable = seen.readable if seen.readable is not None else np.ones(len(split), np.bool_)
    return target_logits(teacher, split, seen.vectors, readable, stage, report)


def _vote(logits: Sequence[F32 | None], temperatures: Sequence[float], how: str) -> F32 | None:
    there = [each for each in logits if each is not None]
    return vote(there, temperatures, how) if len(there) == len(logits) else None


def _report(
    teacher: Teacher, seen: F32 | None, labels: I64, tested: F32 | None, test: EmbeddedSplit | None
) -> TeacherReport:
    right, images = _right(seen, labels)
    test_right, tests = _right(tested, test.labels if test is not None else labels)
    return TeacherReport(
        kind=teacher.kind,
        accuracy=test_right / tests if tests else None,
        validation_accuracy=right / images if images else None,
        interval=wilson(test_right, tests) if tests else None,
        validation_interval=wilson(right, images) if images else None,
        validation_images=images,
        temperature=teacher.temperature,
    )


def _right(logits: F32 | None, labels: I64) -> tuple[int, int]:
    """(images that are named right, images)."""
    return (int((logits.argmax(axis=1) == labels).sum()), len(labels)) if logits is not None else (0, 0)


def _refuse_chance(report: TeacherReport, target: Target, *, force: bool) -> None:
    """A teacher that is not surely better than chance labels at random, and every student learns that."""
    images, found = report.validation_images, report.validation_accuracy
    if force or not images or found is None or len(target.classes) < 2:
        return
    if wilson(round(found * images), images, _SURE)[0] <= 1 / len(target.classes):
        raise DataError(
            f"teacher {report.kind}: {found:.1%} right on {images} images of {target.name} that it has not seen; with "
            f"{len(target.classes)} classes chance is {1 / len(target.classes):.1%}, and this is not surely more. Give "
            "better images or another teacher, or --force"
        )
