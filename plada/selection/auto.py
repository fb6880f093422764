"""`auto`: the rule that teaches best, found by training the client's recipe in small, and never by a test image.

Every rule is tried on folds of the target's own images: a teacher, the rule and a student see what is not held, and the
student is judged on what is. Target images are never sent, so the teacher's own are as good for this as any. The sixty
images of a typical validation split cannot tell rules apart that differ by three points; five times as many can, nearly.
What they cannot tell apart is decided for the default.
"""

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from plada.errors import BudgetTooSmall, RequestError
from plada.labeler.calibration import interval
from plada.labeler.pseudo_labels import PseudoLabels
from plada.selection.budget import Trial, fill_budget
from plada.selection.folds import Fold
from plada.selection.rules.registry import DEFAULT, RULES
from plada.selection.rules.rule import F32, I64, Choose, Chosen, Context
from plada.selection.student import small_student

# Promising on eight real targets by validation (docs/selecting.md), the default first.
CANDIDATES = (DEFAULT, "herd", "paper", "high-energy", "random")
DOUBT = 1.64  # standard errors by which another rule must lead the default
FORECASTS = (0.25, 0.5, 2.0, 4.0)  # of the budget, at which the winner is judged too
FEWER = (0.5, 0.75)  # of the images that fit: fewer, surer ones may teach better
# Standard errors by which fewer images must lead. Stricter than between rules: what is small here gains from few images
# sooner than a network that is trained whole, and budget that is left over is of no use to anyone.
FEWER_DOUBT = 2.33
_PLATEAU = 0.005  # accuracy that a doubled budget must bring to be worth it

Measure = Callable[[Chosen], int]


