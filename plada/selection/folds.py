"""Parts of a target, each held out once, so that rules are judged on images that neither teacher nor rule has seen."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from plada.common.arrays import F32, I64
from plada.labeler.pseudo_labels import PseudoLabels, pseudo_label
from plada.labeler.splits import stratified
from plada.networks.linear_head import PENALTY, fit_head
from plada.selection.rules.rule import Context

PARTS = 5
ENOUGH = 500  # validation images from which on they alone are judged on, and one fold is enough
_BLOCK = 16_384


@dataclass(frozen=True, slots=True)
class Fold:
    """A part of the target held out: `held_out` float32 [h, axes] (centred, as the context's students see it) with
    `held_out_labels` int64 [h], of which `labels` and `context` know nothing."""

    labels: PseudoLabels
    context: Context
    held_out: F32
    held_out_labels: I64


def cross_folds(
    labels: PseudoLabels, context: Context, *, validation: int, own_teachers: bool, penalty: float | None = None
) -> list[Fold]:
    """Folds of the images in `context` (all that the target has, `validation` of them at the end), or one fold where the
    validation images alone are ENOUGH. Empty where a class would be left without an image.

    With `own_teachers` each fold has its own linear teacher, which labels the candidates anew on the main axes. Else all share
    `labels`, whose teacher is too expensive to train five times: it has seen some of the held-out images, so accuracies come
    out too high, for all rules alike.
    """
    wanted = context.target_labels
    if validation >= ENOUGH:
        parts = [np.arange(len(wanted)) >= len(wanted) - validation]
    else:
        place = stratified(wanted, PARTS, seed=context.seed)
        parts = [place == part for part in range(PARTS)]
    folds = []
    for held_out in parts:
        seen = np.bincount(wanted[~held_out], minlength=labels.classes)
        if held_out.any() and seen.all():
            teacher_penalty = (PENALTY if penalty is None else penalty) if own_teachers else None
            folds.append(_fold(labels, context, held_out, teacher_penalty))
    return folds


def _fold(labels: PseudoLabels, context: Context, held_out: npt.NDArray[np.bool_], penalty: float | None) -> Fold:
    """The fold of one part; with a `penalty` its own teacher labels the candidates."""
    points = context.target_points()
    seen = replace(context, target=context.target[~held_out], target_labels=context.target_labels[~held_out])
    if penalty is not None:
        zero = np.zeros(points.shape[1], np.float32)
        head = fit_head(points[~held_out], seen.target_labels, classes=labels.classes, mean=zero, penalty=penalty)
        positions = (labels.positions[start : start + _BLOCK] for start in range(0, len(labels), _BLOCK))
        blocks = ((some, context.centred(some)) for some in positions)
        labels = pseudo_label(blocks, head.logits, classes=labels.classes)
    return Fold(labels, seen, points[held_out], context.target_labels[held_out])
