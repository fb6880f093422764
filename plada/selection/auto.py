"""`auto`: the rule that teaches best, found by training small students, and never by a test image.

Every rule is tried on folds of the target's own images: a teacher, the rule and a student see what is not held out, and the
student is judged on what is. Target images are never sent, so the teacher's own serve as well as any. The sixty images of a
typical validation split cannot tell rules apart that differ by three points; five times as many nearly can. Where they
cannot, the default rule is kept.
"""

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from plada.common.statistics import wilson
from plada.errors import BudgetTooSmall, RequestError
from plada.labeler.pseudo_labels import PseudoLabels
from plada.selection.budget import Trial, fill_budget
from plada.selection.folds import Fold
from plada.selection.rules.registry import AUTO, BLIND, DEFAULT, RULES
from plada.selection.rules.rule import Choose, Chosen, Context
from plada.selection.student import small_student

# Promising on eight real targets by validation (docs/selecting.md), the default first.
CANDIDATES = (DEFAULT, "herd", "paper", "high-energy", "random")
MIN_LEAD = 1.64  # standard errors by which another rule must lead the default
FORECASTS = (0.25, 0.5, 2.0, 4.0)  # of the budget, at which the winner is judged too
FEWER = (0.5, 0.75)  # of the images that fit: fewer, surer ones may teach better
# Standard errors by which fewer images must lead. Stricter than between rules: small students gain from few images sooner
# than a network that is trained whole, and budget that is left over is of no use to anyone.
MIN_LEAD_OF_FEWER = 2.33
_PLATEAU = 0.005  # accuracy that a doubled budget must bring to be worth it


def scores_of(rule: str) -> tuple[str, ...]:
    """Names of the scores that a rule looks at; of AUTO those of all that it tries."""
    return tuple(
        sorted({name for tried in ((*CANDIDATES, BLIND) if rule == AUTO else (rule,)) for name in RULES[tried].scores})
    )


FileSize = Callable[[Chosen], int]


@dataclass(frozen=True, slots=True)
class RuleTrial:
    """One rule at one number of images: bytes of its file, accuracy on held-out images (None: not judged), the lead over the
    default rule with its standard error, and the seconds that trying it took."""

    rule: str
    keep: int
    bytes: int
    validation_accuracy: float | None
    lead: float = 0.0
    error: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class AccuracyForecast:
    """What a student will reach on the target: `accuracy` with a 95 % interval, by the held-out images; `points` are
    (bytes, accuracy) of the chosen rule at other budgets; from `enough` bytes on a doubled budget brings less than half
    a point (None: not within the budgets that were tried)."""

    accuracy: float
    interval: tuple[float, float]
    points: tuple[tuple[int, float], ...]
    enough: int | None


@dataclass(frozen=True, slots=True)
class HeldOutScores:
    """Right (1) or wrong (0) for each held-out image of all folds, float64 [n], under one rule."""

    right: npt.NDArray[np.float64]

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())

    def lead_over(self, base: "HeldOutScores") -> tuple[float, float]:
        """(mean, standard error) of the difference, image by image: both saw the same images, so their luck cancels."""
        difference = self.right - base.right
        return float(difference.mean()), float(difference.std() / math.sqrt(len(difference)))


@dataclass(frozen=True, slots=True)
class RuleChoice:
    """The rule that won with its selection, all that was tried, and the forecast (None where nothing could be judged)."""

    rule: str
    trial: Trial[Chosen]
    tried: tuple[RuleTrial, ...]
    forecast: AccuracyForecast | None
    note: str