@dataclass(frozen=True, slots=True)
class RuleTrial:
    """One rule at one number of images: bytes of its file, accuracy on held images (None: not judged), the lead over the
    default rule with its standard error, and the seconds that trying it took."""

    rule: str
    keep: int
    bytes: int
    validation_accuracy: float | None
    lead: float = 0.0
    error: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a student will reach on the target: `accuracy` with a 95 % interval, by the judged images; `points` are
    (bytes, accuracy) of the chosen rule at other budgets; from `enough` bytes on a doubled budget brings less than half
    a point (None: not within the budgets that were tried)."""

    accuracy: float
    interval: tuple[float, float]
    points: tuple[tuple[int, float], ...]
    enough: int | None


@dataclass(frozen=True, slots=True)
class HeldOutScores:
    """Right or wrong per held image of all folds (float64 [n], in 0..1), for one selection rule."""

    right: npt.NDArray[np.float64]

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())


@dataclass(frozen=True, slots=True)
class Auto:
    """The rule that won with its selection, all that was tried, and the forecast (None where nothing could be judged)."""

    rule: str
    trial: Trial[Chosen]
    tried: tuple[RuleTrial, ...]
    forecast: Forecast | None
    note: str


def choose_rule(
    labels: PseudoLabels,
    context: Context,
    folds: Sequence[Fold],
    measure: Measure,
    *,
    budget: int,
    least: int,
    rough: Measure | None = None,
    keep: int | None = None,
    only: str | None = None,
    candidates: Sequence[str] = CANDIDATES,
    default: str = DEFAULT,
    fewer: Sequence[float] = FEWER,
    forecast: bool = True,
    advance: Callable[[str], None] = lambda _: None,
) -> Auto:
    """Try `candidates` on the folds at the number of images that fits `budget`, and choose.

    `measure` gives the bytes of the whole file for a choice among `labels`. The default rule is left only for one that
    leads it by more than DOUBT standard errors of the difference, image by image. `keep` asks for that many images,
    which must fit; `only` names the one rule that is wanted, which is then judged alone. The rule that won is tried with the
    shares `fewer` of its images, too, and a share is kept that leads by more than FEWER_DOUBT standard errors. `rough` is a cheaper measure that
    is nearly proportional to `measure`: where sizes are dear, only the winner is measured again and again.

    Raises:
        BudgetTooSmall: not one label a class fits under any rule. RequestError: `keep` images do not fit.
    """
    names = [only] if only is not None else [default, *(name for name in candidates if name != default)]
    fill = _Fill(labels, context, measure, rough, budget, least, keep)
    if not folds:
        found = fill(names[0])
        told = f"; rule {names[0]} is what did best on others" if only is None else ""
        note = f"nothing to judge by: too few images of the target are labelled{told}"
        return Auto(names[0], found, (RuleTrial(names[0], found.k, found.bytes, None),), None, note)
    bench = _Bench(folds)
    trials: dict[str, Trial[Chosen]] = {}
    judged: dict[str, HeldOutScores] = {}
    tried: list[RuleTrial] = []
    refused: BudgetTooSmall | None = None
    for name in names:
        began = time.monotonic()
        advance(name)
        try:
            trials[name] = fill.nearly(name)
        except BudgetTooSmall as err:
            refused = err if refused is None or err.least < refused.least else refused
            continue
        judged[name] = bench.judge(name, trials[name].k)
        lead, error = _lead(judged[name], judged[next(iter(judged))])
        tried.append(
            RuleTrial(
                name, trials[name].k, trials[name].bytes, judged[name].accuracy, lead, error, time.monotonic() - began
            )
        )
    if not tried:
        assert refused is not None
        raise refused
    base = tried[0].rule
    winner = max(tried, key=lambda one: one.lead - DOUBT * one.error if one.rule != base else 0.0).rule
    final, best = fill(winner, trials[winner].k), judged[winner]
    tried = [replace(one, keep=final.k, bytes=final.bytes) if one.rule == winner else one for one in tried]
    note = "" if winner == base else f"{winner} led {base} on the target's own images by more than their noise"
    if only is None and keep is None:
        found, found_judged, less = _fewer(fill, final, best, bench, winner, fewer)
        tried += less
        if found.k < final.k:
            said = f"{found.k} images led {final.k} on the target's own images by more than their noise"
            final, best, note = found, found_judged, f"{note}; {said}" if note else said
    shares = FORECASTS if forecast and only is None else ()
    foreseen, more = _forecast(final, best, bench, winner, shares)
    return Auto(winner, final, (*tried, *more), foreseen, note)


def _fewer(
    fill: "_Fill", full: Trial[Chosen], judged: HeldOutScores, bench: "_Bench", rule: str, shares: Sequence[float]
) -> tuple[Trial[Chosen], HeldOutScores, list[RuleTrial]]:
    """(selection, its judgement, what was tried): `full`, or the share of its images that surely teaches better."""
    tried: list[RuleTrial] = []
    best, best_judged, highest = full, judged, 0.0
    for share in shares:
        began, k = time.monotonic(), round(full.k * share)
        if k < fill.least:
            continue
        try:
            trial = replace(fill, keep=k)(rule)
        except RequestError:  # all of a reference can take fewer bytes than a part of it
            continue
        found = bench.judge(rule, k)
        lead, error = _lead(found, judged)
        tried.append(RuleTrial(rule, k, trial.bytes, found.accuracy, lead, error, time.monotonic() - began))
        if lead - FEWER_DOUBT * error > highest:
            best, best_judged, highest = trial, found, lead - FEWER_DOUBT * error
    return best, best_judged, tried


class _Bench:
    """Judges rules on folds; each rule is prepared once a fold."""

    def __init__(self, folds: Sequence[Fold]) -> None:
        self.folds = folds
        self._prepared: dict[tuple[str, int], Choose] = {}

    def judge(self, rule: str, k: int) -> HeldOutScores:
        """Students in small of `rule` with `k` images, one a fold, on what the fold holds back."""
        parts = []
        for number, fold in enumerate(self.folds):
            key = rule, number
            if key not in self._prepared:
                self._prepared[key] = RULES[rule].prepare(fold.labels, fold.context)
            chosen = self._prepared[key](min(k, len(fold.labels)))
            head = small_student(fold.labels, fold.context, chosen.rows)
            parts.append(_rightness(head.logits(fold.held), fold.held_labels))
        return HeldOutScores(np.concatenate(parts))


def _rightness(logits: F32, labels: I64) -> npt.NDArray[np.float64]:
    return np.asarray(logits.argmax(axis=1) == labels, np.float64)


def _lead(one: HeldOutScores, base: HeldOutScores) -> tuple[float, float]:
    """(mean, standard error) of the difference, image by image: both saw the same images, so their luck cancels."""
    difference = one.right - base.right
    return float(difference.mean()), float(difference.std() / math.sqrt(len(difference)))


@dataclass(frozen=True, slots=True)
class _Fill:
    """The selection of a rule that fills the budget, or has `keep` images; each rule is prepared once."""

    labels: PseudoLabels
    context: Context
    measure: Measure
    rough: Measure | None
    budget: int
    least: int
    keep: int | None
    _prepared: dict[str, Choose] = field(default_factory=dict)

    def __call__(self, rule: str, guess: int | None = None) -> Trial[Chosen]:
        if self.keep is None:
            return self._search(rule, self.measure, self.budget, guess)
        keep = min(self.keep, len(self.labels))
        chosen = self._choose(rule)(keep)
        size = self.measure(chosen)
        if size > self.budget:
            raise RequestError(
                f"{keep} images need a file of {size} bytes under rule {rule}; the budget is {self.budget}. Give "
                f"--budget {size}, or a lower --keep"
            )
        return Trial(keep, size, chosen)

    def nearly(self, rule: str) -> Trial[Chosen]:
        """A selection of about the size, measured once."""
        if self.keep is not None or self.rough is None:
            return self(rule)
        first = self._search(rule, self.rough, self.budget, None)
        share = self.measure(first.made) / max(first.bytes, 1)
        if share > 1 and first.k == self.least:
            return self(rule)
        nearer = self._search(rule, self.rough, max(int(self.budget / share), first.bytes if share < 1 else 1), first.k)
        return Trial(nearer.k, round(nearer.bytes * share), nearer.made)

    def _search(self, rule: str, measure: Measure, budget: int, guess: int | None) -> Trial[Chosen]:
        choose = self._choose(rule)

        def make(k: int) -> tuple[Chosen, int]:
            chosen = choose(k)
            return chosen, measure(chosen)

        return fill_budget(
            make, budget=budget, least=self.least, most=len(self.labels), classes=self.least, guess=guess
        )

    def _choose(self, rule: str) -> Choose:
        if rule not in self._prepared:
            self._prepared[rule] = RULES[rule].prepare(self.labels, self.context)
        return self._prepared[rule]


def _forecast(
    trial: Trial[Chosen], judged: HeldOutScores, bench: _Bench, rule: str, shares: Sequence[float]
) -> tuple[Forecast, tuple[RuleTrial, ...]]:
    points, tried = [(trial.bytes, judged.accuracy)], []
    for share in shares:
        keep = round(trial.k * share)
        if not bench.folds[0].labels.classes <= keep <= min(len(fold.labels) for fold in bench.folds):
            continue
        began, size = time.monotonic(), round(trial.bytes * share)
        found = bench.judge(rule, keep).accuracy
        points.append((size, found))
        tried.append(RuleTrial(rule, keep, size, found, seconds=time.monotonic() - began))
    points.sort()
    images = len(judged.right)
    around = interval(round(judged.accuracy * images), images) or (0.0, 1.0)
    enough = next((size for (size, now), (_, then) in itertools.pairwise(points) if then - now < _PLATEAU), None)
    return Forecast(judged.accuracy, around, tuple(points), enough), tuple(tried)
