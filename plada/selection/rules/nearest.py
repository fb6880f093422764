"""Images nearest to the target's own training images: these say what the student will be asked about. No image of the
target is sent."""

from collections.abc import Iterable

import numpy as np

from plada.common.arrays import F32, I64
from plada.common.products import steady_product
from plada.labeler.pseudo_labels import PseudoLabels
from plada.selection.quotas import balanced_quotas
from plada.selection.rules.rule import Choose, Chosen, Context, class_by_class, class_pools, first_of_each_class

SURE_POOL = 8  # candidates for each image that `nearest-sure` keeps
DEPTH = 256  # neighbours that each target image looks at before the rest is taken by similarity alone
_BLOCK = 2048  # candidates that are compared at a time


def nearest(labels: PseudoLabels, context: Context) -> Choose:
    """Class-balanced. Within a class the target's training images, turn by turn, each take the nearest image that is still
    free among those that the teacher gives their class."""
    order, similarity = np.zeros(len(labels), np.int64), np.zeros(len(labels), np.float32)
    at = 0
    for label in range(labels.classes):
        rows = np.flatnonzero(labels.labels == label)
        mine = context.target[context.target_labels == label]
        if len(rows):
            blocks = (context.vectors(labels.positions[part]) for part in _parts(rows))
            taken, close = _nearest_order(blocks, len(rows), mine)
            order[at : at + len(rows)] = rows[taken]
            similarity[rows[taken]] = close
            at += len(rows)

    def choose(k: int) -> Chosen:
        rows = first_of_each_class(labels, order, balanced_quotas(labels.counts(), k))
        return Chosen(rows, similarity[rows])

    return choose


def nearest_sure(labels: PseudoLabels, context: Context) -> Choose:
    """As `nearest`, among the SURE_POOL times quota largest margins of each class: what the teacher doubts is left out while
    there is enough that it does not doubt."""
    pools = class_pools(labels)

    def within(label: int, quota: int) -> Chosen:
        candidates = pools[label][: SURE_POOL * quota]
        mine = context.target[context.target_labels == label]
        taken, close = nearest_order(context.vectors(labels.positions[candidates]), mine)
        return Chosen(candidates[taken[:quota]], close[:quota])

    return class_by_class(labels, within)


def nearest_order(candidates: F32, wanted: F32) -> tuple[I64, F32]:
    """(order int64 [n], similarity float32 [n]) of `candidates` [n, d], taken turn by turn by `wanted` [m, d].

    The similarity of a candidate is the largest one to any wanted image.

    In each turn every wanted image, in its given order, takes its nearest candidate (cosine) that is still free; the
    first k of the order are what k places would be filled with. Candidates that nobody reaches within DEPTH neighbours
    follow by their largest similarity. Ties go to the lower row. Both inputs have rows of length one.
    """
    return _nearest_order((candidates[part] for part in _parts(np.arange(len(candidates)))), len(candidates), wanted)


def _nearest_order(blocks: Iterable[F32], n: int, wanted: F32) -> tuple[I64, F32]:
    """The same for `n` candidates in blocks, each looked at once: memory holds one of them."""
    if not len(wanted) or not n:
        return np.arange(n), np.zeros(n, np.float32)
    depth = min(DEPTH, n)
    best = np.full(n, -1, np.float32)
    near = np.zeros((len(wanted), 0), np.int64)
    closest = np.zeros((len(wanted), 0), np.float32)
    start = 0
    for block in blocks:
        close = np.ascontiguousarray(steady_product(block, np.ascontiguousarray(wanted.T)).T)
        best[start : start + len(block)] = np.maximum(best[start : start + len(block)], close.max(axis=0))
        # Of equal ones the lower row: a stable sort of those known, which come first, and the new ones.
        both = np.hstack([closest, close])
        rows = np.hstack([near, np.tile(np.arange(start, start + len(block)), (len(wanted), 1))])
        top = np.argsort(-both, axis=1, kind="stable")[:, :depth]
        closest, near = np.take_along_axis(both, top, axis=1), np.take_along_axis(rows, top, axis=1)
        start += len(block)
    free = np.ones(n, np.bool_)
    order: list[int] = []
    cursor = np.zeros(len(wanted), np.int64)
    reaching = list(range(len(wanted)))
    while reaching:
        for row in reaching.copy():
            while cursor[row] < depth and not free[near[row, cursor[row]]]:
                cursor[row] += 1
            if cursor[row] == depth:
                reaching.remove(row)
                continue
            taken = int(near[row, cursor[row]])
            free[taken] = False
            order.append(taken)
    rest = np.flatnonzero(free)
    tail = rest[np.argsort(-best[rest], kind="stable")]
    complete = np.concatenate([np.asarray(order, np.int64), tail])
    return complete, best[complete]


def _parts(rows: I64) -> list[I64]:
    return [rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)]