def choose_rule(
    labels: PseudoLabels,
    context: Context,
    folds: Sequence[Fold],
    file_size: FileSize,
    *,
    budget: int,
    min_images: int,
    approximate_size: FileSize | None = None,
    keep: int | None = None,
    only: str | None = None,
    candidates: Sequence[str] = CANDIDATES,
    default: str = DEFAULT,
    fewer: Sequence[float] = FEWER,
    forecast: bool = True,
    advance: Callable[[str], None] = lambda _: None,
) -> RuleChoice:
    """Try the rules `candidates` on the folds at the number of images that fits `budget`, and choose.

    `file_size` gives the bytes of the whole file for a choice among `labels`. The default rule is left only for one that
    leads it by more than MIN_LEAD standard errors of the difference, image by image. `keep` asks for that many images,
    which must fit; `only` names the one rule that is wanted, which is then judged alone. The rule that won is also tried with
    the shares `fewer` of its images, and a share is kept that leads by more than MIN_LEAD_OF_FEWER standard errors.
    `approximate_size` is nearly proportional to `file_size`: where exact sizes are slow, only the winner's are searched.

    Raises:
        BudgetTooSmall: not one label a class fits under any rule. RequestError: `keep` images do not fit.
    """
    names = [only] if only is not None else [default, *(name for name in candidates if name != default)]
    fill = _Filler(labels, context, file_size, approximate_size, budget, min_images, keep)
    if not folds:
        trial = fill(names[0])
        reason = f"; rule {names[0]} is what did best on others" if only is None else ""
        note = f"nothing to judge by: too few images of the target are labelled{reason}"
        return RuleChoice(names[0], trial, (RuleTrial(names[0], trial.k, trial.bytes, None),), None, note)

    # Each rule, judged at about the number of images that fits.
    judge = _Judge(folds)
    scores: dict[str, HeldOutScores] = {}
    tried: list[RuleTrial] = []
    refused: BudgetTooSmall | None = None
    for name in names:
        began = time.monotonic()
        advance(name)
        try:
            trial = fill.approximately(name)
        except BudgetTooSmall as err:
            refused = err if refused is None or err.least < refused.least else refused
            continue
        scores[name] = judge(name, trial.k)
        lead, error = scores[name].lead_over(next(iter(scores.values())))
        spent = time.monotonic() - began
        tried.append(RuleTrial(name, trial.k, trial.bytes, scores[name].accuracy, lead, error, spent))
    if not tried:
        assert refused is not None
        raise refused

    # The winner, and the largest selection of it that really fits.
    base = tried[0].rule
    best = max(tried, key=lambda each: each.lead - MIN_LEAD * each.error if each.rule != base else 0.0)
    rule, winner = best.rule, scores[best.rule]
    note = "" if rule == base else f"{rule} led {base} on the target's own images by more than their noise"
    final = fill(rule, best.keep)
    tried = [replace(each, keep=final.k, bytes=final.bytes) if each.rule == rule else each for each in tried]

    # Fewer, surer images, where these teach better.
    if only is None and keep is None:
        full = final
        final, winner, more = _fewer_images(fill, judge, rule, full, winner, fewer)
        tried += more
        if final.k < full.k:
            led = f"{final.k} images led {full.k} on the target's own images by more than their noise"
            note = f"{note}; {led}" if note else led

    prediction, more = _forecast(judge, rule, final, winner, FORECASTS if forecast and only is None else ())
    return RuleChoice(rule, final, (*tried, *more), prediction, note)


def _fewer_images(
    fill: "_Filler", judge: "_Judge", rule: str, full: Trial[Chosen], scores: HeldOutScores, shares: Sequence[float]
) -> tuple[Trial[Chosen], HeldOutScores, list[RuleTrial]]:
    """(selection, its scores, what was tried): `full`, or the share of its images that surely teaches better."""
    tried: list[RuleTrial] = []
    best, best_scores, highest = full, scores, 0.0
    for share in shares:
        began, k = time.monotonic(), round(full.k * share)
        if k < fill.min_images:
            continue
        try:
            trial = replace(fill, keep=k)(rule)
        except RequestError:  # all of a reference can take fewer bytes than a part of it
            continue
        judged = judge(rule, k)
        lead, error = judged.lead_over(scores)
        tried.append(RuleTrial(rule, k, trial.bytes, judged.accuracy, lead, error, time.monotonic() - began))
        if lead - MIN_LEAD_OF_FEWER * error > highest:
            best, best_scores, highest = trial, judged, lead - MIN_LEAD_OF_FEWER * error
    return best, best_scores, tried


