"""The paper's rules, and class balance by margin or by chance."""

import numpy as np

from plada.common.arrays import F32
from plada.labeler.pseudo_labels import PseudoLabels
from plada.labeler.scores import consensus
from plada.selection.quotas import balanced_quotas, safety_net_quotas
from plada.selection.rules.rule import Choose, Chosen, Context, Prepare, best_first, first_of_each_class, in_order_of

SAFETY_SHARE = 0.5  # s: share of the kept images that quotas reserve; the paper gives no number (design.md section 6)


def highest(name: str) -> Prepare:
    """The k highest scores over all classes together. With `energy`: the paper's pruning (section 2.2)."""
    return lambda labels, context: _highest(labels.scores[name])


def lowest(name: str) -> Prepare:
    """The k lowest scores. With `energy`: the highest energy, the paper's choice for targets far from the reference."""
    return lambda labels, context: _highest(np.asarray(-labels.scores[name], np.float32))


def agreed(names: tuple[str, ...]) -> Prepare:
    """The k images that all of the scores rank high (the paper's consensus, eq. 10 and 11)."""
    return lambda labels, context: _highest(consensus([labels.scores[name] for name in names]))


def _highest(score: F32) -> Choose:
    order = best_first(score)
    return lambda k: Chosen(order[:k], score[order[:k]])


def safety_net(alpha: float) -> Prepare:
    """The paper's rule: quotas proportional to N_c^alpha (eq. 6) for half of the images, the rest by energy."""

    def prepare(labels: PseudoLabels, context: Context) -> Choose:
        score = labels.scores["energy"]
        order = best_first(score)

        def choose(k: int) -> Chosen:
            quotas = safety_net_quotas(labels.population(), round(SAFETY_SHARE * k), alpha, available=labels.counts())
            reserved = first_of_each_class(labels, order, quotas)
            rest = order[~np.isin(order, reserved)]
            return in_order_of(score, np.concatenate([reserved, rest[: k - len(reserved)]]))

        return choose

    return prepare


def balanced(labels: PseudoLabels, context: Context) -> Choose:
    """The same number of each class, the largest margins of each; what a small class lacks the others share."""
    order = best_first(labels.scores["margin"])

    def choose(k: int) -> Chosen:
        rows = first_of_each_class(labels, order, balanced_quotas(labels.counts(), k))
        return in_order_of(labels.scores["margin"], rows)

    return choose


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
