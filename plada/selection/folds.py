"""Parts of a target, each held out once, so that rules are judged on images that neither teacher nor rule has seen.

A fold is made as the whole selection is, from what it sees alone: its axes, its teacher with a penalty of its own, its labels of
the candidates with a person's corrections. Folds are made one at a time, because each holds points of all candidates.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from plada.common.arrays import F32, I64, Bools
from plada.labeler.linear_teacher import CROSS_PENALTIES, cross_validate
from plada.labeler.pseudo_labels import PseudoLabels, pseudo_label
from plada.labeler.splits import stratified
from plada.networks.linear_head import fit_head
from plada.selection.corrections import Corrected, relabelled
from plada.selection.rules.rule import Context
from plada.selection.space import Space, space_of_others
from plada.selection.views import SecondIndex, View, noisy_view, other_view, own_view

PARTS = 5
ENOUGH = 500  # validation images from which on they alone are judged on, and one fold is enough
# A fold's teacher has a penalty of its own, from a coarser search than the teacher that labels for clients.
_PENALTIES, _PENALTY_PARTS, _PENALTY_STEPS = CROSS_PENALTIES[::2], 3, 40
_BLOCK = 16_384


@dataclass(frozen=True, slots=True)
class Fold:
    """A part of the target held out: bool [t] says which images; `labels` and `context` know nothing of them. `views` are where
    students are judged, `held_out_labels` int64 [h] the truth."""

    held_out: Bools
    labels: PseudoLabels
    context: Context
    views: tuple[View, ...]
    held_out_labels: I64


@dataclass(frozen=True, slots=True, kw_only=True)
class Folds:
    """The folds of a target, made one after the other.

    `labels` can be chosen from; `context` has all labelled images of the target, the last `validation` of them its validation
    images. With `own_teachers` each fold has its own linear teacher, which labels the candidates anew on the main axes. Else all
    share `labels`, whose teacher is too expensive to train five times: it has seen the held-out images, so accuracies come out
    too high. `corrected` are a person's labels, `other` another index of the reference to judge on.
    """

    labels: PseudoLabels
    context: Context
    validation: int
    own_teachers: bool
    corrected: Corrected | None = None
    other: SecondIndex | None = None

    @property
    def parts(self) -> list[Bools]:
        """What each fold holds out, bool [t]: fifths of all images, or the validation images alone where these are ENOUGH. The
        only image of a class is held out by none, and parts that would leave a class without an image are left out."""
        truth = self.context.target_labels
        single = np.bincount(truth, minlength=self.labels.classes)[truth] == 1
        if self.validation >= ENOUGH:
            parts = [~single & (np.arange(len(truth)) >= len(truth) - self.validation)]
        else:
            place = stratified(truth, PARTS, seed=self.context.seed)
            parts = [~single & (place == part) for part in range(PARTS)]
        return [part for part in parts if part.any() and np.bincount(truth[~part], minlength=self.labels.classes).all()]

    @property
    def inflation(self) -> float:
        """By how much the variance of a mean over all held-out images exceeds that of independent ones: those of a fold share a
        student, and students share images. 1 + J n_held / n_seen (Nadeau and Bengio 2003, for J folds)."""
        parts = self.parts
        held = sum(int(part.sum()) for part in parts)
        seen = len(parts) * len(self.context.target_labels) - held
        return 1 + len(parts) * held / max(seen, 1)

    @property
    def held(self) -> Bools:
        """Which images some fold holds out, bool [t]."""
        return np.asarray(np.any(self.parts, axis=0))

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[Fold]:
        for part in self.parts:
            yield self._fold(part)

    def whole(self) -> Fold:
        """What is really sent is chosen from: nothing is held out, and students are judged on the images that folds hold out."""
        context, held = self.context, self.held
        assert context.space is not None
        views = self._views(context.space, np.ones_like(held), held)
        return Fold(held, self.labels, context, views, context.target_labels[held])

    def _fold(self, held_out: Bools) -> Fold:
        context = self.context
        assert context.space is not None
        target, truth = _rows(context.target, ~held_out), context.target_labels
        space = space_of_others(context.space, target)
        seen = replace(context, target=target, target_labels=truth[~held_out], space=space)
        labels = self._labels(seen, space) if self.own_teachers else self.labels
        return Fold(held_out, labels, seen, self._views(space, ~held_out, held_out), truth[held_out])

    def _views(self, space: Space, seen: Bools, judged: Bools) -> tuple[View, View]:
        """Both views of the images `judged`, bool [t]; the other index's axes know those that are `seen`, as `space` does."""
        target = self.context.target[judged]
        if self.other is None:
            return own_view(space, target), noisy_view(space, target, seed=self.context.seed)
        mine = self.other.target
        return own_view(space, target), other_view(self.other, space.positions, mine[seen], mine[judged])

    def _labels(self, seen: Context, space: Space) -> PseudoLabels:
        """What a teacher of the images that are seen says of the candidates, with a person's corrections, and the classes counted
        over the whole reference as they are when they are sent."""
        points, truth, classes = space.of(seen.target), seen.target_labels, self.labels.classes
        zero = np.zeros(points.shape[1], np.float32)
        penalty, _ = cross_validate(
            points, truth, classes=classes, mean=zero, seed=seen.seed, parts=_PENALTY_PARTS, penalties=_PENALTIES,
            steps=_PENALTY_STEPS,
        )  # fmt: skip
        head = fit_head(points, truth, classes=classes, mean=zero, penalty=penalty)
        positions = self.labels.positions
        parts = (positions[start : start + _BLOCK] for start in range(0, len(positions), _BLOCK))
        labels = pseudo_label(((some, space.at(some)) for some in parts), head.logits, classes=classes)
        labels = replace(labels, whole=self.labels.whole)
        if self.corrected is not None:
            labels = relabelled(labels, self.corrected.positions, self.corrected.given)
        return labels


def _rows(vectors: F32, kept: Bools) -> F32:
    """The rows that are `kept`, bool [t]; no copy where these are the first ones, as where validation images are held out."""
    count = int(kept.sum())
    return vectors[:count] if kept[:count].all() else vectors[kept]
