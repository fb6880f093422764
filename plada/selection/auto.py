"""`auto`: the rule and the number of images that teach best, found by training small students, and never by a test image.

Rules are tried at a row of numbers of images on folds of the target's own images: a teacher, the rule and a student see what is not
held out, and the student is judged on what is. Target images are never sent, so the teacher's own serve as well as any. Every
student is judged on two views (plada.selection.views), because clients seldom have the server's encoder. The curves of all rules are
smoothed together (plada.selection.curves), and the budget is a ceiling: fewer images are sent where they teach better.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from plada.common.arrays import F64, Bools
from plada.common.statistics import Z95, holm, sign_flip_p
from plada.errors import RequestError
from plada.labeler.pseudo_labels import PseudoLabels
from plada.selection.budget import Trial, fill_budget
from plada.selection.curves import Cell, Curves, smooth
from plada.selection.folds import Fold, Folds
from plada.selection.rules.registry import AUTO, BLIND, DEFAULT, RULES
from plada.selection.rules.rule import Choose, Chosen, Context

# The default first. docs/benchmarks.md says what each gives on targets that it was not chosen on.
CANDIDATES = (DEFAULT, "core", "nearest-sure", "spread", "balanced", "paper", "paper-0.2", "high-energy", "random")
LEVEL = 0.05  # of the test by which a rule must lead the default
ROW = 2.5  # ratio of neighbouring numbers of images that are tried
MIN_ROW = 20  # images from which on numbers are tried, or one a class where that is more
MANY = 2500  # images beyond which students take long, and only the best rules are tried
JUDGED = 1 << 17  # images of a choice that students are trained on at most: of more, no fewer are sent
FINALISTS = 3  # rules that are tried there beside the default
NEAR = 1.3  # numbers nearer than this to what fits are not tried beside it
TIE = 0.01  # accuracy that is no reason to send fewer images: small students need fewer than networks that are trained whole
_SHARED_TEACHER = "the teacher has seen the images that these students were judged on, so the figures are too high"
_PLATEAU = 0.005  # accuracy that more images must bring to be worth it


def scores_of(rule: str) -> tuple[str, ...]:
    """Names of the scores that a rule looks at; of AUTO those of all that it tries."""
    return tuple(
        sorted({name for tried in ((*CANDIDATES, BLIND) if rule == AUTO else (rule,)) for name in RULES[tried].scores})
    )


FileSize = Callable[[Chosen], int]


@dataclass(frozen=True, slots=True)
class RuleTrial:
    """One rule at one number of images, of `bytes`: measured where it is `exact`, else in proportion to what fits. Accuracies on held-out images, None where nothing was judged: of
    students on the server's embedding, and on the second view. `lead` is that of the smoothed mean of both over the default rule at
    its best, with its standard deviation; `p` is adjusted for the rules that were compared (None: not compared)."""

    rule: str
    keep: int
    bytes: int
    validation_accuracy: float | None
    second_view: float | None = None
    lead: float = 0.0
    error: float = 0.0
    p: float | None = None
    seconds: float = 0.0
    exact: bool = False


@dataclass(frozen=True, slots=True)
class AccuracyForecast:
    """What a student will reach on the target.

    Attributes:
        accuracy: Of a linear student on the server's embedding, with a 95 % `interval`. Smoothed over rules and numbers of
            images, so that the best of many is not too good.
        second_view: The same on the second view: what a client with another encoder loses.
        points: (bytes, accuracy) of the chosen rule at other numbers of images.
        enough: The first of these bytes that no more of them beat by half a point (None: not within these).
        note: Why the figures are too good; empty where they are not.
    """

    accuracy: float
    interval: tuple[float, float]
    second_view: float | None
    points: tuple[tuple[int, float], ...]
    enough: int | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class RuleChoice:
    """The rule that won with its selection, all that was tried, and the forecast (None where nothing could be judged). `whole` is
    about what a file of all images takes (None: they do not fit, or a number of images was wanted)."""

    rule: str
    trial: Trial[Chosen]
    tried: tuple[RuleTrial, ...]
    forecast: AccuracyForecast | None
    note: str
    whole: int | None = None


class Judge:
    """Judges cells (rule, number of images). What was judged once is remembered, for other budgets.

    Each cell is judged twice. On folds, by students of what the rule chooses there: that is how good the rule is, and what is
    forecast. And by students of what would really be sent, on the same images: how lucky this choice is. Its teacher has seen
    these images, so that figure is too high, but it tells cells apart as well as folds do (docs/log.md).
    """

    def __init__(self, folds: Folds) -> None:
        self.folds = folds
        self._held: dict[Cell, Bools] = {}
        self._whole: dict[Cell, Bools] = {}
        self._seconds: dict[Cell, float] = {}

    def __call__(self, cells: Sequence[Cell], advance: Callable[[str], None]) -> None:
        """Judge what is not known yet. Folds are made one at a time: each holds points of all candidates. What would be sent is
        judged for comparisons alone."""
        compared = len(cells) > 1
        missing = [cell for cell in cells if cell not in (self._whole if compared else self._held)]
        if not missing:
            return
        held, count = self.folds.held, len(self.folds)
        found: dict[Cell, Bools] = {}
        for number, fold in enumerate(self.folds, start=1):
            for cell, right in self._of_fold(fold, missing, f"part {number} of {count}", advance):
                known = found.setdefault(cell, np.zeros((len(right), len(held)), np.bool_))
                known[:, fold.held_out] = right
        whole = dict(self._of_fold(self.folds.whole(), missing, "on all images", advance)) if compared else {}
        self._whole.update(whole)
        self._held.update({cell: right[:, held] for cell, right in found.items()})

    def _of_fold(
        self, fold: Fold, cells: Sequence[Cell], where: str, advance: Callable[[str], None]
    ) -> Iterator[tuple[Cell, Bools]]:
        """Each cell with the images of the fold that are answered rightly, bool [views, images]."""
        for rule in dict.fromkeys(rule for rule, _ in cells):
            advance(f"trying {rule}, {where}")
            choose = RULES[rule].prepare(fold.labels, fold.context)
            for cell in (cell for cell in cells if cell[0] == rule):
                began = time.monotonic()
                rows = choose(min(cell[1], len(fold.labels))).rows
                positions, labels = fold.labels.positions[rows], fold.labels.labels[rows]
                right = [
                    view.student(positions, labels, fold.labels.classes).logits(view.held_out).argmax(axis=1)
                    == fold.held_out_labels
                    for view in fold.views
                ]
                self._seconds[cell] = self._seconds.get(cell, 0.0) + time.monotonic() - began
                yield cell, np.array(right)

    def held_out(self, cell: Cell) -> Bools:
        """Which images students of the folds answered rightly, bool [views, images that are held out]."""
        return self._held[cell]

    def whole(self, cell: Cell) -> Bools:
        """The same of students of what would be sent; of a cell that is alone, of the folds'."""
        return self._whole.get(cell, self._held[cell])

    def seconds(self, cell: Cell) -> float:
        """What judging a cell took."""
        return self._seconds[cell]


