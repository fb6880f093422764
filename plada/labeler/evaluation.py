"""How good teachers are: calibrated, put to the vote, and refused where they only guess."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from plada.errors import DataError
from plada.labeler.calibration import fit_temperature, interval
from plada.labeler.linear_teacher import EmbeddedSplit, EmbeddedTarget, TeacherReport
from plada.labeler.teacher import Teacher, target_logits, vote
from plada.sources.targets.target import Split, Target

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
_SURE = 1.6448536269514722  # of the normal distribution, one-sided 95 %


@dataclass(frozen=True, slots=True)
class JudgedTeachers:
    """Teachers with their temperatures, and what is known of them together."""

    teachers: tuple[Teacher, ...]
    report: TeacherReport


def judge_teachers(
    teachers: Sequence[Teacher], target: Target, views: EmbeddedTarget, held: F32 | None, *, force: bool
) -> JudgedTeachers:
    """Find temperatures on validation images and accuracies on validation and test images. `held` float32 [n, c] are
    cross-validated logits of train and validation images together, where the teacher is linear and alone.

    Raises:
        DataError: not above chance on the images it has not seen, unless `force`d; bad logits.
    """
    validation = [_logits(teacher, target.validation, views.validation, "validation images") for teacher in teachers]
    test = [_logits(teacher, target.test, views.test, "test images") for teacher in teachers]
    labels = views.validation.labels
    if held is not None:
        validation, labels = [held], views.train.and_more(views.validation).labels
    heated, members = [], []
    for teacher, seen, tested in zip(teachers, validation, test, strict=True):
        heat = fit_temperature(seen, labels) if seen is not None else 1.0
        heated.append(teacher.calibrated(heat))
        members.append(_report(teacher.kind, seen, labels, tested, views.test, heat))
    if len(teachers) == 1:
        report = members[0]
    else:
        heats = [teacher.temperature for teacher in heated]
        joint = "+".join(teacher.kind for teacher in teachers)
        voted, tested = _voted(validation, heats), _voted(test, heats)
        one = _report(joint, voted, labels, tested, views.test, 1.0)
        report = replace(one, members=tuple(members))
    _refuse_chance(report, target, force=force)
    return JudgedTeachers(tuple(heated), report)


def _logits(teacher: Teacher, split: Split | None, seen: EmbeddedSplit | None, stage: str) -> F32 | None:
    if split is None or seen is None or not len(seen.labels):
        return None
    readable = seen.readable if seen.readable is not None else np.ones(len(split), np.bool_)
    return target_logits(teacher, split, seen.vectors, readable, stage)


def _voted(logits: Sequence[F32 | None], heats: Sequence[float]) -> F32 | None:
    there = [one for one in logits if one is not None]
    return vote(there, heats) if len(there) == len(logits) else None


def _report(
    kind: str, seen: F32 | None, labels: I64, tested: F32 | None, test: EmbeddedSplit | None, heat: float
) -> TeacherReport:
    right = int((seen.argmax(axis=1) == labels).sum()) if seen is not None else 0
    images = len(labels) if seen is not None else 0
    test_right = int((tested.argmax(axis=1) == test.labels).sum()) if tested is not None and test is not None else 0
    tests = len(tested) if tested is not None else 0
    return TeacherReport(
        kind=kind,
        accuracy=test_right / tests if tests else None,
        validation_accuracy=right / images if images else None,
        interval=interval(test_right, tests),
        validation_interval=interval(right, images),
        validation_images=images,
        temperature=heat,
    )


def _refuse_chance(report: TeacherReport, target: Target, *, force: bool) -> None:
    """A teacher that is not beyond doubt better than answering at random labels at random, and every student learns it."""
    images, found = report.validation_images, report.validation_accuracy
    if not images or found is None or len(target.classes) < 2:
        return
    surely = interval(round(found * images), images, _SURE)
    if surely is not None and surely[0] <= 1 / len(target.classes) and not force:
        raise DataError(
            f"teacher {report.kind}: {found:.1%} right on {images} images of {target.name} that it has not seen; with "
            f"{len(target.classes)} classes chance is {1 / len(target.classes):.1%}, and this is not surely more. Give "
            "better images or another teacher, or --force"
        )
