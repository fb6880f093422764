"""Choosing images from pseudo-labels: the rule, the number that fits, the payload."""

from dataclasses import dataclass

import numpy as np

from plada.common.arrays import I64
from plada.common.progress import Report, Tracker
from plada.labeler.embedded_target import EmbeddedTarget
from plada.labeler.label import ChooseRows, LabelledReference
from plada.labeler.pseudo_labels import PseudoLabels
from plada.labeler.teachers import Ensemble
from plada.payload.payload import Payload
from plada.retrieval.embeddings import Vectors
from plada.selection.auto import RuleChoice, choose_rule
from plada.selection.compose import Composer
from plada.selection.prepare import RuleInputs, prepare
from plada.selection.rules.registry import AUTO, BLIND, DEFAULT, RULES
from plada.selection.rules.rule import Chosen

_PACK_GAIN = 1.7  # times the images that fit at most where clients have the pack (docs/log.md: 0.6 of the bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionSpec:
    """What is asked of a choice: the rule, or AUTO; bytes of the file; a number of images instead (None: all that fit)."""

    rule: str
    budget: int
    keep: int | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Draft:
    """Images chosen from `labels`, the payload of them, and how the rule was chosen."""

    labels: PseudoLabels
    choice: RuleChoice
    payload: Payload

    @property
    def chosen(self) -> Chosen:
        """The chosen rows of `labels`."""
        return self.choice.trial.selection


def choose_images(
    labels: PseudoLabels,
    composer: Composer,
    labelled: LabelledReference,
    embedded: EmbeddedTarget,
    ensemble: Ensemble,
    spec: SelectionSpec,
    report: Report,
) -> Draft:
    """Choose among `labels` (those of `labelled`, corrected) as many images as fit.

    Raises:
        BudgetTooSmall: not one label a class fits. RequestError: as many images as are wanted do not fit.
    """
    prepared = prepare(
        labels, labelled.vectors, composer.index.mean, embedded, own_teachers=ensemble.linear, penalty=ensemble.penalty,
        seed=spec.seed, axes_from=labelled.axes_from, likely=labelled.likely,
    )  # fmt: skip
    tracker = Tracker("choose", None, report)
    rule = None if spec.rule == AUTO else spec.rule
    choice = choose_rule(
        labels, prepared.context, prepared.folds, lambda chosen: composer.size(labels, chosen.rows),
        approximate_size=(lambda chosen: composer.approximate_size(labels, chosen.rows)) if composer.approximate_sender else None,
        budget=spec.budget, min_images=int((labels.counts() > 0).sum()), keep=spec.keep,
        only=rule if rule is not None or len(embedded.train.labels) else BLIND,
        advance=lambda name: tracker.say(f"trying {name}"),
    )  # fmt: skip
    return Draft(labels, choice, composer.payload(labels, choice.trial.selection.rows))


def row_chooser(composer: Composer, embedded: EmbeddedTarget, spec: SelectionSpec) -> ChooseRows | None:
    """What the rule (of `auto` the default) would choose of some pseudo-labels, unjudged; None for rules that do not look at
    the target: the candidates of one pass hold what these choose."""
    rule = DEFAULT if spec.rule == AUTO else spec.rule
    if not RULES[rule].sees_target or not len(embedded.train.labels):
        return None
    budget = spec.budget if composer.approximate_sender is None else int(spec.budget * _PACK_GAIN)
    kept: list[RuleInputs] = []  # the axes are the same as long as the positions are

    def choose_rows(labels: PseudoLabels, vectors: Vectors) -> I64:
        if not kept or not np.array_equal(kept[0].labels.positions, labels.positions):
            mean, seed = composer.index.mean, spec.seed
            kept[:] = [prepare(labels, vectors, mean, embedded, own_teachers=False, judge=False, seed=seed)]
        choice = choose_rule(
            labels, kept[0].context, [], lambda chosen: composer.approximate_size(labels, chosen.rows),
            budget=budget, min_images=int((labels.counts() > 0).sum()), keep=spec.keep, only=rule,
        )  # fmt: skip
        return choice.trial.selection.rows

    return choose_rows
