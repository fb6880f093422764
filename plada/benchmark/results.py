"""Results from rows: means over seeds and targets, and how far ours leads."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from plada.benchmark.label_methods import CODERS
from plada.benchmark.methods import BOUNDS, METHODS, ORACLE, OURS, PAPER, PAPERS_RULES
from plada.benchmark.rows import Row

Cell = tuple[str, int]  # target, seed
ONCE = "-"  # instead of a budget, for methods that need none


@dataclass(frozen=True, slots=True)
class Point:
    """A method at one budget on one target, means over seeds; `accuracy` 0..1."""

    method: str
    bytes: float
    accuracy: float


@dataclass(slots=True)
class Results:
    """The rows of a benchmark and what follows from them.

    The oracle is the best of the paper's rules by TEST accuracy, for each target, budget (or keep rate) and seed.
    """

    rows: Sequence[Row]
    targets: tuple[str, ...]
    budgets: tuple[int, ...]
    keeps: tuple[float, ...]
    far: tuple[str, ...]
    _cells: dict[tuple[str, int | None, float | None], dict[Cell, Row]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for row in self.rows:
            if row.accuracy is not None:
                self._cells.setdefault((row.method, row.budget, row.keep), {})[row.target, row.seed] = row
        for budget, keep in [*((b, None) for b in self.budgets), *((None, k) for k in self.keeps)]:
            parts = [self._cells.get((rule, budget, keep), {}) for rule in PAPERS_RULES]
            for cell in set(parts[0]).intersection(*parts):
                best = max((part[cell] for part in parts), key=lambda row: row.accuracy or 0.0)
                self._cells.setdefault((ORACLE, budget, keep), {})[cell] = best

    @property
    def methods(self) -> list[str]:
        """Methods with a row at a budget or at none, ours first, the oracle before the paper's rules."""
        present = {method for method, _, keep in self._cells if keep is None}
        names = list(METHODS)
        names.insert(next(at for at, name in enumerate(names) if METHODS[name].group == PAPER), ORACLE)
        return [name for name in names if name in present]

    @property
    def ours(self) -> str:
        """The method of ours that others are compared with."""
        return next((name for name in self.methods if name in METHODS and METHODS[name].group == OURS), "")

    def cells(self, method: str, budget: int | None = None, keep: float | None = None) -> dict[Cell, Row]:
        """Rows by target and seed. A method that needs no budget has its row at every budget that it fits."""
        if budget is not None and method in METHODS and METHODS[method].once:
            once = self._cells.get((method, None, None), {})
            return {cell: row for cell, row in once.items() if row.bytes is not None and row.bytes <= budget}
        return self._cells.get((method, budget, keep), {})

    def accuracy(self, method: str, target: str, budget: int | None = None, keep: float | None = None) -> float | None:
        """Mean over seeds on one target; None without a row."""
        accuracies = [row.accuracy for (name, _), row in self.cells(method, budget, keep).items() if name == target]
        return statistics.fmean(value for value in accuracies if value is not None) if accuracies else None

    def mean(self, method: str, budget: int | None = None, keep: float | None = None) -> tuple[float, float] | None:
        """(mean over targets of their means over seeds, deviation between the seeds that have every target); None unless
        every target has a row."""
        by_target: dict[str, list[float]] = {}
        by_seed: dict[int, list[float]] = {}
        for (target, seed), row in self.cells(method, budget, keep).items():
            by_target.setdefault(target, []).append(row.accuracy or 0.0)
            by_seed.setdefault(seed, []).append(row.accuracy or 0.0)
        if set(by_target) != set(self.targets):
            return None
        whole = [statistics.fmean(values) for values in by_seed.values() if len(values) == len(self.targets)]
        mean = statistics.fmean(statistics.fmean(values) for values in by_target.values())
        return mean, statistics.stdev(whole) if len(whole) > 1 else 0.0

    def lead(self, method: str, budget: int) -> float | None:
        """How far `ours` is ahead of a method, 0..1, in the mean over the targets that both have (seeds paired)."""
        mine, other = self.cells(self.ours, budget), self.cells(method, budget)
        by_target: dict[str, list[float]] = {}
        for cell in mine.keys() & other.keys():
            by_target.setdefault(cell[0], []).append((mine[cell].accuracy or 0.0) - (other[cell].accuracy or 0.0))
        return statistics.fmean(statistics.fmean(values) for values in by_target.values()) if by_target else None

    def rivals(self) -> Iterator[str]:
        """The methods that ours is compared with."""
        yield from (m for m in self.methods if m == ORACLE or METHODS[m].group not in (OURS, BOUNDS))

    def means(self) -> dict[str, dict[str, float]]:
        """Mean accuracy by method and budget, where every target has a row."""
        means: dict[str, dict[str, float]] = {}
        for method in self.methods:
            once = method in METHODS and METHODS[method].once
            for budget in (None,) if once else self.budgets:
                if (mean := self.mean(method, budget)) is not None:
                    means.setdefault(method, {})[ONCE if budget is None else str(budget)] = round(mean[0], 5)
        return means

    def leads(self) -> dict[str, dict[str, float]]:
        """By budget and method, the lead of ours."""
        leads: dict[str, dict[str, float]] = {str(budget): {} for budget in self.budgets}
        for budget in self.budgets:
            for method in self.rivals():
                if (lead := self.lead(method, budget)) is not None:
                    leads[str(budget)][method] = round(lead, 5)
        return leads

    def points(self, target: str) -> list[Point]:
        """All methods that send something, on one target, at all budgets."""
        points = []
        for method in self.methods:
            once = method in METHODS and METHODS[method].once
            for budget in (None,) if once else self.budgets:
                rows = [row for (name, _), row in self.cells(method, budget).items() if name == target]
                sizes = [row.bytes for row in rows if row.bytes is not None]
                if sizes:
                    accuracy = statistics.fmean(row.accuracy or 0.0 for row in rows)
                    points.append(Point(method, statistics.fmean(sizes), accuracy))
        return points

    def coders(self, rule: str, target: str, keep: float) -> dict[str, float]:
        """Bytes under each coder at a keep rate, means over seeds."""
        rows = [row for (name, _), row in self.cells(rule, None, keep).items() if name == target]
        listed = [dict(row.detail.get("coders", {})) for row in rows]
        names = [name for name in CODERS if listed and all(name in one for one in listed)]
        return {name: statistics.fmean(one[name] for one in listed) for name in names}


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """The Pareto front: points that no other beats with as few bytes, by rising bytes."""
    front: list[Point] = []
    for point in sorted(points, key=lambda one: (one.bytes, -one.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return front
