"""Herding: images whose mean, as they are added one by one, stays as near as it can to the mean of a class.

A student on embeddings learns mostly where a class lies. The images that are each nearest to the target
(plada.selection.rules.nearest) all lie on one side of it, that of the reference; herding balances them out.
"""

import numpy as np

from plada.common.arrays import F32, F64, I64
from plada.labeler.pseudo_labels import PseudoLabels
from plada.selection.rules.rule import Choose, Chosen, Context, Within, class_by_class, class_pools

POOL = 20  # candidates for each image that is kept: the largest margins
MIN_POOL = 64  # candidates of a class that herding chooses from at least
MAX_POOL = 16_384  # and at most: bounds the time of large budgets
MAX_TURNS = 512  # of herding in a class; where more images are wanted, each turn takes several
_MANY = 4096  # candidates beyond which turns are fewer: a turn looks at all of them
_MIN_TURNS = 64
SURE_SHARE = 0.2  # of a class, the largest margins, that bounded pools hold at most
CORE = 300  # images over all classes that `core` takes by herding
_CORE_SHARE = 0.5  # of a class, the largest margins, that they are taken from


def herd(labels: PseudoLabels, context: Context) -> Choose:
    """Class-balanced. Within a class, of the POOL times quota largest margins, images whose mean stays nearest to the mean of
    the target's training images of that class."""
    return class_by_class(labels, herd_within(labels, context))


def core(labels: PseudoLabels, context: Context) -> Choose:
    """Class-balanced. Within a class, its part of CORE images by herding among the surer half, then the largest margins."""
    pools = class_pools(labels)
    means = class_means(context.target_points(), context.target_labels, labels.classes)
    count = max(1, CORE // labels.classes)
    orders: dict[int, Chosen] = {}

    def whole(label: int) -> Chosen:
        """All images of a class in order."""
        if label not in orders:
            pool = pools[label]
            candidates = pool[: max(round(_CORE_SHARE * len(pool)), min(MIN_POOL, len(pool)))][:MAX_POOL]
            vectors = context.centred(labels.positions[candidates])
            first = candidates[herd_order(vectors, means[label], count)]
            rest = pool[np.isin(pool, first, invert=True)]
            rows = np.concatenate([first, rest])
            orders[label] = Chosen(rows, np.arange(len(rows), 0, -1).astype(np.float32))
        return orders[label]

    def within(label: int, quota: int) -> Chosen:
        chosen = whole(label)
        return Chosen(chosen.rows[:quota], chosen.scores[:quota])

    return class_by_class(labels, within)


def herd_within(labels: PseudoLabels, context: Context, *, share: float = 1.0) -> Within:
    """Herding within a class, for any quota. Pools grow in powers of two, so that one order serves many quotas; the score of
    an image is its cosine to the mean that is aimed at. A pool holds at most `share` of its class, but no less than the
    quota: with a large quota and all of the class, doubtful images would be herded as well."""
    pools = class_pools(labels)
    means = class_means(context.target_points(), context.target_labels, labels.classes)
    orders: dict[tuple[int, int], tuple[I64, F32]] = {}

    def within(label: int, quota: int) -> Chosen:
        wanted = max(POOL * quota, MIN_POOL)
        size = min(1 << (wanted - 1).bit_length(), MAX_POOL)
        if size > (bound := max(round(share * len(pools[label])), MIN_POOL, quota)):
            size = bound
        key = label, size
        if key not in orders or len(orders[key][0]) < min(quota, size, len(pools[label])):
            candidates = pools[label][:size]
            # Every quota that shares this pool is at most its size / POOL, unless the pool is the largest there is, or bounded.
            count = max(quota, min(size // POOL, len(candidates))) if share == 1 else len(candidates)
            vectors = context.centred(labels.positions[candidates])
            order = herd_order(vectors, means[label], count, turns=_turns(len(candidates)))
            orders[key] = candidates[order], _cosines(vectors, means[label])[order]
        rows, scores = orders[key]
        if quota > len(rows):  # more than the largest pool: the rest by margin
            more = np.setdiff1d(pools[label], rows, assume_unique=True)
            more = pools[label][np.isin(pools[label], more)][: quota - len(rows)]
            low = np.full(len(more), scores.min(initial=0), np.float32)
            return Chosen(np.concatenate([rows, more]), np.concatenate([scores, low]))
        return Chosen(rows[:quota], scores[:quota])

    return within


def _turns(candidates: int) -> int:
    return MAX_TURNS if candidates <= _MANY else max(_MIN_TURNS, (_MANY << 8) // candidates)


def class_means(vectors: F32, labels: I64, classes: int) -> F32:
    """Mean of the vectors [t, d] of each class, float32 [classes, d]; a class without any gets the mean of all."""
    means = np.tile(vectors.mean(axis=0) if len(vectors) else np.zeros(vectors.shape[1], np.float32), (classes, 1))
    for label in np.unique(labels):
        means[label] = vectors[labels == label].mean(axis=0)
    return np.asarray(means, np.float32)


def herd_order(candidates: F32, goal: F32, count: int, *, turns: int | None = None) -> I64:
    """The first `count` rows of `candidates` [n, d] in herding order (Welling 2009), int64 [count].

    Each row taken is the one that brings the mean of all taken so far nearest to `goal` [d]; ties go to the lower row.
    Nothing is taken twice. Costs count x n x d multiplications; with `turns` below `count`, each turn takes as many of
    the best rows as needed for that number of turns.
    """
    count = min(count, len(candidates))
    step = 1 if turns is None else max(1, -(-count // turns))
    rows = np.zeros(count, np.int64)
    lengths = np.einsum("nd,nd->n", candidates, candidates).astype(np.float64)
    wanted = (candidates @ goal).astype(np.float64)
    drawn = np.zeros(len(candidates), np.float64)  # inner products with the sum of what was taken
    for at in range(0, count, step):
        # |sum + z - n goal|^2 for n images taken, without what is the same for every z
        cost = lengths + 2 * drawn - 2 * (at + 1) * wanted
        size = min(step, count - at)
        best = np.array([cost.argmin()]) if size == 1 else _lowest(cost, size)
        rows[at : at + size] = best
        lengths[best] = np.inf
        drawn += candidates @ (candidates[best[0]] if size == 1 else candidates[best].sum(axis=0))
    return rows


def _cosines(vectors: F32, goal: F32) -> F32:
    lengths = np.linalg.norm(vectors, axis=1) * max(float(np.linalg.norm(goal)), 1e-12)
    return np.asarray(vectors @ goal / np.maximum(lengths, 1e-12), np.float32)


def _lowest(cost: F64, count: int) -> I64:
    """Places of the `count` lowest values, lowest first, ties by place: a stable sort's beginning without the sort."""
    if count >= len(cost):
        return np.argsort(cost, kind="stable")
    bound = np.partition(cost, count - 1)[count - 1]
    among = np.flatnonzero(cost <= bound)
    return among[np.argsort(cost[among], kind="stable")[:count]]
