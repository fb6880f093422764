"""Scores obey their laws; the linear teacher learns what can be learned; bad logits are refused."""

import tracemalloc
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from plada.common.progress import Progress
from plada.common.statistics import accuracy
from plada.errors import DataError
from plada.labeler.calibration import log_likelihood
from plada.labeler.embedded_target import EmbeddedSplit, EmbeddedTarget
from plada.labeler.evaluation import judge_teachers
from plada.labeler.linear_teacher import CROSS_PENALTIES, cross_validate, searched, train_linear
from plada.labeler.pseudo_labels import pseudo_label
from plada.labeler.scores import SCORES, energy, entropy, margin
from plada.labeler.splits import HeldOut
from plada.labeler.teacher import VECTORS, Teacher
from plada.networks.linear_head import fit_head
from plada.sources.targets.target import EmptyCollection, Split, Target

LOGITS = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32) * 4


def test_energy_moves_with_a_constant_and_survives_large_logits() -> None:
    np.testing.assert_allclose(energy(LOGITS + 5), energy(LOGITS) + 5, rtol=1e-5)
    np.testing.assert_allclose(energy(LOGITS), np.log(np.exp(LOGITS.astype(np.float64)).sum(1)), rtol=1e-5)
    assert np.isfinite(energy(LOGITS * 1000)).all()


def test_entropy_and_margin_do_not_move_with_a_constant() -> None:
    np.testing.assert_allclose(entropy(LOGITS + 5), entropy(LOGITS), atol=1e-4)
    np.testing.assert_allclose(margin(LOGITS + 5), margin(LOGITS), atol=1e-4)
    assert (entropy(LOGITS) <= 0).all()
    np.testing.assert_allclose(entropy(np.zeros((1, 8), np.float32)), -np.log(8), rtol=1e-5)
    assert (margin(LOGITS) >= 0).all()
    assert margin(np.array([[1.0, 5.0, 4.5]], np.float32)) == pytest.approx([0.5])


def test_one_class_has_scores_too() -> None:
    for score in SCORES.values():
        assert np.isfinite(score(np.ones((3, 1), np.float32))).all()


def blobs(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    vectors = np.eye(3, 16, dtype=np.float32)[labels] + 0.25 * rng.normal(size=(n, 16)).astype(np.float32) + 2
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), labels.astype(np.int64)


def test_a_linear_teacher_learns_and_repeats_itself() -> None:
    train, validation, test = (EmbeddedSplit(*blobs(n, seed), 0) for seed, n in enumerate((300, 100, 300)))
    embedded = EmbeddedTarget(train, validation, test)
    index: Any = SimpleNamespace(mean=train.vectors.mean(axis=0))
    teacher, penalty, held_out = train_linear(index, 3, embedded, 0)
    assert accuracy(teacher.ask(test.vectors, 300), test.labels) > 0.85
    assert penalty in CROSS_PENALTIES
    assert held_out.rows.tolist() == list(range(len(embedded.known.labels)))
    assert accuracy(held_out.logits, embedded.known.labels) > 0.85
    again, _, _ = train_linear(index, 3, embedded, 0)
    assert np.array_equal(teacher.ask(test.vectors, 300), again.ask(test.vectors, 300))


def test_the_only_image_of_a_class_teaches_and_is_not_judged() -> None:
    vectors, labels = blobs(100, 0)
    first = np.flatnonzero(labels == 2)[0]
    rows = np.sort(np.append(np.flatnonzero(labels != 2), first))
    mean = vectors.mean(axis=0)
    penalty, held_out = cross_validate(vectors[rows], labels[rows], classes=3, mean=mean, seed=0)
    assert labels[rows][held_out.rows].tolist() == labels[labels != 2].tolist()
    assert accuracy(held_out.logits, labels[rows][held_out.rows]) > 0.85
    head = fit_head(vectors[rows], labels[rows], classes=3, mean=mean, penalty=penalty)
    assert head.logits(vectors[first : first + 1]).argmax() == 2


def test_a_target_of_one_image_a_class_is_learned_and_nothing_is_judged() -> None:
    vectors, labels = blobs(100, 0)
    rows = np.array([np.flatnonzero(labels == label)[0] for label in range(3)])
    train = EmbeddedSplit(vectors[rows], labels[rows], 0)
    embedded = EmbeddedTarget(train, EmbeddedSplit(vectors[:0], labels[:0], 0))
    index: Any = SimpleNamespace(mean=vectors.mean(axis=0))
    teacher, penalty, held_out = train_linear(index, 3, embedded, 0)
    assert (penalty, len(held_out.rows), held_out.logits.shape) == (CROSS_PENALTIES[0], 0, (0, 3))
    assert accuracy(teacher.logits(vectors), labels) > 0.6
    task: Any = SimpleNamespace(name="t", classes=("a", "b", "c"), validation=None, test=None)
    _, report = judge_teachers([teacher], task, embedded, {0: held_out}, force=False)
    assert (report.validation_accuracy, report.validation_images, report.temperature) == (None, 0, 1.0)


