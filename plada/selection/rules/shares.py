"""Quotas that are corrected by the answers of a small student.

A student answers too often with the classes whose labelled images are spread widely, whether or not these have the most. So
a small student is trained on the choice, and its answers on the target's training images are counted for each class and
compared with the truth. Quotas follow the difference, for some rounds; the round that answered best is kept. With two
classes a share is one number: a row of shares is tried.
"""

from collections.abc import Callable

import numpy as np

from plada.common.arrays import F32, F64, I64
from plada.common.statistics import softmax
from plada.labeler.pseudo_labels import PseudoLabels
from plada.selection.quotas import balanced_quotas, weighted_quotas
from plada.selection.rules.herding import SURE_SHARE, herd_within
from plada.selection.rules.rule import Choose, Chosen, Context, Within, with_quotas
from plada.selection.student import small_student

OfShares = Callable[[F64], Chosen]
Answers = Callable[[Chosen], tuple[F32, float, float]]

ROUNDS = 3  # of correction after the balanced start
# Shares of the first of two classes.
PAIRS = (0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.94)
MIN_IMAGES = 10  # of either class: of fewer a small student says little about a whole one
RATE = 0.7  # exponent by which a class's share follows its lack of answers
_EASED = 0.2  # of an even share that is added to both counts: few answers say little
_MIN_SHARE = 0.1  # of an even share that every class keeps
_SAME_SHARES = (
    1.3  # ratio of numbers of images within which shares are reused: a search over budgets tries many near ones
)
_MAX_ROWS = 4000  # images that these students are trained on
_NUMBERS = 1 << 24  # logits of the target's images that are looked at together: 64 MB
_STEPS = 30  # of the student's training: near enough to count its answers


def herd_even(labels: PseudoLabels, context: Context) -> Choose:
    """Herding within each class (plada.selection.rules.herding), with corrected quotas."""
    return _corrected_quotas(labels, context, herd_within(labels, context))


def herd_sure(labels: PseudoLabels, context: Context) -> Choose:
    """The same from the surest images of each class alone, SURE_SHARE of it."""
    return _corrected_quotas(labels, context, herd_within(labels, context, share=SURE_SHARE), rows=_MAX_ROWS)


def _corrected_quotas(labels: PseudoLabels, context: Context, within: Within, *, rows: int | None = None) -> Choose:
    """Herding with corrected quotas; students are trained on every n-th image where the choice has more than `rows`."""
    target_points, wanted = context.target_points(), context.target_labels
    prior = np.bincount(wanted, minlength=labels.classes) / max(len(wanted), 1)
    settled: dict[int, F64] = {}  # shares by the number of images that they were found for

    def choose(k: int) -> Chosen:
        near = min(settled, key=lambda known: abs(np.log(known / k)), default=0)
        if near and max(near, k) <= _SAME_SHARES * min(near, k):
            return with_quotas(within, weighted_quotas(labels.counts(), k, settled[near]))
        even = with_quotas(within, balanced_quotas(labels.counts(), k))
        if not len(wanted) or labels.classes < 2:
            return even
        search = _pairs if labels.classes == 2 else _rounds
        best, settled[k] = search(even, prior, of_shares=lambda shares: of_shares(k, shares), answers=answers)
        return best

    def of_shares(k: int, shares: F64) -> Chosen:
        return with_quotas(within, weighted_quotas(labels.counts(), k, shares))

    def answers(chosen: Chosen) -> tuple[F32, float, float]:
        """Mean probabilities [classes] that a student gives the target's images; how often it is right; its mean probability
        of the truth."""
        step = 1 if rows is None else -(-len(chosen.rows) // rows)
        student = small_student(labels, context, chosen.rows[::step], steps=_STEPS)
        some = max(1, _NUMBERS // labels.classes)
        blocks = [slice(start, start + some) for start in range(0, len(wanted), some)]
        parts = [_answers_of(student.logits(target_points[block]), wanted[block]) for block in blocks]
        if len(parts) == 1:
            return parts[0]
        sizes = [len(wanted[block]) for block in blocks]
        given, right, likely = (np.average(values, axis=0, weights=sizes) for values in zip(*parts, strict=True))
        return given.astype(np.float32), float(right), float(likely)

    return choose


def _answers_of(logits: F32, wanted: I64) -> tuple[F32, float, float]:
    """Mean probabilities [classes] of logits [t, classes]; share of right ones; mean probability of the truth."""
    given = softmax(logits)
    right = float((given.argmax(axis=1) == wanted).mean())
    return given.mean(axis=0), right, float(given[np.arange(len(wanted)), wanted].mean())


def _rounds(even: Chosen, prior: F64, *, of_shares: OfShares, answers: Answers) -> tuple[Chosen, F64]:
    """The round of correction that is right most often, and its shares."""
    shares = np.full(len(prior), 1 / len(prior))
    best, chosen, highest, kept = even, even, -1.0, shares
    for turn in range(ROUNDS + 1):
        if turn:
            chosen = of_shares(shares)
        given, right, _ = answers(chosen)
        if right > highest:
            best, highest, kept = chosen, right, shares
        shares = _corrected(shares, prior, given)
    return best, kept


def _pairs(even: Chosen, prior: F64, *, of_shares: OfShares, answers: Answers) -> tuple[Chosen, F64]:
    """The share of PAIRS under which the truth is likeliest: of every other one, then from the best to its neighbours while they
    are better. Mean probabilities, not answers: they change smoothly with the share, so the best by chance is nearly the best."""
    places = [
        place
        for place, share in enumerate(PAIRS)
        if share == 0.5 or min(share, 1 - share) * len(even.rows) >= MIN_IMAGES
    ]
    chosen: dict[int, Chosen] = {}
    likely: dict[int, float] = {}

    def look(place: int) -> None:
        if place in places and place not in likely:
            chosen[place] = of_shares(np.array([PAIRS[place], 1 - PAIRS[place]])) if PAIRS[place] != 0.5 else even
            likely[place] = answers(chosen[place])[2]

    for place in range(1, len(PAIRS), 2):
        look(place)
    look(PAIRS.index(0.5))
    best = -1
    while best != (best := max(sorted(likely), key=lambda place: likely[place])):
        look(best - 1)
        look(best + 1)
    return chosen[best], np.array([PAIRS[best], 1 - PAIRS[best]])


def _corrected(shares: F64, prior: F64, given: F32) -> F64:
    even = 1 / len(shares)
    moved = shares * ((prior + _EASED * even) / (given + _EASED * even)) ** RATE
    moved = np.maximum(moved, _MIN_SHARE * even)
    return np.asarray(moved / moved.sum(), np.float64)
