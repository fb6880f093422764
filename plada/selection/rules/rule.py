"""What a rule is: prepared once with the pseudo-labels and a context, then asked for any number of images k.

So a search over budgets does not repeat what does not depend on k. Ties go to the lower position: the same inputs give the
same selection.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from plada.common.arrays import F32, I64
from plada.labeler.pseudo_labels import PseudoLabels
from plada.selection.quotas import balanced_quotas
from plada.selection.space import Space


@dataclass(frozen=True, slots=True)
class Context:
    """What a rule may look at besides scores.

    `vectors` gives the embeddings float32 [m, d] of positions [m]; `target` and `target_labels` are the embeddings
    float32 [t, d] and labels int64 [t] of the target's training images; `mean` float32 [d] is the reference's mean
    embedding (None: the origin); `seed` is for what is random.
    """

    vectors: Callable[[I64], F32]
    target: F32
    target_labels: I64
    seed: int = 0
    mean: F32 | None = None
    space: Space | None = None

    def centred(self, positions: I64) -> F32:
        """Embeddings less the reference's mean, on the axes of `space` where there is one, [m, axes]: what a small student
        sees."""
        if self.space is not None:
            return self.space.at(positions)
        vectors = self.vectors(positions)
        return vectors if self.mean is None else vectors - self.mean

    def target_points(self) -> F32:
        """The target's training images [t, axes], centred likewise."""
        if self.space is not None:
            return self.space.of(self.target)
        return self.target if self.mean is None else self.target - self.mean


@dataclass(frozen=True, slots=True)
class Chosen:
    """Rows int64 [k] of the pseudo-labels, best first within each class, and the score float32 [k] that put them in this
    order."""

    rows: I64
    scores: F32


Choose = Callable[[int], Chosen]
Prepare = Callable[[PseudoLabels, Context], Choose]
Within = Callable[[int, int], Chosen]  # (class, quota) -> rows of that class, best first


@dataclass(frozen=True, slots=True)
class Rule:
    """`about` is one line for people; `sees_target`: the rule looks at the target's training images; `scores`: names of the
    scores that it looks at."""

    prepare: Prepare
    about: str
    sees_target: bool = False
    scores: tuple[str, ...] = ("margin",)


def best_first(score: F32) -> I64:
    """Rows by falling score, equal scores by rising row."""
    return np.argsort(-score, kind="stable").astype(np.int64)


def in_order_of(score: F32, rows: I64) -> Chosen:
    """Rows sorted by their score, best first."""
    ordered = rows[np.argsort(-score[rows], kind="stable")]
    return Chosen(ordered, score[ordered])


def first_of_each_class(labels: PseudoLabels, order: I64, quotas: I64) -> I64:
    """The first quotas[c] rows of each class c in `order`, class by class."""
    kept = [mine[:quota] for mine, quota in zip(_by_class(labels, order), quotas.tolist(), strict=True)]
    return np.concatenate(kept).astype(np.int64)


def class_pools(labels: PseudoLabels) -> list[I64]:
    """Rows of each class by falling margin."""
    return _by_class(labels, best_first(labels.scores["margin"]))


def _by_class(labels: PseudoLabels, order: I64) -> list[I64]:
    """The rows of each class in `order`."""
    given = labels.labels[order]
    # Sixteen bits are sorted by counting.
    narrow = given.astype(np.uint16) if labels.classes <= 1 << 16 else given
    edges = np.cumsum(np.bincount(given, minlength=labels.classes))[:-1]
    return np.split(order[np.argsort(narrow, kind="stable")], edges)


def class_by_class(labels: PseudoLabels, within: Within) -> Choose:
    """The same number of each class, each class chosen by `within`."""
    return lambda k: with_quotas(within, balanced_quotas(labels.counts(), k))


def with_quotas(within: Within, quotas: I64) -> Chosen:
    """What `within` chooses for the quota of each class, class by class."""
    parts = [within(label, quota) for label, quota in enumerate(quotas.tolist()) if quota]
    return Chosen(np.concatenate([part.rows for part in parts]), np.concatenate([part.scores for part in parts]))
