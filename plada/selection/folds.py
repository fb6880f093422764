"""Parts of a target, each held back once, so that rules can be judged on images that neither teacher nor rule has seen."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from plada.common.statistics import probabilities
from plada.labeler.pseudo_labels import PseudoLabels, pseudo_label
from plada.labeler.splits import stratified
from plada.networks.linear_head import PENALTY, fit_head
from plada.selection.rules.rule import F32, I64, Context

PARTS = 5
ENOUGH = 500  # validation images from which on they alone are judged on, and one fold is enough
_BLOCK = 16_384


@dataclass(frozen=True, slots=True)
class Fold:
    """A part of the target held back. `labels` and `context` know nothing of `held` float32 [h, axes] (small, as the
    context's students see it), `held_labels` int64 [h]; `odds` float32 [h, c] are what a teacher says that has not seen
    them either."""

    labels: PseudoLabels
    context: Context
    held: F32
    held_labels: I64
    odds: F32


def cross_folds(
    labels: PseudoLabels, context: Context, *, validation: int, relabel: bool, penalty: float | None = None
) -> list[Fold]:
    """Folds of the images in `context` (all that the target has, `validation` of them at the end), or one fold where the
    validation images alone are ENOUGH. Empty where a class would be left without an image.

    `relabel`: each fold has its own linear teacher, which labels the candidates anew on the small axes; else all share
    `labels`, whose teacher is too expensive to train five times. Then held images are such as this teacher has seen, in
    part, and accuracies come out too good, for all rules alike.
    """
    wanted = context.target_labels
    if validation >= ENOUGH:
        held = np.arange(len(wanted)) >= len(wanted) - validation
        parts = [held]
    else:
        place = stratified(wanted, PARTS, seed=context.seed)
        parts = [place == part for part in range(PARTS)]
    folds = []
    for held in parts:
        seen = np.bincount(wanted[~held], minlength=labels.classes)
        if not held.any() or (seen == 0).any():
            continue
        folds.append(_fold(labels, context, held, relabel=relabel, penalty=PENALTY if penalty is None else penalty))
    return folds


def _fold(
    labels: PseudoLabels, context: Context, held: npt.NDArray[np.bool_], *, relabel: bool, penalty: float
) -> Fold:
    goals = context.goals()
    less = replace(context, target=context.target[~held], target_labels=context.target_labels[~held])
    zero = np.zeros(goals.shape[1], np.float32)
    head = fit_head(goals[~held], less.target_labels, classes=labels.classes, mean=zero, penalty=penalty)
    if relabel:
        blocks = (
            (labels.positions[start : start + _BLOCK], context.centred(labels.positions[start : start + _BLOCK]))
            for start in range(0, len(labels), _BLOCK)
        )
        labels = pseudo_label(blocks, head.logits, classes=labels.classes)
    return Fold(labels, less, goals[held], context.target_labels[held], probabilities(head.logits(goals[held])))


def held_images(folds: Sequence[Fold]) -> int:
    """Images that are judged on in all folds together."""
    return sum(len(fold.held_labels) for fold in folds)