def _forecast(
    judge: "_Judge", rule: str, trial: Trial[Chosen], scores: HeldOutScores, shares: Sequence[float]
) -> tuple[AccuracyForecast, list[RuleTrial]]:
    """(forecast, what was tried): the rule's accuracy, and its accuracy at shares of the budget."""
    points, tried = [(trial.bytes, scores.accuracy)], []
    for share in shares:
        began, k, size = time.monotonic(), round(trial.k * share), round(trial.bytes * share)
        if not judge.classes <= k <= judge.max_images:
            continue
        accuracy = judge(rule, k).accuracy
        points.append((size, accuracy))
        tried.append(RuleTrial(rule, k, size, accuracy, seconds=time.monotonic() - began))
    points.sort()
    images = len(scores.right)
    interval = wilson(round(scores.accuracy * images), images)
    enough = next((size for (size, now), (_, then) in itertools.pairwise(points) if then - now < _PLATEAU), None)
    return AccuracyForecast(scores.accuracy, interval, tuple(points), enough), tried


class _Judge:
    """Judges rules on folds; each rule is prepared once a fold."""

    def __init__(self, folds: Sequence[Fold]) -> None:
        self.folds = folds
        self.classes = folds[0].labels.classes
        self.max_images = min(len(fold.labels) for fold in folds)
        self._prepared: dict[tuple[str, int], Choose] = {}

    def __call__(self, rule: str, k: int) -> HeldOutScores:
        """Small students of `k` images that the rule chooses, one a fold, on what the fold holds out."""
        parts = []
        for number, fold in enumerate(self.folds):
            key = rule, number
            if key not in self._prepared:
                self._prepared[key] = RULES[rule].prepare(fold.labels, fold.context)
            chosen = self._prepared[key](min(k, len(fold.labels)))
            answers = small_student(fold.labels, fold.context, chosen.rows).logits(fold.held_out).argmax(axis=1)
            parts.append(np.asarray(answers == fold.held_out_labels, np.float64))
        return HeldOutScores(np.concatenate(parts))


@dataclass(frozen=True, slots=True)
class _Filler:
    """The selection of a rule that fills the budget, or has `keep` images; each rule is prepared once."""

    labels: PseudoLabels
    context: Context
    file_size: FileSize
    approximate_size: FileSize | None
    budget: int
    min_images: int
    keep: int | None
    _prepared: dict[str, Choose] = field(default_factory=dict)

    def __call__(self, rule: str, guess: int | None = None) -> Trial[Chosen]:
        """The largest selection that fits; `guess` is a number of images to try first.

        Raises:
            BudgetTooSmall: not one label a class fits. RequestError: `keep` images do not fit.
        """
        if self.keep is None:
            return self._search(rule, self.file_size, self.budget, guess)
        keep = min(self.keep, len(self.labels))
        chosen = self._choose(rule)(keep)
        size = self.file_size(chosen)
        if size > self.budget:
            raise RequestError(
                f"{keep} images need a file of {size} bytes under rule {rule}; the budget is {self.budget}. Give "
                f"--budget {size}, or a lower --keep"
            )
        return Trial(keep, size, chosen)

    def approximately(self, rule: str) -> Trial[Chosen]:
        """A selection of about the size, measured exactly only once."""
        if self.keep is not None or self.approximate_size is None:
            return self(rule)
        first = self._search(rule, self.approximate_size, self.budget, None)
        ratio = self.file_size(first.selection) / max(first.bytes, 1)
        if ratio > 1 and first.k == self.min_images:
            return self(rule)
        budget = max(int(self.budget / ratio), first.bytes if ratio < 1 else 1)
        nearer = self._search(rule, self.approximate_size, budget, first.k)
        return Trial(nearer.k, round(nearer.bytes * ratio), nearer.selection)

    def _search(self, rule: str, size_of: FileSize, budget: int, guess: int | None) -> Trial[Chosen]:
        choose = self._choose(rule)

        def select(k: int) -> tuple[Chosen, int]:
            chosen = choose(k)
            return chosen, size_of(chosen)

        return fill_budget(
            select,
            budget=budget,
            min_images=self.min_images,
            max_images=len(self.labels),
            classes=self.min_images,
            guess=guess,
        )

    def _choose(self, rule: str) -> Choose:
        if rule not in self._prepared:
            self._prepared[rule] = RULES[rule].prepare(self.labels, self.context)
        return self._prepared[rule]
