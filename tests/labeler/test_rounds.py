"""Rounds of questions end where nothing in the choice is a guess, and find what naming everything would choose."""

import numpy as np
import pytest

from plada.common.statistics import class_ranks
from plada.labeler.pseudo_labels import PseudoLabels, pseudo_label
from plada.labeler.rounds import ask_in_rounds, fit_guess
from plada.labeler.shortlist import Shortlist, find_shortlist, with_leads
from plada.networks.linear_head import Head
from plada.selection.rules.registry import RULES
from plada.selection.rules.rule import Choose, Context

IMAGES, AXES, CLASSES, K = 3000, 12, 4, 60
RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(IMAGES, AXES)).astype(np.float32)
LINEAR = Head(
    np.zeros(AXES, np.float32), RNG.normal(size=(AXES, CLASSES)).astype(np.float32), np.zeros(CLASSES, np.float32)
)
FIRST = LINEAR.logits(VECTORS)
# The expensive teacher: another head, and something that no head can say.
OWN = (
    FIRST
    + VECTORS @ RNG.normal(size=(AXES, CLASSES)).astype(np.float32)
    + 0.3 * np.sin(3 * VECTORS[:, :CLASSES]).astype(np.float32)
)
TARGET = RNG.normal(size=(40, AXES)).astype(np.float32)
CONTEXT = Context(lambda positions: VECTORS[positions], TARGET, np.arange(40) % CLASSES)
EVERYTHING = np.arange(IMAGES)


def choose(labels: PseudoLabels) -> Choose:
    return RULES["herd"].prepare(labels, CONTEXT)


def of_everything() -> set[int]:
    shortlist = Shortlist(EVERYTHING, FIRST, np.bincount(FIRST.argmax(axis=1), minlength=CLASSES), IMAGES)
    labels = with_leads(shortlist, EVERYTHING, pseudo_label([(EVERYTHING, OWN)], lambda x: x, classes=CLASSES))
    return set(labels.positions[choose(labels)(K).rows].tolist())


def lead_alone(share: float) -> Shortlist:
    return find_shortlist([(EVERYTHING, FIRST)], lambda x: x, classes=CLASSES, images=IMAGES, share=share)


class Teacher:
    """Answers, and remembers what it was asked; `broken` images cannot be read."""

    def __init__(self, broken: frozenset[int] = frozenset()) -> None:
        self.broken = broken
        self.asked: list[int] = []

    def __call__(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert (np.diff(positions) > 0).all()
        self.asked += positions.tolist()
        read = np.array([p for p in positions.tolist() if p not in self.broken], np.int64)
        return read, OWN[read]


def rounds(
    teacher: Teacher, max_images: int, start: Shortlist | None = None
) -> tuple[Shortlist, tuple[np.ndarray, np.ndarray]]:
    start = lead_alone(0.05) if start is None else start
    return ask_in_rounds(
        start, teacher(start.positions), EVERYTHING, vectors=lambda positions: VECTORS[positions], linear=LINEAR.logits,
        choose_rows=lambda labels: choose(labels)(K).rows, ask=teacher, max_images=max_images,
    )  # fmt: skip


def test_rounds_find_what_a_shortlist_by_leads_does_not() -> None:
    wanted, teacher = of_everything(), Teacher()
    shortlist, (positions, logits) = rounds(teacher, max_images=600)
    by_leads = lead_alone(len(positions) / IMAGES)
    assert len(positions) <= 600
    assert len(wanted & set(positions.tolist())) / K > 0.85 > 0.65 > len(wanted & set(by_leads.positions.tolist())) / K
    assert shortlist.positions.tolist() == positions.tolist() == sorted(set(teacher.asked))
    assert len(teacher.asked) == len(set(teacher.asked)), "no image is shown twice"
    np.testing.assert_array_equal(logits, OWN[positions])
    np.testing.assert_array_equal(shortlist.logits, FIRST[positions])


def test_images_that_cannot_be_read_are_asked_about_once_and_not_chosen() -> None:
    broken = frozenset(list(of_everything())[::3])
    teacher = Teacher(broken)
    shortlist, (positions, _) = rounds(teacher, max_images=1000)
    assert set(teacher.asked) & broken
    assert len(teacher.asked) == len(set(teacher.asked))
    assert not broken & set(positions.tolist())
    labels = with_leads(shortlist, positions, pseudo_label([(positions, OWN[positions])], lambda x: x, classes=CLASSES))
    assert len(choose(labels)(K).rows) == K


def test_no_more_is_asked_than_allowed_but_for_what_is_chosen() -> None:
    teacher = Teacher()
    rounds(teacher, max_images=0)
    assert len(set(teacher.asked)) <= max(len(lead_alone(0.05).positions), K * 3 // 2)
    first = Teacher()
    rounds(first, max_images=210)
    assert len(first.asked) <= max(210, len(lead_alone(0.05).positions))


def test_the_same_questions_again() -> None:
    one, two = Teacher(), Teacher()
    rounds(one, max_images=500)
    rounds(two, max_images=500)
    assert one.asked == two.asked


@pytest.mark.parametrize("units", [1.0, 100.0])
def test_guesses_of_a_linear_teacher_are_right(units: float) -> None:
    """Whatever the units of the logits are."""
    said = np.float32(units) * (FIRST + VECTORS.sum(axis=1)[:, None] * np.arange(CLASSES, dtype=np.float32))
    guess = fit_guess(VECTORS[:300], FIRST[:300], said[:300])
    found = guess(VECTORS[300:], FIRST[300:])
    assert (found.argmax(axis=1) == said[300:].argmax(axis=1)).mean() > 0.97
    assert (FIRST[300:].argmax(axis=1) == said[300:].argmax(axis=1)).mean() < 0.7


def test_where_not_all_can_be_asked_no_class_goes_without() -> None:
    labels = np.array([2, 2, 2, 0, 0, 1, 2])
    turns = np.argsort(class_ranks(labels), kind="stable")
    assert labels[turns].tolist() == [2, 0, 1, 2, 0, 2, 2]
    assert sorted(turns) == list(range(7))
