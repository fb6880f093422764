"""Rounds of questions end where nothing in the choice is a guess, and find what naming everything would choose."""

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest

from plada.common.statistics import class_ranks
from plada.labeler.pseudo_labels import PseudoLabels, pseudo_label
from plada.labeler.rounds import _Answers, ask_in_rounds, fit_guess
from plada.labeler.shortlist import Shortlist, find_shortlist, leads, with_leads
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
    shortlist = Shortlist(EVERYTHING, np.bincount(FIRST.argmax(axis=1), minlength=CLASSES), IMAGES)
    labels = pseudo_label([(EVERYTHING, OWN)], lambda x: x, classes=CLASSES)
    labels = with_leads(shortlist, labels, lambda positions: FIRST[positions])
    return set(labels.positions[choose(labels)(K).rows].tolist())


def lead_alone(share: float) -> Shortlist:
    return find_shortlist([(EVERYTHING, FIRST)], lambda x: x, classes=CLASSES, images=IMAGES, share=share)


class Teacher:
    """Answers, and remembers what it was asked; `broken` images cannot be read."""

    def __init__(self, broken: frozenset[int] = frozenset()) -> None:
        self.broken = broken
        self.asked: list[int] = []

    def __call__(self, positions: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        assert (np.diff(positions) > 0).all()
        self.asked += positions.tolist()
        read = np.array([p for p in positions.tolist() if p not in self.broken], np.int64)
        for some in np.array_split(read, 3):
            yield some, OWN[some]


def rounds(teacher: Teacher, max_images: int) -> PseudoLabels:
    return ask_in_rounds(
        lead_alone(0.05), EVERYTHING, vectors=lambda positions: VECTORS[positions], linear=LINEAR,
        choose_rows=lambda labels: choose(labels)(K).rows, ask=teacher, max_images=max_images,
    )  # fmt: skip


def test_rounds_find_what_a_shortlist_by_leads_does_not() -> None:
    wanted, teacher = of_everything(), Teacher()
    labels = rounds(teacher, max_images=600)
    positions = labels.positions
    by_leads = lead_alone(len(positions) / IMAGES)
    assert len(positions) <= 600
    assert len(wanted & set(positions.tolist())) / K > 0.85 > 0.65 > len(wanted & set(by_leads.positions.tolist())) / K
    assert positions.tolist() == sorted(set(teacher.asked))
    assert len(teacher.asked) == len(set(teacher.asked)), "no image is shown twice"
    said = pseudo_label([(positions, OWN[positions])], lambda x: x, classes=CLASSES)
    np.testing.assert_array_equal(labels.labels, said.labels)
    np.testing.assert_array_equal(labels.scores["energy"], said.scores["energy"])
    np.testing.assert_allclose(labels.scores["margin"], leads(FIRST)[positions, said.labels], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kept", [7, 150])
def test_guesses_are_learnt_from_a_bounded_sample(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The images whose turn comes first, in whatever blocks the teacher answers."""
    monkeypatch.setattr("plada.labeler.rounds._LEARNT", kept)
    known = _Answers(EVERYTHING, lambda positions: VECTORS[positions], LINEAR)
    teacher = Teacher(frozenset(range(5, 25)))
    for rows in (np.arange(100), np.arange(400, 1000, 3), np.arange(100, 103)):
        known.ask(rows, teacher)
    labelled = np.flatnonzero(known.labelled)
    turns = np.random.default_rng(0).permutation(IMAGES)
    assert sorted(known._sample.tolist()) == sorted(labelled[np.argsort(turns[labelled])][:kept].tolist())
    np.testing.assert_array_equal(known._said, OWN[known._sample])
    assert known.unreadable.sum() == 20


def test_images_that_cannot_be_read_are_asked_about_once_and_not_chosen() -> None:
    broken = frozenset(list(of_everything())[::3])
    teacher = Teacher(broken)
    labels = rounds(teacher, max_images=1000)
    assert set(teacher.asked) & broken
    assert len(teacher.asked) == len(set(teacher.asked))
    assert not broken & set(labels.positions.tolist())
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
    found = fit_guess(VECTORS[:300], LINEAR.weight, said[:300])(VECTORS[300:])
    assert (found.argmax(axis=1) == said[300:].argmax(axis=1)).mean() > 0.97
    assert (FIRST[300:].argmax(axis=1) == said[300:].argmax(axis=1)).mean() < 0.7


def test_memory_does_not_grow_with_candidates_times_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The logits of all candidates would take 48 MB for each of the two teachers."""
    for name, value in {"_LEARNT": 500, "_BLOCK": 512, "_LEAST": 512}.items():
        monkeypatch.setattr(f"plada.labeler.rounds.{name}", value)
    images, classes = 30_000, 400
    vectors = np.random.default_rng(1).normal(size=(images, AXES)).astype(np.float32)
    weight = np.random.default_rng(2).normal(size=(2, AXES, classes)).astype(np.float32)
    linear = Head(np.zeros(AXES, np.float32), weight[0], np.zeros(classes, np.float32))

    def ask(positions: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(positions), 512):
            some = positions[start : start + 512]
            yield some, vectors[some] @ weight[1]

    start = Shortlist(np.arange(0, images, 10), np.ones(classes, np.int64), images)
    tracemalloc.start()
    labels = ask_in_rounds(
        start, np.arange(images), vectors=lambda positions: vectors[positions], linear=linear,
        choose_rows=lambda labels: np.argsort(-labels.scores["energy"], kind="stable")[:2000], ask=ask, max_images=6000,
    )  # fmt: skip
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(labels) >= 4000
    assert peak < 500 * classes * 4 + 12 * 512 * classes * 4 + 100 * images


def test_a_guess_is_the_ridge_regression_on_embeddings_and_linear_logits() -> None:
    points, wanted = np.hstack([VECTORS[:90], FIRST[:90]]).astype(np.float64), OWN[:90].astype(np.float64)
    centred = points - points.mean(axis=0)
    for part in (slice(None, AXES), slice(AXES, None)):
        centred[:, part] /= np.sqrt((centred[:, part] ** 2).sum(axis=1).mean())
    ridge = centred.T @ centred + 0.003 * 90 * np.eye(AXES + CLASSES)
    expected = centred @ np.linalg.solve(ridge, centred.T @ (wanted - wanted.mean(axis=0))) + wanted.mean(axis=0)
    np.testing.assert_allclose(fit_guess(VECTORS[:90], LINEAR.weight, OWN[:90])(VECTORS[:90]), expected, atol=1e-4)


def test_where_not_all_can_be_asked_no_class_goes_without() -> None:
    labels = np.array([2, 2, 2, 0, 0, 1, 2])
    turns = np.argsort(class_ranks(labels), kind="stable")
    assert labels[turns].tolist() == [2, 0, 1, 2, 0, 2, 2]
    assert sorted(turns) == list(range(7))
