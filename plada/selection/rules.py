"""Rules: which k of the pseudo-labelled images are sent.

A rule is prepared once, with (labels, context), and then gives for any k the chosen rows of `labels`, best first, so
that a search over budgets does not repeat what does not depend on k. Ties go to the lower position: the same inputs
give the same selection.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from plada.extras import require
from plada.labeler.scores import PseudoLabels
from plada.selection.nearest import nearest_order
from plada.selection.quotas import balanced_quotas, safety_net_quotas

I64 = npt.NDArray[np.int64]
F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Context:
    """What a rule may look at besides scores.

    `vectors` gives the embeddings float32 [m, d] of positions [m]; `target` and `target_labels` are the embeddings
    float32 [t, d] and labels int64 [t] of the target's training images; `seed` is for what is random.
    """

    vectors: Callable[[I64], F32]
    target: F32
    target_labels: I64
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Chosen:
    """Rows int64 [k] of the pseudo-labels, best first within each class, and the score float32 [k] that put them in this order."""

    rows: I64
    scores: F32


Choose = Callable[[int], Chosen]
Prepare = Callable[[PseudoLabels, Context], Choose]

SAFETY_SHARE = 0.5  # s: share of the kept images that quotas reserve; the paper gives no number (design.md section 6)
CELL_DIMENSIONS = 64
AXES_SAMPLE = 5000
SURE_POOL = 8  # candidates for each image that is kept by `nearest-sure`
SPREAD_POOL = 8  # candidates for each image that is kept, chosen by margin, before they are spread


@dataclass(frozen=True, slots=True)
class Rule:
    """`about` is one line for people."""

    prepare: Prepare
    about: str


def best_first(score: F32) -> I64:
    """Rows by falling score, equal scores by rising row."""
    return np.argsort(-score, kind="stable").astype(np.int64)


def in_order_of(score: F32, rows: I64) -> Chosen:
    """Rows sorted by their score, best first."""
    ordered = rows[np.argsort(-score[rows], kind="stable")]
    return Chosen(ordered, score[ordered])


def highest(name: str) -> Prepare:
    """The k highest scores over all classes together. With `energy`: the paper's pruning (section 2.2)."""

    def prepare(labels: PseudoLabels, context: Context) -> Choose:
        order = best_first(labels.scores[name])
        return lambda k: Chosen(order[:k], labels.scores[name][order[:k]])

    return prepare


def safety_net(alpha: float) -> Prepare:
    """The paper's rule: quotas proportional to N_c^alpha (eq. 6) for half of the images, the rest by energy."""

    def prepare(labels: PseudoLabels, context: Context) -> Choose:
        score = labels.scores["energy"]
        order = best_first(score)

        def choose(k: int) -> Chosen:
            quotas = safety_net_quotas(labels.counts(), round(SAFETY_SHARE * k), alpha)
            reserved = first_of_each_class(labels, order, quotas)
            rest = order[~np.isin(order, reserved)]
            return in_order_of(score, np.concatenate([reserved, rest[: k - len(reserved)]]))

        return choose

    return prepare


def balanced(name: str) -> Prepare:
    """The same number of each class, the highest scores of each; what a small class lacks the others share."""

    def prepare(labels: PseudoLabels, context: Context) -> Choose:
        order = best_first(labels.scores[name])

        def choose(k: int) -> Chosen:
            rows = first_of_each_class(labels, order, balanced_quotas(labels.counts(), k))
            return in_order_of(labels.scores[name], rows)

        return choose

    return prepare


def random(labels: PseudoLabels, context: Context) -> Choose:
    """Any k images: what every other rule has to beat."""
    order = np.random.default_rng(context.seed).permutation(len(labels)).astype(np.int64)
    return lambda k: in_order_of(labels.scores["margin"], order[:k])


def balanced_random(labels: PseudoLabels, context: Context) -> Choose:
    """The same number of each class, any images of it."""
    order = np.random.default_rng(context.seed).permutation(len(labels)).astype(np.int64)

    def choose(k: int) -> Chosen:
        rows = first_of_each_class(labels, order, balanced_quotas(labels.counts(), k))
        return in_order_of(labels.scores["margin"], rows)

    return choose


