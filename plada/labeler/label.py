"""The pseudo-labels that `plada select` chooses from: which images are shown to which teacher."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plada.common.progress import Report, Tracker
from plada.errors import DataError
from plada.labeler.linear_teacher import EmbeddedTarget, train_linear
from plada.labeler.pseudo_labels import PseudoLabels, pseudo_label
from plada.labeler.rounds import MOST_LOGITS, ask_in_rounds
from plada.labeler.scan import KEEP_ALL, scan_linear, scored
from plada.labeler.shortlist import LEAST, find_shortlist, named
from plada.labeler.teacher import VECTORS, Teacher, reference_logits, vote
from plada.labeler.teachers import Ensemble
from plada.retrieval.embeddings import hold
from plada.retrieval.index import Index
from plada.sources.targets.target import Target

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
Vectors = Callable[[I64], npt.NDArray[np.floating]]
# Rows that the rule chooses of some pseudo-labels, whose embeddings are given.
Picks = Callable[[PseudoLabels, Vectors], I64]
MOST = 2_000_000  # images of a shortlist
SHARE = 0.05  # of the reference that a teacher which looks at pictures is shown, unless exhaustive
POOL = 20  # images that a rule looks at for each that it keeps; more labels than bytes hardly ever fit


@dataclass(frozen=True, slots=True)
class Labelled:
    """Pseudo-labels of what can be chosen, how to get their embeddings and those `around` them, and images that the last
    teacher looked at."""

    labels: PseudoLabels
    vectors: Vectors
    looked_at: int
    around: I64


def label(
    index: Index,
    task: Target,
    taught: Ensemble,
    views: EmbeddedTarget,
    *,
    exhaustive: bool,
    budget: int,
    seed: int,
    picks: Picks | None,
    report: Report,
) -> Labelled:
    """Cheap teachers see every embedding; those that look at pictures see the candidates that a linear teacher finds in one
    pass, and then what the rule chooses (`picks`, plada.labeler.rounds), SHARE of the reference in all; or everything, if it
    is asked for.

    Raises:
        DataError: bad logits, nothing that can be read. BudgetTooSmall: by `picks`.
    """

    classes, tracker = len(task.classes), Tracker("scan", index.readable, report)
    first = taught.teachers[0]

    def held(positions: I64) -> Vectors:
        return hold(positions, index.dimension, index.scan, index.vectors)

    if len(taught.teachers) == 1 and first.head is not None and index.readable > KEEP_ALL:
        found = scan_linear(index.scan(), first.head, depth=max(LEAST, min(POOL * budget, MOST) // classes))
        read = held(found.positions)
        return Labelled(scored(found, first.head, read), read, index.readable, found.positions)
    if len(taught.teachers) == 1 and first.needs == VECTORS:
        labels = pseudo_label(
            index.scan(), lambda vectors: first.asked(vectors, len(vectors)), classes=classes, advance=tracker.advance
        )
        return Labelled(labels, held(labels.positions), len(labels), labels.positions)
    if all(teacher.cheap for teacher in taught.teachers):
        positions = np.concatenate([found for found, _ in index.scan()])
        read = held(positions)
        readable, joint = joint_logits(index, taught.teachers, positions, read, report)
        labels = pseudo_label([(readable, joint)], lambda logits: logits, classes=classes)
        return Labelled(labels, read, len(readable), positions)
    return _shown(index, task, taught, views, exhaustive, budget, seed, picks, held, tracker, report)


def _shown(
    index: Index,
    task: Target,
    taught: Ensemble,
    views: EmbeddedTarget,
    exhaustive: bool,
    budget: int,
    seed: int,
    picks: Picks | None,
    held: Callable[[I64], Vectors],
    tracker: Tracker,
    report: Report,
) -> Labelled:
    """Labels by teachers that must be shown images."""

    classes = len(task.classes)
    scout = next(
        (teacher for teacher in taught.teachers if teacher.head is not None and teacher.needs == VECTORS), None
    )
    if scout is None:
        scout, _, _ = train_linear(index, task, views.train, views.validation, seed)
    rounds = picks is not None and not exhaustive
    shortlist = find_shortlist(
        index.scan(), scout.logits, classes=classes, images=index.readable,
        share=1.0 if exhaustive else SHARE / 2 if rounds else SHARE, advance=tracker.advance,
    )  # fmt: skip
    around, read = shortlist.positions, held(shortlist.positions)
    known = joint_logits(index, taught.teachers, shortlist.positions, read, report)
    if rounds and picks is not None and scout.head is not None:
        depth = max(LEAST, min(POOL * budget, MOST, MOST_LOGITS // classes, index.readable * classes) // classes)
        found = scan_linear(index.scan(), scout.head, depth=depth)
        around = np.union1d(found.positions, shortlist.positions)
        read = held(around)
        shortlist, known = ask_in_rounds(
            shortlist, known, found.positions, vectors=read, linear=scout.logits,
            picks=lambda labels: picks(labels, read),
            ask=lambda positions: joint_logits(index, taught.teachers, positions, read, report),
            most=max(int(SHARE * index.readable), len(shortlist.positions)),
        )  # fmt: skip
    labels = pseudo_label([known], lambda logits: logits, classes=classes)
    return Labelled(named(shortlist, known[0], labels), read, len(known[0]), around)


def joint_logits(
    index: Index, teachers: Sequence[Teacher], positions: I64, vectors: Vectors, report: Report
) -> tuple[I64, F32]:
    """(positions int64 [n], logits float32 [n, c]) of the images, of those at rising `positions`, that every teacher could
    answer for; several teachers are put to the vote.

    Raises:
        DataError: there is none; bad logits.
    """

    return _asked(
        [reference_logits(teacher, index, positions, vectors, report) for teacher in teachers],
        [teacher.temperature for teacher in teachers],
    )


def _asked(answers: Sequence[Iterator[tuple[I64, F32]]], heats: Sequence[float]) -> tuple[I64, F32]:

    parts = [list(zip(*answer, strict=True)) for answer in answers]
    places = [np.concatenate(part[0]) if part else np.zeros(0, np.int64) for part in parts]
    common = places[0]
    for more in places[1:]:
        common = np.intersect1d(common, more)
    if not len(common):
        raise DataError("teacher: none of the candidates could be read")
    logits = [
        np.concatenate(part[1])[np.searchsorted(place, common)] for part, place in zip(parts, places, strict=True)
    ]
    return common, logits[0] if len(logits) == 1 else vote(logits, heats)
