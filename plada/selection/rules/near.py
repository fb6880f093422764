"""Rules that look at the target's own training images: they say what the student will be asked about. No image of the
target is sent, only used."""

from collections.abc import Callable

import numpy as np

from plada.labeler.pseudo_labels import PseudoLabels
from plada.labeler.scores import density
from plada.selection.quotas import balanced_quotas
from plada.selection.rules.herding import herd_order
from plada.selection.rules.nearest import nearest_order
from plada.selection.rules.rule import (
    F32,
    I64,
    Choose,
    Chosen,
    Context,
    Prepare,
    best_first,
    class_pools,
    first_of_each_class,
)

SURE_POOL = 8  # candidates for each image that is kept by `nearest-sure`
LEAST_POOL = 64  # candidates of a class that herding chooses from at least
MOST_POOL = 16_384  # and at most: bounds the time of large budgets
NEAR_EQUAL = 1.0  # slack of herding by blocks: measured beside 0.1, 0.3 and 3 (docs/log.md)
_BLOCK = 16_384  # embeddings that are compared with the target's at a time
MOST_TURNS = 512  # of herding in a class; where more images are wanted, each turn takes several

Within = Callable[[int, int], Chosen]  # (class, quota) -> rows of that class, best first


def nearest(labels: PseudoLabels, context: Context) -> Choose:
    """Class-balanced; within a class the target's training images, turn by turn, each take the nearest image that is
    still free among those that the teacher calls by their class. Confidence plays no part: it picks archetypes, the
    target's own images pick what the student will be asked about (docs/log.md)."""
    order, similarity = np.zeros(len(labels), np.int64), np.zeros(len(labels), np.float32)
    at = 0
    for label in range(labels.classes):
        rows = np.flatnonzero(labels.labels == label)
        mine = context.target[context.target_labels == label]
        if len(rows):
            taken, close = nearest_order(context.vectors(labels.positions[rows]), mine)
            order[at : at + len(rows)] = rows[taken]
            similarity[rows[taken]] = close
            at += len(rows)

    def choose(k: int) -> Chosen:
        rows = first_of_each_class(labels, order, balanced_quotas(labels.counts(), k))
        return Chosen(rows, similarity[rows])

    return choose


def densest(labels: PseudoLabels, context: Context) -> Choose:
    """The k images that lie nearest to any training image of the target, whatever the class."""
    score = np.zeros(len(labels), np.float32)
    for start in range(0, len(labels), _BLOCK):
        rows = slice(start, start + _BLOCK)
        score[rows] = density(context.vectors(labels.positions[rows]), context.target)
    order = best_first(score)
    return lambda k: Chosen(order[:k], score[order[:k]])


def nearest_sure(labels: PseudoLabels, context: Context) -> Choose:
    """As `nearest`, among the SURE_POOL times quota largest margins of each class: what the teacher doubts is left out
    while there is enough that it does not."""
    return class_by_class(labels, nearest_within(labels, context))


def nearest_within(labels: PseudoLabels, context: Context) -> Within:
    """`nearest-sure` within a class, for any quota."""
    pools = class_pools(labels)

    def within(label: int, quota: int) -> Chosen:
        candidates = pools[label][: SURE_POOL * quota]
        mine = context.target[context.target_labels == label]
        taken, close = nearest_order(context.vectors(labels.positions[candidates]), mine)
        return Chosen(candidates[taken[:quota]], close[:quota])

    return within


def herd(pool: int) -> Prepare:
    """Class-balanced; within a class, of the `pool` times quota largest margins, images whose mean stays nearest to the
    mean of the target's training images of that class (plada.selection.rules.herding)."""

    def prepare(labels: PseudoLabels, context: Context) -> Choose:
        return class_by_class(labels, herd_within(pool)(labels, context))

    return prepare


def herd_within(pool: int, slack: float = 0.0) -> Callable[[PseudoLabels, Context], Within]:
    """Herding within a class, for any quota, of `pool` times as many candidates. With `slack` images of blocks that the class
    has images of already go before others that are as good, nearly: they cost fewer bytes (herding.herd_order)."""
    return lambda labels, context: _herd_within(labels, context, pool, slack)


def _herd_within(labels: PseudoLabels, context: Context, pool: int, slack: float = 0.0) -> Within:
    """Pools grow in powers of two, so that one order serves many quotas; the score of an image is its cosine to the mean
    that is aimed at."""
    pools = class_pools(labels)
    goals = class_means(context.goals(), context.target_labels, labels.classes)
    orders: dict[tuple[int, int], tuple[I64, F32]] = {}

    def within(label: int, quota: int) -> Chosen:
        wanted = max(pool * quota, LEAST_POOL)
        size = min(1 << (wanted - 1).bit_length(), MOST_POOL)
        key = label, size
        if key not in orders or len(orders[key][0]) < min(quota, len(pools[label])):
            candidates = pools[label][:size]
            # Every quota that shares this pool is at most its size / pool, unless the pool is the largest there is.
            count = max(quota, min(size // pool, len(candidates)))
            places = labels.positions[candidates]
            groups = context.block_of(places) if slack else None
            orders[key] = _herded(candidates, context.centred(places), goals[label], count, groups, slack)
        rows, scores = orders[key]
        if quota > len(rows):  # more than the largest pool: the rest by margin
            more = np.setdiff1d(pools[label], rows, assume_unique=True)
            more = pools[label][np.isin(pools[label], more)][: quota - len(rows)]
            low = np.full(len(more), scores.min(initial=0), np.float32)
            return Chosen(np.concatenate([rows, more]), np.concatenate([scores, low]))
        return Chosen(rows[:quota], scores[:quota])

    return within


def class_means(vectors: F32, labels: I64, classes: int) -> F32:
    """Mean of the vectors [t, d] of each class, float32 [classes, d]; a class without any gets the mean of all."""
    means = np.tile(vectors.mean(axis=0) if len(vectors) else np.zeros(vectors.shape[1], np.float32), (classes, 1))
    for label in np.unique(labels):
        means[label] = vectors[labels == label].mean(axis=0)
    return np.asarray(means, np.float32)


def class_by_class(labels: PseudoLabels, within: Within) -> Choose:
    """The same number of each class, each class chosen by `within`."""

    def choose(k: int) -> Chosen:
        return joined(within, balanced_quotas(labels.counts(), k))

    return choose


def joined(within: Within, quotas: I64) -> Chosen:
    """What `within` chooses for the quota of each class, class by class."""
    parts = [within(label, quota) for label, quota in enumerate(quotas.tolist()) if quota]
    return Chosen(np.concatenate([part.rows for part in parts]), np.concatenate([part.scores for part in parts]))


def _herded(candidates: I64, vectors: F32, goal: F32, count: int, groups: I64 | None, slack: float) -> tuple[I64, F32]:
    order = herd_order(vectors, goal, count, turns=MOST_TURNS, groups=groups, slack=slack)
    lengths = np.linalg.norm(vectors, axis=1) * max(float(np.linalg.norm(goal)), 1e-12)
    cosines = np.asarray(vectors @ goal / np.maximum(lengths, 1e-12), np.float32)
    return candidates[order], cosines[order]