def spread(labels: PseudoLabels, context: Context) -> Choose:
    """Class-balanced and different from each other: of SPREAD_POOL times the quota with the largest margins, k-means
    cells as many as the quota, and the largest margin of each cell (design.md section 9)."""
    score = labels.scores["margin"]
    order = best_first(score)
    pools = [order[labels.labels[order] == label] for label in range(labels.classes)]
    sample = labels.positions[:: max(1, len(labels) // AXES_SAMPLE)]
    axes = principal_axes(context.vectors(sample))

    def choose(k: int) -> Chosen:
        kept: list[I64] = []
        for pool, quota in zip(pools, balanced_quotas(labels.counts(), k).tolist(), strict=True):
            candidates = pool[: SPREAD_POOL * quota]
            if quota == 0 or len(candidates) <= quota:
                kept.append(candidates[:quota])
                continue
            cells = k_means_cells(context.vectors(labels.positions[candidates]) @ axes, quota, seed=context.seed)
            # Candidates are best first, so the first row of a cell is its best; for an empty cell, the next best.
            _, first = np.unique(cells, return_index=True)
            rest = np.setdiff1d(np.arange(len(candidates)), first)
            kept.append(candidates[np.concatenate([np.sort(first), rest])[:quota]])
        return in_order_of(score, np.concatenate(kept))

    return choose


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


def nearest_sure(labels: PseudoLabels, context: Context) -> Choose:
    """As `nearest`, among the SURE_POOL times quota largest margins of each class: what the teacher doubts is left out
    while there is enough that it does not."""
    order = best_first(labels.scores["margin"])
    pools = [order[labels.labels[order] == label] for label in range(labels.classes)]

    def choose(k: int) -> Chosen:
        rows: list[I64] = []
        similarity: list[F32] = []
        for label, quota in enumerate(balanced_quotas(labels.counts(), k).tolist()):
            candidates = pools[label][: SURE_POOL * quota]
            mine = context.target[context.target_labels == label]
            taken, close = nearest_order(context.vectors(labels.positions[candidates]), mine)
            rows.append(candidates[taken[:quota]])
            similarity.append(close[:quota])
        return Chosen(np.concatenate(rows), np.concatenate(similarity))

    return choose


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "nearest-sure": Rule(
            nearest_sure, "class-balanced, nearest to the target's training images of the largest margins"
        ),
        "nearest": Rule(nearest, "class-balanced, nearest to the target's own training images"),
        "spread": Rule(spread, "class-balanced, largest margins, different from each other"),
        "balanced": Rule(balanced("margin"), "class-balanced, largest margins"),
        "balanced-energy": Rule(balanced("energy"), "class-balanced, lowest energy"),
        "balanced-random": Rule(balanced_random, "class-balanced, otherwise any"),
        "paper": Rule(safety_net(0.5), "the paper's safety net with alpha 0.5"),
        "paper-0.2": Rule(safety_net(-0.2), "the paper's safety net with alpha -0.2"),
        "energy": Rule(highest("energy"), "the paper's plain rule: lowest energy"),
        "entropy": Rule(highest("entropy"), "lowest entropy"),
        "margin": Rule(highest("margin"), "largest margins, whatever the class"),
        "random": Rule(random, "any images: what others have to beat"),
    }
)


def first_of_each_class(labels: PseudoLabels, order: I64, quotas: I64) -> I64:
    """The first `quotas[c]` rows of class c in `order`, for every class; they keep that order."""
    by_class = order[np.argsort(labels.labels[order], kind="stable")]
    starts = np.concatenate([[0], np.cumsum(labels.counts())])
    kept = [by_class[starts[label] : starts[label] + quota] for label, quota in enumerate(quotas.tolist())]
    return np.concatenate(kept).astype(np.int64)


def principal_axes(vectors: F32) -> F32:
    """The CELL_DIMENSIONS directions [d, m] of largest variance of vectors [n, d]. Cells are as good there as in all
    dimensions, and k-means is twenty times as fast for 1280."""
    _, axes = np.linalg.eigh(np.cov(vectors, rowvar=False))
    return np.ascontiguousarray(axes[:, ::-1][:, :CELL_DIMENSIONS], np.float32)


def k_means_cells(vectors: F32, cells: int, *, seed: int) -> I64:
    """Cell of each vector, int64 [n], by ten rounds of FAISS's k-means from a seeded start."""
    require("faiss", extra="cpu", purpose="rule spread")
    import faiss

    vectors = np.ascontiguousarray(vectors, np.float32)
    means = faiss.Kmeans(vectors.shape[1], cells, niter=10, seed=seed + 1, min_points_per_centroid=1, verbose=False)
    means.train(vectors)
    return np.asarray(means.assign(vectors)[1], np.int64)
