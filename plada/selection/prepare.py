"""From pseudo-labels to what rules and students work on: embeddings in memory, small axes, folds of the target."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plada.labeler.linear_teacher import EmbeddedSplit
from plada.labeler.pseudo_labels import PseudoLabels
from plada.selection.folds import Fold, cross_folds
from plada.selection.rules.rule import F32, I64, Context
from plada.selection.space import make_space

F16 = npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Pseudo-labels to choose from with all that rules look at, and the folds that `auto` judges on."""

    labels: PseudoLabels
    context: Context
    folds: list[Fold]


def prepare(
    labels: PseudoLabels,
    vectors: Callable[[I64], npt.NDArray[np.floating]],
    mean: F32,
    train: EmbeddedSplit,
    validation: EmbeddedSplit,
    *,
    relabel: bool,
    penalty: float | None = None,
    judge: bool = True,
    seed: int = 0,
    blocks: I64 | None = None,
    around: I64 | None = None,
) -> Prepared:
    """`vectors` gives embeddings [m, d] of positions, `mean` is the reference's. Rules look at all labelled images of the
    target, validation too: no rule is judged by what it has looked at (plada.selection.folds), and none is sent. `blocks` is as in Context,
    `around` as in make_space."""
    known = train.and_more(validation)
    space = make_space(
        lambda positions: vectors(positions).astype(np.float32), labels.positions, mean, known.vectors, around=around
    )
    context = Context(
        lambda positions: vectors(positions).astype(np.float32), known.vectors, known.labels, seed, mean, space, blocks
    )
    folds: list[Fold] = []
    if judge and len(known.labels):
        folds = cross_folds(labels, context, validation=len(validation.labels), relabel=relabel, penalty=penalty)
    return Prepared(labels, context, folds)