def test_pseudo_labels_of_a_stream() -> None:
    vectors, labels = blobs(90, 3)
    head = fit_head(vectors, labels, classes=3, mean=vectors.mean(axis=0), penalty=1e-3)
    blocks = [(np.arange(0, 40), vectors[:40]), (np.arange(40, 40), vectors[:0]), (np.arange(50, 100), vectors[40:])]
    found = pseudo_label(blocks, head.logits, classes=3)
    assert found.positions.tolist() == [*range(40), *range(50, 100)]
    assert np.array_equal(found.labels, head.logits(vectors).argmax(axis=1))
    np.testing.assert_allclose(found.scores["margin"], margin(head.logits(vectors)), rtol=1e-5, atol=1e-5)
    assert found.counts().sum() == len(found) == 90


@pytest.mark.parametrize(
    "bad", [np.full((5, 3), np.nan, np.float32), np.zeros((5, 4), np.float32), np.zeros((4, 3), np.float32)]
)
def test_bad_logits_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(DataError, match="teacher: logits of shape"):
        pseudo_label([(np.arange(5), np.zeros((5, 2)))], lambda _: bad, classes=3)


def test_a_reference_without_images_is_refused() -> None:
    with pytest.raises(DataError, match="no readable image"):
        pseudo_label([], lambda x: x, classes=3)


def test_the_penalty_of_a_large_target_is_searched_on_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """The teacher is trained on all images; it tells of itself from the first moment, in every step."""
    monkeypatch.setattr("plada.labeler.linear_teacher.SAMPLE", 600)
    vectors, labels = blobs(900, 0)
    embedded = EmbeddedTarget(EmbeddedSplit(vectors, labels, 0), EmbeddedSplit(vectors[:60], labels[:60], 0))
    index: Any = SimpleNamespace(mean=vectors.mean(axis=0))
    events: list[Progress] = []
    teacher, penalty, held_out = train_linear(index, 3, embedded, 0, events.append)
    assert penalty * 960 / 198 == pytest.approx(min(CROSS_PENALTIES, key=lambda each: abs(each - penalty * 960 / 198)))
    rows = searched(embedded.known.labels, 3, 0)
    assert np.bincount(embedded.known.labels[rows]).tolist() == [66, 66, 66]
    assert held_out.rows.tolist() == rows.tolist()
    assert held_out.logits.shape == (198, 3)
    assert accuracy(held_out.logits, embedded.known.labels[rows]) > 0.85
    assert accuracy(teacher.logits(vectors), labels) > 0.85
    assert (events[0].stage, events[0].done) == ("teacher: penalty", 0)
    assert [each.done == each.total for each in events if each.stage == "teacher: fit"][-1]


def test_of_many_images_one_part_is_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plada.labeler.linear_teacher.ONE_PART", 600)
    vectors, labels = blobs(900, 0)
    penalty, held_out = cross_validate(vectors, labels, classes=3, mean=vectors.mean(axis=0), seed=0)
    assert penalty in CROSS_PENALTIES
    assert len(held_out.rows) == len(held_out.logits) == 180
    assert accuracy(held_out.logits, labels[held_out.rows]) > 0.85


def test_a_vote_is_judged_on_the_validation_images_that_all_members_answered() -> None:
    """Where the linear teacher's held-out logits are of a sample."""
    vectors, labels = blobs(300, 0)
    known = EmbeddedTarget(EmbeddedSplit(vectors[:200], labels[:200], 0), EmbeddedSplit(vectors[200:], labels[200:], 0))
    logits = np.eye(3, dtype=np.float32)[labels] * 4
    member = Teacher(kind="a", classes=3, needs=VECTORS, logits=lambda rows: np.tile(logits[:1], (len(rows), 1)))
    rows = np.arange(0, 300, 3)
    empty = Split(EmptyCollection("none"), np.zeros(0, np.int64), np.zeros(0, np.int64))
    whole = Split(EmptyCollection("v"), np.arange(100), labels[200:])
    task = Target("t", ("a", "b", "c"), empty, whole, None)
    _, report = judge_teachers((member, member), task, known, {0: HeldOut(rows, logits[rows])}, force=True)
    assert report.validation_images == int((rows >= 200).sum())
    assert report.members[0].validation_images == len(rows)
    assert report.members[1].validation_images == 100


@pytest.mark.parametrize("images", [2000, 8000])
def test_likelihoods_take_the_memory_of_a_block(images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plada.labeler.calibration._NUMBERS", 1 << 14)
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(images, 100)).astype(np.float32), rng.integers(0, 100, images)
    scaled = logits.astype(np.float64)
    expected = (scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True)))[np.arange(images), labels].mean()
    tracemalloc.start()
    found = log_likelihood(logits, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == pytest.approx(expected, rel=1e-12)
    assert peak < 8 * images + 5 * 8 * (1 << 14)


def test_a_target_keeps_its_vectors_once() -> None:
    rng = np.random.default_rng(0)
    first, second = (EmbeddedSplit(rng.normal(size=(n, 4)).astype(np.float32), np.arange(n) % 2, 1) for n in (6, 3))
    target = EmbeddedTarget(first, second)
    assert np.array_equal(target.known.vectors, np.concatenate([first.vectors, second.vectors]))
    assert target.known.left_out == 2
    for split, given in ((target.train, first), (target.validation, second)):
        assert np.array_equal(split.vectors, given.vectors)
        assert np.shares_memory(split.vectors, target.known.vectors)
    assert EmbeddedTarget(first, EmbeddedSplit(second.vectors[:0], second.labels[:0], 0)).known.vectors is first.vectors