def choose_rule(
    labels: PseudoLabels,
    context: Context,
    judge: Judge | None,
    file_size: FileSize,
    *,
    budget: int,
    min_images: int,
    approximate_size: FileSize | None = None,
    keep: int | None = None,
    only: str | None = None,
    candidates: Sequence[str] = CANDIDATES,
    default: str = DEFAULT,
    advance: Callable[[str], None] = lambda _: None,
) -> RuleChoice:
    """Try the rules `candidates` at numbers of images up to what fits `budget`, and choose both.

    `file_size` gives the bytes of the whole file for a choice among `labels`. The default rule is left only for one that leads it
    in an exact test (sign_flip_p) adjusted for the number of rivals (holm), each at its best number of images: the largest at
    which its smoothed curve is highest, to within TIE. `keep` asks for that many images, which must fit; `only`
    names the one rule that is wanted, which fills the budget and is judged alone. Where more than JUDGED images fit, students see
    that many, and what is best there fills the budget. `approximate_size` is nearly proportional to
    `file_size`: where exact sizes are slow, only the winner's are searched. Without a `judge` the default is taken.

    Raises:
        BudgetTooSmall: not one label a class fits. RequestError: `keep` images do not fit.
    """
    names = [only] if only is not None else [default, *(name for name in candidates if name != default)]
    fill = _Filler(labels, context, file_size, approximate_size, budget, min_images, keep)
    if judge is None:
        trial = fill(names[0])
        reason = f"; rule {names[0]} is what did best on others" if only is None else ""
        note = f"nothing to judge by: too few images of the target are labelled{reason}"
        whole = trial.bytes if keep is None and trial.k == len(labels) else None
        only_trial = RuleTrial(names[0], trial.k, trial.bytes, None, exact=True)
        return RuleChoice(names[0], trial, (only_trial,), None, note, whole)

    # How many images fit, by the first rule, and what each rule gives at a row of numbers up to it.
    advance("counting what fits")
    full = fill.approximately(names[0])
    most = min(full.k, JUDGED)
    row = [most] if keep is not None or only is not None else numbers_of_images(min_images, most)
    trials = _try_rules(judge, names, row, advance)

    # The rule, then the number of images.
    base = trials.best(names[0])
    rivals = trials.compare(base, [trials.best(name) for name in names[1:]])
    better = [cell for cell, p in rivals.items() if p < LEVEL and trials.curves.lead(cell, base)[0] > 0]
    rule, count = max(better, key=lambda cell: trials.curves.lead(cell, base)[0], default=base)
    final = fill(rule, full.k) if count == row[-1] else fill.at_most(rule, count)
    tried = []
    for cell, right in zip(trials.curves.cells, trials.held_out, strict=True):
        own, second = (float(share) for share in right.mean(axis=1))
        lead = trials.curves.lead(cell, base) if cell != base else (0.0, 0.0)
        sent = cell == (rule, count)
        images, size = (final.k, final.bytes) if sent else (cell[1], round(full.bytes * cell[1] / full.k))
        tried.append(RuleTrial(cell[0], images, size, own, second, *lead, rivals.get(cell), judge.seconds(cell), sent))
    forecast = _forecast(trials, (rule, count), base, final, "" if judge.folds.own_teachers else _SHARED_TEACHER)
    notes = []
    if rule != names[0]:
        notes.append(f"{rule} led {names[0]} on the target's own images by more than their noise")
    if count < row[-1]:
        notes.append(f"{final.k} images are sent where {full.k} would fit: more were not judged to teach better")
    whole = full.bytes if keep is None and full.k == len(labels) else None
    return RuleChoice(rule, final, tuple(tried), forecast, "; ".join(notes), whole)


