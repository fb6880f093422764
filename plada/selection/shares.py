"""Quotas that are corrected by what a student in small makes of them.

A student answers too often with the classes that its labelled images make broad, whether or not they have the most. A
round of training tells which: answers on the target's training images, counted, against how often each class is right.
Quotas follow the difference, for some rounds; the round that answered best is kept.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from plada.labeler.scores import PseudoLabels
from plada.labeler.teachers import probabilities
from plada.selection.near import Within, joined
from plada.selection.quotas import balanced_quotas, weighted_quotas
from plada.selection.rule import F32, I64, Choose, Chosen, Context, Prepare
from plada.selection.student import small_student

ROUNDS = 3  # of correction after the balanced start
RATE = 0.7  # exponent by which a class's share follows its lack of answers
_EASED = 0.2  # of an even share that is added to both counts: few answers say little
_LEAST = 0.1  # of an even share that every class keeps
_ALIKE = 1.3  # ratio of numbers of images within which shares are not looked for again: a search tries many near ones
_STEPS = 30  # of the student's training: near enough to count its answers


def evened(within_of: Callable[[PseudoLabels, Context], Within]) -> Prepare:
    """A rule that chooses within each class as `within_of` does, with corrected quotas."""

    def prepare(labels: PseudoLabels, context: Context) -> Choose:
        return _choose_evened(labels, context, within_of(labels, context))

    return prepare


def _choose_evened(labels: PseudoLabels, context: Context, within: Within) -> Choose:
    goals, wanted = context.goals(), context.target_labels
    prior = np.bincount(wanted, minlength=labels.classes) / max(len(wanted), 1)
    settled: dict[int, npt.NDArray[np.float64]] = {}  # shares by the number of images that they were found for

    def choose(k: int) -> Chosen:
        near = min(settled, key=lambda known: abs(np.log(known / k)), default=0)
        if near and max(near, k) <= _ALIKE * min(near, k):
            return joined(within, weighted_quotas(labels.counts(), k, settled[near]))
        quotas = balanced_quotas(labels.counts(), k)
        best = joined(within, quotas)
        if not len(wanted) or labels.classes < 2:
            return best
        chosen, highest, shares = best, -1.0, np.full(labels.classes, 1 / labels.classes)
        kept = shares
        for turn in range(ROUNDS + 1):
            if turn:
                quotas = weighted_quotas(labels.counts(), k, shares)
                chosen = joined(within, quotas)
            answers = _answers(labels, context, chosen.rows, goals)
            right = float((answers.argmax(axis=1) == wanted).mean())
            if right > highest:
                best, highest, kept = chosen, right, shares
            shares = _corrected(shares, prior, answers.mean(axis=0))
        settled[k] = kept
        return best

    return choose


def _answers(labels: PseudoLabels, context: Context, rows: I64, goals: F32) -> F32:
    """Odds [t, classes] that a student of `rows` gives the target's training images."""
    return probabilities(small_student(labels, context, rows, steps=_STEPS).logits(goals))


def _corrected(shares: npt.NDArray[np.float64], prior: npt.NDArray[np.float64], given: F32) -> npt.NDArray[np.float64]:
    even = 1 / len(shares)
    moved = shares * ((prior + _EASED * even) / (given + _EASED * even)) ** RATE
    moved = np.maximum(moved, _LEAST * even)
    return np.asarray(moved / moved.sum(), np.float64)
