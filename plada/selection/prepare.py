"""From pseudo-labels to what rules and students work on: embeddings in memory, main axes, folds of the target."""

from dataclasses import dataclass

import numpy as np

from plada.common.arrays import F32, I64
from plada.labeler.embedded_target import EmbeddedTarget
from plada.labeler.pseudo_labels import PseudoLabels
from plada.retrieval.embeddings import Vectors, is_among
from plada.retrieval.index import Index
from plada.selection.auto import Judge
from plada.selection.corrections import Corrected
from plada.selection.folds import Folds
from plada.selection.rules.rule import Context
from plada.selection.space import make_space, reference_axes
from plada.selection.views import second_index


@dataclass(frozen=True, slots=True)
class RuleInputs:
    """What rules need: pseudo-labels to choose from, all that rules look at, and what `auto` judges on (None: nothing)."""

    labels: PseudoLabels
    context: Context
    judge: Judge | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSpec:
    """How rules are judged: `own_teachers` as in Folds; `corrected` are a person's labels; `other` another index of the
    reference, with the target's images in `other_target` as its encoder sees them."""

    own_teachers: bool
    corrected: Corrected | None = None
    other: Index | None = None
    other_target: EmbeddedTarget | None = None


def prepare(
    labels: PseudoLabels,
    vectors: Vectors,
    mean: F32,
    embedded: EmbeddedTarget,
    *,
    judge: JudgeSpec | None = None,
    seed: int = 0,
    axes_from: I64 | None = None,
    likely: I64 | None = None,
) -> RuleInputs:
    """What rules need to choose from `labels`, and with `judge` what they are judged on.

    `vectors` gives embeddings [m, d] of positions, `mean` is the reference's. Rules look at all labelled images of the target,
    validation too: no rule is judged on what it has looked at (plada.selection.folds), and none is sent. Axes are those of the
    images at `axes_from` where `labels` are only some of these. Of a large reference points are held, and rules judged, only for
    the images at `likely` int64 [m] (rising).
    """

    def points(positions: I64) -> F32:
        return vectors(positions).astype(np.float32)

    known = embedded.known
    held = labels.positions if likely is None else likely
    axes = reference_axes(points, held if axes_from is None else axes_from)
    context = Context(
        points, known.vectors, known.labels, seed, mean, make_space(points, held, mean, known.vectors, axes)
    )
    if judge is None or not len(known.labels):
        return RuleInputs(labels, context, None)
    other = None
    if judge.other is not None:
        assert judge.other_target is not None
        second = judge.other
        other = second_index(second.vectors, held, second.mean, judge.other_target.known.vectors)
    shown = labels if likely is None else labels.where(is_among(labels.positions, likely))
    folds = Folds(
        labels=shown,
        context=context,
        validation=len(embedded.validation.labels),
        own_teachers=judge.own_teachers,
        corrected=judge.corrected,
        other=other,
    )
    return RuleInputs(labels, context, Judge(folds) if len(folds) else None)
