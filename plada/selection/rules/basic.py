"""The paper's rules, and class balance by a score or by chance."""

import numpy as np
import numpy.typing as npt

from plada.labeler.pseudo_labels import PseudoLabels
from plada.labeler.scores import consensus
from plada.labeler.splits import stratified
from plada.networks.linear_head import PENALTY, fit_head
from plada.selection.folds import PARTS
from plada.selection.quotas import balanced_quotas, prior_shares, reliable_counts, safety_net_quotas, weighted_quotas
from plada.selection.rules.rule import Choose, Chosen, Context, Prepare, best_first, first_of_each_class, in_order_of

SAFETY_SHARE = 0.5  # s: share of the kept images that quotas reserve; the paper gives no number (design.md section 6)


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
            quotas = safety_net_quotas(labels.population(), round(SAFETY_SHARE * k), alpha, most=labels.counts())
            reserved = first_of_each_class(labels, order, quotas)
            rest = order[~np.isin(order, reserved)]
            return in_order_of(score, np.concatenate([reserved, rest[: k - len(reserved)]]))

        return choose

    return prepare


def lowest(name: str) -> Prepare:
    """The k lowest scores. With `energy`: the highest energy, what the paper takes for targets far from the reference."""

    def prepare(labels: PseudoLabels, context: Context) -> Choose:
        score = np.asarray(-labels.scores[name], np.float32)
        order = best_first(score)
        return lambda k: Chosen(order[:k], score[order[:k]])

    return prepare


def agreed(names: tuple[str, ...]) -> Prepare:
    """The k images that all of the scores rank high (the paper's consensus, eq. 10 and 11)."""

    def prepare(labels: PseudoLabels, context: Context) -> Choose:
        score = consensus([labels.scores[name] for name in names])
        order = best_first(score)
        return lambda k: Chosen(order[:k], score[order[:k]])

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


def prior(name: str) -> Prepare:
    """Classes in the shares that they have among the target's training images, the highest scores of each."""

    def prepare(labels: PseudoLabels, context: Context) -> Choose:
        order = best_first(labels.scores[name])
        shares = prior_shares(context.target_labels, labels.classes)

        def choose(k: int) -> Chosen:
            rows = first_of_each_class(labels, order, weighted_quotas(labels.counts(), k, shares))
            return in_order_of(labels.scores[name], rows)

        return choose

    return prepare


def reliable(name: str) -> Prepare:
    """As `balanced`, but of each class no more than as many as the teacher's labels of it are thought right; what that
    leaves unused the other classes get, and what is doubtful comes when all that is not is taken."""

    def prepare(labels: PseudoLabels, context: Context) -> Choose:
        order, counts = best_first(labels.scores[name]), labels.counts()
        caps = reliable_counts(counts, _reliability(labels.classes, context))

        def choose(k: int) -> Chosen:
            quotas = balanced_quotas(caps, k)
            quotas = quotas + balanced_quotas(counts - quotas, k - int(quotas.sum()))
            return in_order_of(labels.scores[name], first_of_each_class(labels, order, quotas))

        return choose

    return prepare


def _reliability(classes: int, context: Context) -> npt.NDArray[np.float64]:
    """How often a linear teacher that calls an image of the target by a class is right, [classes]: heads of four fifths asked
    about the last one. A class that none is called by counts as half right."""
    images, wanted = context.goals(), context.target_labels
    place = stratified(wanted, PARTS, seed=context.seed)
    called, right = np.ones(classes), np.full(classes, 0.5)
    for part in range(PARTS):
        held = place == part
        if not held.any() or held.all():
            continue
        zero = np.zeros(images.shape[1], np.float32)
        head = fit_head(images[~held], wanted[~held], classes=classes, mean=zero, penalty=PENALTY)
        answers = head.logits(images[held]).argmax(axis=1)
        called += np.bincount(answers, minlength=classes)
        right += np.bincount(answers[answers == wanted[held]], minlength=classes)
    return np.asarray(right / called, np.float64)


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
