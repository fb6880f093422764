"""From pseudo-labels to what rules and students work on: embeddings in memory, main axes, folds of the target."""

from dataclasses import dataclass

import numpy as np

from plada.common.arrays import F32, I64
from plada.labeler.embedded_target import EmbeddedTarget
from plada.labeler.pseudo_labels import PseudoLabels
from plada.retrieval.embeddings import Vectors, is_among
from plada.selection.folds import Fold, cross_folds
from plada.selection.rules.rule import Context
from plada.selection.space import make_space


@dataclass(frozen=True, slots=True)
class RuleInputs:
    """What rules need: pseudo-labels to choose from, all that rules look at, and the folds that `auto` judges on."""

    labels: PseudoLabels
    context: Context
    folds: list[Fold]


def prepare(
    labels: PseudoLabels,
    vectors: Vectors,
    mean: F32,
    embedded: EmbeddedTarget,
    *,
    own_teachers: bool,
    penalty: float | None = None,
    judge: bool = True,
    seed: int = 0,
    axes_from: I64 | None = None,
    likely: I64 | None = None,
) -> RuleInputs:
    """What rules need to choose from `labels`, and with `judge` the folds.

    `vectors` gives embeddings [m, d] of positions, `mean` is the reference's. Rules look at all labelled images of the target,
    validation too: no rule is judged on what it has looked at (plada.selection.folds), and none is sent. `own_teachers` and
    `penalty` are as in cross_folds, `axes_from` as in make_space. Of a large reference points are held, and rules judged, only
    for the images at `likely` int64 [m] (rising).
    """

    def points(positions: I64) -> F32:
        return vectors(positions).astype(np.float32)

    known = embedded.known
    held = labels.positions if likely is None else likely
    space = make_space(points, held, mean, known.vectors, axes_from=axes_from)
    context = Context(points, known.vectors, known.labels, seed, mean, space)
    folds: list[Fold] = []
    if judge and len(known.labels):
        validation = len(embedded.validation.labels)
        shown = labels if likely is None else labels.where(is_among(labels.positions, likely))
        folds = cross_folds(shown, context, validation=validation, own_teachers=own_teachers, penalty=penalty)
    return RuleInputs(labels, context, folds)