@dataclass(frozen=True, slots=True, eq=False)
class _Trials:
    """What was judged: the smoothed curves of all cells; `held_out` and `whole` are the Judge's, float64 [cells, views, images]."""

    curves: Curves
    held_out: F64
    whole: F64
    inflation: float

    def best(self, rule: str) -> Cell:
        """The cell of a rule of most images whose curve is as high as any, to within TIE."""
        mine = [cell for cell in self.curves.cells if cell[0] == rule]
        highest = max(self.curves.at(cell)[0] for cell in mine)
        return max((cell for cell in mine if self.curves.at(cell)[0] >= highest - TIE), key=lambda cell: cell[1])

    def scores(self, cell: Cell) -> F64:
        """Share of the students that answered each image rightly, float64 [images]: of all views, and both ways of judging."""
        place = self.curves.cells.index(cell)
        return np.asarray(_scores(self.held_out[place], self.whole[place]))

    def compare(self, base: Cell, rivals: Sequence[Cell]) -> dict[Cell, float]:
        """p of each rival being no better than `base`, adjusted for their number."""
        unit, known = 1 / (2 * self.whole.shape[1]), self.scores(base)
        values = [sign_flip_p(self.scores(cell) - known, unit=unit, inflation=self.inflation) for cell in rivals]
        return dict(zip(rivals, holm(values), strict=True))


def _scores(held_out: F64, whole: F64) -> F64:
    return np.asarray((held_out.mean(axis=-2) + whole.mean(axis=-2)) / 2)


