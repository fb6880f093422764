"""Rules: which k of the pseudo-labelled images are sent.

A rule chooses from (labels, k, context) k distinct rows of `labels`, best first. Ties go to the lower position, so the
same inputs give the same selection.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from plada.labeler.scores import PseudoLabels
from plada.selection.quotas import balanced_quotas, safety_net_quotas

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Context:
    """`vectors` gives the embeddings float32 [m, d] of positions [m]; `seed` is for what is random."""

    vectors: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float32]]
    seed: int = 0


Choose = Callable[[PseudoLabels, int, Context], Rows]


@dataclass(frozen=True, slots=True)
class Rule:
    """`score` names the score that orders what was chosen; `about` is one line for people."""

    choose: Choose
    score: str
    about: str


SAFETY_SHARE = 0.5  # s: share of the kept images that quotas reserve; the paper gives no number (design.md section 6)
SPREAD_POOL = 8  # candidates for each image that is kept, chosen by margin, before they are spread


def best_first(score: npt.NDArray[np.float32]) -> Rows:
    """Rows by falling score, equal scores by rising row."""
    return np.argsort(-score, kind="stable").astype(np.int64)


def highest(name: str) -> Choose:
    """The k highest scores over all classes together. With `energy`: the paper's pruning (section 2.2)."""

    def choose(labels: PseudoLabels, k: int, context: Context) -> Rows:
        return best_first(labels.scores[name])[:k]

    return choose


def safety_net(alpha: float) -> Choose:
    """The paper's rule: quotas proportional to N_c^alpha (eq. 6) for half of the images, the rest by energy."""

    def choose(labels: PseudoLabels, k: int, context: Context) -> Rows:
        quotas = safety_net_quotas(labels.counts(), round(SAFETY_SHARE * k), alpha)
        order = best_first(labels.scores["energy"])
        reserved = first_of_each_class(labels, order, quotas)
        rest = order[~np.isin(order, reserved)]
        kept = np.concatenate([reserved, rest[: k - len(reserved)]])
        return kept[np.argsort(-labels.scores["energy"][kept], kind="stable")]

    return choose


def balanced(name: str) -> Choose:
    """The same number of each class, the highest scores of each; what a small class lacks the others share."""

    def choose(labels: PseudoLabels, k: int, context: Context) -> Rows:
        order = best_first(labels.scores[name])
        kept = first_of_each_class(labels, order, balanced_quotas(labels.counts(), k))
        return kept[np.argsort(-labels.scores[name][kept], kind="stable")]

    return choose


def random(labels: PseudoLabels, k: int, context: Context) -> Rows:
    """Any k images: what every other rule has to beat."""
    return np.random.default_rng(context.seed).permutation(len(labels))[:k].astype(np.int64)


def balanced_random(labels: PseudoLabels, k: int, context: Context) -> Rows:
    """The same number of each class, any images of it."""
    order = np.random.default_rng(context.seed).permutation(len(labels)).astype(np.int64)
    return first_of_each_class(labels, order, balanced_quotas(labels.counts(), k))


def spread(labels: PseudoLabels, k: int, context: Context) -> Rows:
    """Class-balanced and different from each other: of SPREAD_POOL times the quota with the largest margins, k-means
    cells as many as the quota, and the largest margin of each cell (design.md section 9)."""
    quotas = balanced_quotas(labels.counts(), k)
    order = best_first(labels.scores["margin"])
    kept: list[Rows] = []
    for label, quota in enumerate(quotas.tolist()):
        pool = order[labels.labels[order] == label][: SPREAD_POOL * quota]
        if quota == 0 or len(pool) <= quota:
            kept.append(pool[:quota])
            continue
        cells = k_means_cells(context.vectors(labels.positions[pool]), quota, seed=context.seed)
        # pool is best first, so the first row of a cell is its best; an empty cell is filled with the next best.
        _, first = np.unique(cells, return_index=True)
        chosen = np.concatenate([np.sort(first), np.setdiff1d(np.arange(len(pool)), first)])[:quota]
        kept.append(pool[chosen])
    rows = np.concatenate(kept)
    return rows[np.argsort(-labels.scores["margin"][rows], kind="stable")]


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "spread": Rule(spread, "margin", "class-balanced, largest margins, different from each other"),
        "balanced": Rule(balanced("margin"), "margin", "class-balanced, largest margins"),
        "balanced-energy": Rule(balanced("energy"), "energy", "class-balanced, lowest energy"),
        "balanced-random": Rule(balanced_random, "margin", "class-balanced, otherwise any"),
        "paper": Rule(safety_net(0.5), "energy", "the paper's safety net with alpha 0.5"),
        "paper-0.2": Rule(safety_net(-0.2), "energy", "the paper's safety net with alpha -0.2"),
        "energy": Rule(highest("energy"), "energy", "the paper's plain rule: lowest energy"),
        "entropy": Rule(highest("entropy"), "entropy", "lowest entropy"),
        "margin": Rule(highest("margin"), "margin", "largest margins, whatever the class"),
        "random": Rule(random, "margin", "any images: what others have to beat"),
    }
)


def first_of_each_class(labels: PseudoLabels, order: Rows, quotas: npt.NDArray[np.int64]) -> Rows:
    """The first `quotas[c]` rows of class c in `order`, for every class; they keep that order."""
    by_class = order[np.argsort(labels.labels[order], kind="stable")]
    starts = np.concatenate([[0], np.cumsum(labels.counts())])
    kept = [by_class[starts[label] : starts[label] + quota] for label, quota in enumerate(quotas.tolist())]
    return np.concatenate(kept).astype(np.int64)


def k_means_cells(vectors: npt.NDArray[np.float32], cells: int, *, seed: int) -> npt.NDArray[np.int64]:
    """Cell of each vector, int64 [n], by ten rounds of FAISS's k-means from a seeded start."""
    import faiss

    vectors = np.ascontiguousarray(vectors, np.float32)
    means = faiss.Kmeans(vectors.shape[1], cells, niter=10, seed=seed + 1, min_points_per_centroid=1, verbose=False)
    means.train(vectors)
    return np.asarray(means.assign(vectors)[1], np.int64)
