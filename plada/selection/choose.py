"""Choosing images from pseudo-labels: the rule, the number that fits, the payload."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plada.common.arrays import I64
from plada.common.progress import Report, Tracker
from plada.labeler.embedded_target import EmbeddedTarget
from plada.labeler.label import ChooseRows, LabelledReference
from plada.labeler.pseudo_labels import PseudoLabels
from plada.payload.payload import Payload
from plada.retrieval.embeddings import Vectors
from plada.retrieval.index import Index
from plada.selection.auto import RuleChoice, choose_rule
from plada.selection.compose import Composer
from plada.selection.nearness import Nearness, measure_nearness
from plada.selection.prepare import JudgeSpec, RuleInputs, prepare
from plada.selection.rules.registry import AUTO, BLIND, DEFAULT, RULES
from plada.selection.rules.rule import Chosen

_PACK_GAIN = 1.7  # times the images that fit at most where clients have the pack (docs/log.md: 0.6 of the bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSpec:
    """Which rule chooses, and how it is judged.

    Attributes:
        name: `auto` tries some rules and takes the one that teaches best, judged on the target's own training and validation
            images; or a rule's name (docs/rules.md).
        judge: Another index of the same reference, opened or by name. Students are judged on its embeddings as well as on the
            index's own, in place of a noisy copy of these: give one whose encoder is like your clients'.
        compare: Forecast what a quantised head and shrunk pictures would give in the same bytes, too. Takes some minutes.

    Examples:
        >>> import plada
        >>> plada.select("characters", target="few", budget=200, rule=plada.RuleSpec(name="herd")).report.bytes <= 200
        True
    """

    name: str = AUTO
    judge: Index | str | Path | None = None
    compare: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionSpec:
    """What is asked of a choice: the rule, or AUTO; bytes of the file; a number of images instead (None: what teaches best)."""

    rule: str
    budget: int
    keep: int | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Draft:
    """Images chosen from `labels`, the payload of them, how the rule was chosen, and how near the reference comes to the target
    (None: it has no images)."""

    labels: PseudoLabels
    choice: RuleChoice
    payload: Payload
    nearness: Nearness | None

    @property
    def chosen(self) -> Chosen:
        """The chosen rows of `labels`."""
        return self.choice.trial.selection


def choose_images(
    labels: PseudoLabels,
    composer: Composer,
    labelled: LabelledReference,
    embedded: EmbeddedTarget,
    judge: JudgeSpec,
    spec: SelectionSpec,
    report: Report,
) -> Draft:
    """Choose among `labels` (those of `labelled`, corrected) the images that teach best, as many as fit.

    Raises:
        BudgetTooSmall: not one label a class fits. RequestError: as many images as are wanted do not fit.
    """
    tracker = Tracker("choose", None, report)
    tracker.say("reading embeddings")
    prepared = prepare(
        labels, labelled.vectors, composer.index.mean, embedded, judge=judge, seed=spec.seed, axes_from=labelled.axes_from, likely=labelled.likely,
    )  # fmt: skip
    rule = None if spec.rule == AUTO else spec.rule
    choice = choose_rule(
        labels, prepared.context, prepared.judge, lambda chosen: composer.size(labels, chosen.rows),
        approximate_size=(lambda chosen: composer.approximate_size(labels, chosen.rows)) if composer.approximate_sender else None,
        budget=spec.budget, min_images=int((labels.counts() > 0).sum()), keep=spec.keep,
        only=rule if rule is not None or len(embedded.train.labels) else BLIND,
        advance=tracker.say,
    )  # fmt: skip
    nearness = measure_nearness(prepared.context, composer.target.classes)
    return Draft(labels, choice, composer.payload(labels, choice.trial.selection.rows), nearness)


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
            kept[:] = [prepare(labels, vectors, mean, embedded, seed=seed)]
        choice = choose_rule(
            labels, kept[0].context, None, lambda chosen: composer.approximate_size(labels, chosen.rows),
            budget=budget, min_images=int((labels.counts() > 0).sum()), keep=spec.keep, only=rule,
        )  # fmt: skip
        return choice.trial.selection.rows

    return choose_rows
