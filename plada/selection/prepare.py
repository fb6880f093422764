"""From pseudo-labels to what rules and students work on: embeddings in memory, small axes, folds of the target."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plada.labeler.linear_teacher import Embedded
from plada.labeler.scores import PseudoLabels
from plada.selection.folds import Fold, cross_folds
from plada.selection.rules.rule import F32, I64, Context
from plada.selection.space import make_space

F16 = npt.NDArray[np.float16]
HELD = 1 << 30  # bytes of embeddings that are kept in memory; more are read when they are asked for


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
    train: Embedded,
    validation: Embedded,
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


def hold(
    positions: I64,
    dimension: int,
    blocks: Callable[[], Iterable[tuple[I64, F16]]],
    read: Callable[[I64], F16],
    *,
    limit: int = HELD,
) -> Callable[[I64], F16]:
    """A function that gives embeddings [m, d] of some of `positions` int64 [n] (rising): out of memory where they fit into
    `limit` bytes, taken from one pass over `blocks`, else by `read`."""
    if len(positions) * dimension * 2 > limit:
        return read
    kept = np.empty((len(positions), dimension), np.float16)
    for found, vectors in blocks():
        low, high = np.searchsorted(positions, [found[0], found[-1] + 1]) if len(found) else (0, 0)
        wanted = positions[low:high]
        kept[low:high] = vectors[np.searchsorted(found, wanted)]
    return lambda asked: kept[np.searchsorted(positions, asked)]
