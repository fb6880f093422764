"""Folds know nothing of what they hold out."""

from dataclasses import replace

import numpy as np
import pytest

from plada.common.arrays import F32, I64
from plada.labeler.embedded_target import EmbeddedSplit, EmbeddedTarget
from plada.labeler.pseudo_labels import PseudoLabels
from plada.selection.corrections import Corrected
from plada.selection.folds import ENOUGH, Folds
from plada.selection.prepare import JudgeSpec, prepare
from plada.selection.views import NOISY, OTHER, OWN, second_index
from tests.selection.test_auto import world


def folds_of(labels: PseudoLabels, vectors: F32, target: EmbeddedTarget, mean: F32, spec: JudgeSpec) -> Folds:
    judge = prepare(labels, lambda p: vectors[p], mean, target, judge=spec).judge
    assert judge is not None
    return judge.folds


def own_folds(*, spec: JudgeSpec | None = None) -> tuple[Folds, PseudoLabels, F32]:
    labels, vectors, target, mean = world()
    nothing = EmbeddedSplit(target.vectors[:0], target.labels[:0], 0)
    spec = spec or JudgeSpec(own_teachers=True)
    return folds_of(labels, vectors, EmbeddedTarget(target, nothing), mean, spec), labels, vectors


def test_each_image_is_held_out_once_and_seen_by_no_part_of_its_fold() -> None:
    folds, _, _ = own_folds()
    held = np.zeros(60, np.int64)
    for fold in folds:
        held += fold.held_out
        seen = {row.tobytes() for row in fold.context.target}
        hidden = {row.tobytes() for row in folds.context.target[fold.held_out]}
        assert not seen & hidden
        assert len(fold.context.target) + len(fold.held_out_labels) == 60
    assert held.tolist() == [1] * 60
    assert folds.inflation == pytest.approx(2.25)


def test_a_fold_is_the_same_whatever_it_holds_out() -> None:
    """Images that are held out are exchanged for nonsense: labels, axes and the space of the fold stay as they are."""
    folds, _, _ = own_folds()
    first = next(iter(folds))
    spoilt = folds.context.target.copy()
    spoilt[first.held_out] = np.random.default_rng(1).normal(size=spoilt[first.held_out].shape)
    other = next(iter(replace(folds, context=replace(folds.context, target=spoilt))))
    assert np.array_equal(first.held_out, other.held_out)
    assert np.array_equal(first.labels.labels, other.labels.labels)
    for name, score in first.labels.scores.items():
        np.testing.assert_array_equal(score, other.labels.scores[name])
    assert first.context.space is not None
    assert other.context.space is not None
    np.testing.assert_array_equal(first.context.space.axes, other.context.space.axes)
    np.testing.assert_array_equal(first.context.space.points, other.context.space.points)


def test_a_persons_labels_and_the_classes_as_they_are_sent_hold_in_every_fold() -> None:
    labels, vectors, target, mean = world()
    positions: I64 = np.array([5, 700])
    given = (labels.labels[positions] + 1) % 3
    whole = np.array([10_000, 2000, 500])
    nothing = EmbeddedSplit(target.vectors[:0], target.labels[:0], 0)
    spec = JudgeSpec(own_teachers=True, corrected=Corrected(labels, positions, given))
    for fold in folds_of(replace(labels, whole=whole), vectors, EmbeddedTarget(target, nothing), mean, spec):
        assert fold.labels.labels[positions].tolist() == given.tolist()
        assert fold.labels.population().tolist() == whole.tolist()


def test_many_validation_images_are_one_fold() -> None:
    labels, vectors, target, mean = world()
    more = EmbeddedSplit(np.repeat(target.vectors, 10, axis=0)[:ENOUGH], np.repeat(target.labels, 10)[:ENOUGH], 0)
    folds = folds_of(labels, vectors, EmbeddedTarget(target, more), mean, JudgeSpec(own_teachers=False))
    assert [len(fold.held_out_labels) for fold in folds] == [ENOUGH]
    assert next(iter(folds)).labels is labels


def test_a_class_of_one_image_is_never_held() -> None:
    folds, _, _ = own_folds(spec=JudgeSpec(own_teachers=False))
    single = replace(folds.context, target=folds.context.target[:41], target_labels=folds.context.target_labels[:41])
    for fold in replace(folds, context=single):
        assert np.bincount(fold.context.target_labels, minlength=3).min() >= 1


def test_classes_of_one_image_take_no_fold_from_the_others() -> None:
    """Every other image is still held out once; where no class has two, nothing is judged."""
    folds, _, _ = own_folds(spec=JudgeSpec(own_teachers=False))
    truth = folds.context.target_labels
    first = np.array([np.flatnonzero(truth == label)[0] for label in range(3)])
    rows = np.sort(np.concatenate([np.flatnonzero(truth == 0), first[1:]]))
    single = replace(
        folds, context=replace(folds.context, target=folds.context.target[rows], target_labels=truth[rows])
    )
    assert len(single) == 5
    assert np.sum(single.parts, axis=0).tolist() == (truth[rows] == 0).astype(int).tolist()
    alone = replace(
        folds, context=replace(folds.context, target=folds.context.target[first], target_labels=truth[first])
    )
    assert len(alone) == 0


@pytest.mark.parametrize("copied", [1 << 19, 0])
def test_a_second_view_is_a_noisy_copy_or_another_index(copied: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise of its own each image has, whether a copy is held or noise is added when it is asked for."""
    monkeypatch.setattr("plada.selection.views._COPIED", copied)
    monkeypatch.setattr("plada.selection.space.HALF", copied)
    folds, labels, vectors = own_folds()
    own, noisy = next(iter(folds)).views
    positions = labels.positions[:200]
    assert (own.name, noisy.name) == (OWN, NOISY)
    moved = noisy.points(positions) - own.points(positions)
    assert folds.context.space is not None
    np.testing.assert_allclose(moved.std(axis=0), 0.5 * folds.context.space.points.std(axis=0), rtol=0.3)
    np.testing.assert_array_equal(noisy.points(positions[::-1]), noisy.points(positions)[::-1])
    again = next(iter(folds)).views[1]
    np.testing.assert_array_equal(again.points(positions), noisy.points(positions))

    turned = vectors[:, ::-1] ** 2
    other = second_index(lambda p: turned[p], labels.positions, turned.mean(axis=0), folds.context.target[:, ::-1] ** 2)
    view = next(iter(replace(folds, other=other))).views[1]
    assert view.name == OTHER
    student = view.student(positions, labels.labels[positions], 3)
    assert student.logits(view.held_out).shape == (12, 3)