def _try_rules(judge: Judge, names: Sequence[str], row: Sequence[int], advance: Callable[[str], None]) -> _Trials:
    """All rules at the numbers of `row`; beyond MANY images, which takes long, those alone that may still be the best."""
    few = [count for count in row if count <= MANY] or row[:1]
    trials = _judged(judge, [(name, count) for name in names for count in few], advance)
    if len(few) == len(row):
        return trials
    base, last = trials.best(names[0]), few[-1]
    leads = {name: trials.curves.lead((name, last), (names[0], last)) for name in names[1:]}
    hopeful = [name for name, (lead, deviation) in leads.items() if lead > -Z95 * deviation]
    hopeful = sorted(hopeful, key=lambda name: -leads[name][0])[:FINALISTS]
    more = [(name, count) for name in (base[0], *hopeful) for count in row[len(few) :]]
    return _judged(judge, [*trials.curves.cells, *more], advance)


def _judged(judge: Judge, cells: Sequence[Cell], advance: Callable[[str], None]) -> _Trials:
    judge(cells, advance)
    held_out = np.array([judge.held_out(cell) for cell in cells], np.float64)
    whole = np.array([judge.whole(cell) for cell in cells], np.float64)
    return _Trials(smooth(cells, _scores(held_out, whole)), held_out, whole, judge.folds.inflation)


def numbers_of_images(least: int, most: int) -> list[int]:
    """The numbers of images that are tried: a geometric row from one a class to what fits, to two digits. It is the same for all
    budgets but for its end."""
    last = most - most % 10 ** max(len(str(most)) - 2, 0)
    row, count = [], float(max(least, MIN_ROW))
    while count * NEAR <= last:
        row.append(round(count))
        count *= ROW
    return [*row, max(last, least)]


def _forecast(trials: _Trials, chosen: Cell, base: Cell, final: Trial[Chosen], note: str) -> AccuracyForecast:
    """What students of the chosen cell will reach, by the curve of its rule in each view. What smoothing took from the rule's lead
    over the default was luck, and is taken from the forecast too."""
    cells = [cell for cell in trials.curves.cells if cell[0] == chosen[0]]
    places = [trials.curves.cells.index(cell) for cell in cells]
    views = [
        smooth(cells, trials.held_out[places, view], inflation=trials.inflation)
        for view in range(trials.held_out.shape[1])
    ]
    lead = float(trials.scores(chosen).mean() - trials.scores(base).mean())
    luck = max(lead - trials.curves.lead(chosen, base)[0], 0.0) if chosen != base else 0.0
    (own, deviation), *others = [view.at(chosen) for view in views]
    sizes = [final.bytes if cell == chosen else round(final.bytes * cell[1] / final.k) for cell in cells]
    points = tuple((size, _share(views[0].at(cell)[0] - luck)) for size, cell in zip(sizes, cells, strict=True))
    return AccuracyForecast(
        accuracy=_share(own - luck),
        interval=(_share(own - luck - Z95 * deviation), _share(own - luck + Z95 * deviation)),
        second_view=_share(others[0][0] - luck) if others else None,
        points=points,
        enough=enough_bytes(points),
        note=note,
    )


def enough_bytes(points: Sequence[tuple[int, float]]) -> int | None:
    """The first of `points` (bytes, accuracy) that no larger one beats by _PLATEAU; None where that is the last."""
    for place, (size, accuracy) in enumerate(points[:-1]):
        if all(later - accuracy < _PLATEAU for _, later in points[place + 1 :]):
            return size
    return None


def _share(value: float) -> float:
    return min(max(value, 0.0), 1.0)


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
        return self.exactly(rule, self.keep)

    def at_most(self, rule: str, keep: int) -> Trial[Chosen]:
        """The selection of `keep` images; of as many as fit where these do not."""
        try:
            return self.exactly(rule, keep)
        except (
            RequestError
        ):  # some rules' images take more bytes, and all of a reference can take fewer than a part of it
            return self(rule)

    def exactly(self, rule: str, keep: int) -> Trial[Chosen]:
        """The selection of `keep` images.

        Raises:
            RequestError: they do not fit.
        """
        keep = min(keep, len(self.labels))
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
