"""Choosing images: `auto` against the paper's rules at equal bytes, on real targets.

    python benchmarks/selection.py --index NAME TARGET... [--budgets 250,500,1000,2000,5000,10000] [--seeds 3] \
        [--keep FILE] [--out docs/benchmarks.md] [--json]

Everything stands on the index's embeddings; the student is a linear one, as a client would train it. Each seed draws
another validation split, hence another teacher. The paper's rules are {lowest energy, highest energy, safety net with
alpha 0.5 and -0.2, lowest entropy}; the best of them by TEST accuracy, for each target, budget and seed, is the oracle,
an advantage granted to it. Its bytes are the output of the paper's coder alone, without header or class names, as in the
paper's tables; ours are whole files (class names left out). `auto` sees train and validation images only.

`--keep FILE` holds what was measured, line by line: a run that was stopped goes on, targets may be measured one by one.
"""

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import plada
from benchmarks.document import machine, spread, write_section
from plada.benchmark.course import CLIENT_HAS, Course
from plada.benchmark.methods import PAPERS_RULES as ORACLE
from plada.common.files import home_directory

OTHERS = ("random",)
SMALL = (250, 500, 1000, 2000)  # bytes at which the teacher's ceiling is not reached yet
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Point:
    """One selection: `how` is a rule of the paper's kind, or auto with what the client has; accuracies in %."""

    target: str
    seed: int
    budget: int
    how: str
    rule: str
    keep: int
    bytes: int
    test: float
    teacher: float
    seconds: float


def measure(course: Course, budget: int, done: Callable[[str], bool]) -> Iterator[Point]:
    """All selections of one budget that are not done yet."""

    def point(how: str, rule: str, rows: I64, size: int, began: float) -> Point:
        test = 100 * course.accuracy_of(course.head_of(rows).logits)
        return Point(
            course.task.name, course.seed, budget, how, rule, len(rows), size, test, 100 * course.teacher,
            time.monotonic() - began,
        )  # fmt: skip

    for rule in (*ORACLE, *OTHERS):
        if done(rule):
            continue
        began = time.monotonic()
        found = course.under_the_papers_coder(rule, budget)
        if found is None:
            raise SystemExit(f"{course.task.name}: {budget} bytes hold no label under the paper's coder")
        yield point(rule, rule, *found, began)
    for has in CLIENT_HAS:
        if done(f"auto-{has}"):
            continue
        began = time.monotonic()
        auto = course.auto(budget, has)
        yield point(f"auto-{has}", auto.rule, auto.trial.selection.rows, auto.trial.bytes, began)


def figures(points: list[Point], has: str) -> dict[str, float]:
    """The named figures of `auto` for a client that has `has`; budgets of SMALL but for the bytes."""
    of = {(p.target, p.budget, p.seed, p.how): p.test for p in points}
    cells = sorted({(p.target, p.budget, p.seed) for p in points if (p.target, p.budget, p.seed, f"auto-{has}") in of})
    oracle = {cell: max(of[(*cell, rule)] for rule in ORACLE) for cell in cells}
    mine = {cell: of[(*cell, f"auto-{has}")] for cell in cells}
    small = [cell for cell in cells if cell[1] in SMALL]
    large = [cell for cell in cells if cell[1] not in SMALL]

    def mean(values: Iterator[float]) -> float:
        listed = list(values)
        return statistics.fmean(listed) if listed else float("nan")

    seeds = sorted({cell[2] for cell in cells})
    by_seed = [mean(mine[c] - oracle[c] for c in small if c[2] == seed) for seed in seeds]
    worst = min(
        (
            mean(mine[c] - max(oracle[c], of[(*c, "random")]) for c in cells if c[:2] == pair)
            for pair in sorted({cell[:2] for cell in small})
        ),
        default=float("nan"),
    )
    return {
        "gain_over_oracle": mean(mine[c] - oracle[c] for c in small),
        "gain_over_oracle_spread": spread(by_seed),
        "gain_over_energy": mean(mine[c] - of[(*c, "energy")] for c in small),
        "worst_against_best_or_random": worst,
        "gain_over_oracle_large": mean(mine[c] - oracle[c] for c in large),
        "bytes_ratio_95": bytes_ratio(points, has),
    }


def bytes_ratio(points: list[Point], has: str, share: float = 0.95) -> float:
    """Bytes that `auto` needs for `share` of the teacher's accuracy over those that the oracle needs: geometric mean over
    targets, accuracies averaged over seeds, bytes interpolated (in their logarithm) between budgets. A side that is
    there at the smallest budget counts as needing that one, one that never is, as needing the target's largest."""
    ratios = []
    for target in sorted({p.target for p in points}):
        here = [p for p in points if p.target == target]
        wanted = share * statistics.fmean([p.teacher for p in here])
        mine = _mean_curve([p for p in here if p.how == f"auto-{has}"])
        best: dict[tuple[int, int], Point] = {}
        for p in here:
            key = p.budget, p.seed
            if p.how in ORACLE and (key not in best or p.test > best[key].test):
                best[key] = p
        if mine:
            theirs, most = _mean_curve(list(best.values())), max(p.budget for p in here)
            ratios.append(np.log(_reaches(mine, wanted, most)) - np.log(_reaches(theirs, wanted, most)))
    return float(np.exp(np.mean(ratios))) if ratios else float("nan")


def _mean_curve(points: list[Point]) -> list[tuple[int, float]]:
    budgets = sorted({p.budget for p in points})
    return [(b, statistics.fmean([p.test for p in points if p.budget == b])) for b in budgets]


def _reaches(curve: list[tuple[int, float]], wanted: float, most: int) -> float:
    if curve[0][1] >= wanted:
        return curve[0][0]
    for (low, worse), (high, better) in itertools.pairwise(curve):
        if better >= wanted:
            part = (wanted - worse) / (better - worse)
            return float(np.exp(np.log(low) + part * (np.log(high) - np.log(low))))
    return most


def table(
    points: list[Point], how: Callable[[list[Point]], float], budgets: list[int], targets: list[str]
) -> list[str]:
    """Markdown rows: a budget a row, a target a column, the mean behind."""
    lines = []
    for budget in budgets:
        cells = []
        for target in targets:
            here = [p for p in points if p.target == target and p.budget == budget]
            found = [how([p for p in here if p.seed == s]) for s in sorted({p.seed for p in here})]
            found = [value for value in found if not np.isnan(value)]  # seeds that were measured
            cells.append(statistics.fmean(found) if found else float("nan"))
        mean = float(np.mean(cells))  # of all targets, or none
        shown = ["" if np.isnan(value) else f"{value:.1f}" for value in (*cells, mean)]
        lines.append(f"| {budget} | " + " | ".join(shown) + " |")
    return lines


def document(points: list[Point], named: dict[str, dict[str, float]], seeds: int) -> str:
    """The section of docs/benchmarks.md."""
    targets, budgets = sorted({p.target for p in points}), sorted({p.budget for p in points})
    head = ["| bytes | " + " | ".join(targets) + " | mean |", "| --- " * (len(targets) + 2) + "|"]

    def of(name: str) -> Callable[[list[Point]], float]:
        return lambda here: next((p.test for p in here if p.how == name), float("nan"))

    def oracle(here: list[Point]) -> float:
        return max((p.test for p in here if p.how in ORACLE), default=float("nan"))

    ceiling = {t: statistics.fmean([p.teacher for p in points if p.target == t]) for t in targets}
    lines = [
        "## Choosing images",
        "",
        f"`python benchmarks/selection.py --index tiny OUT/targets/* --seeds {seeds}`, {machine()}. 40 000 reference images,",
        "mobilenetv2_100 at 96 px, linear teacher and linear student; test accuracy in %, mean of the seeds. Ours are whole",
        "files without class names; the paper's rules are counted without any header. A cell is the mean of the seeds that were",
        "measured: what is given for bytes above 2 000 in the figures compares equal seeds.",
        "",
        "Teacher: " + ", ".join(f"{t} {ceiling[t]:.1f}" for t in targets) + ".",
    ]
    parts = [
        ("oracle: the best of the paper's rules by test accuracy", oracle),
        ("energy", of("energy")),
        ("random", of("random")),
    ]
    parts += [(f"auto, client has the {has}", of(f"auto-{has}")) for has in CLIENT_HAS]
    for title, how in parts:
        lines += ["", f"{title[0].upper()}{title[1:]}:", "", *head, *table(points, how, budgets, targets)]
    lines += ["", "| figure | " + " | ".join(named) + " |", "| --- " * (len(named) + 1) + "|"]
    for figure in next(iter(named.values())):
        lines.append(f"| {figure} | " + " | ".join(f"{named[has][figure]:.2f}" for has in named) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--index", required=True)
    parser.add_argument("--index-home", type=Path, help="where the index is, if not in this home")
    parser.add_argument("--pack", type=Path, help="the reference's pack [default: made in the home's cache]")
    parser.add_argument("--budgets", default="250,500,1000,2000,5000,10000")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    kept = options.keep.read_text().splitlines() if options.keep and options.keep.exists() else []
    points = [Point(**json.loads(line)) for line in kept]
    pack = options.pack or home_directory() / "cache" / f"{options.index}.pack"
    index = plada.open_index(options.index, home=options.index_home)
    if not pack.exists():
        plada.make_pack(index, out=pack)
    for seed in range(options.seeds):
        for spec in options.targets:
            course = None
            for budget in [int(text) for text in options.budgets.split(",")]:
                name = Path(spec).name
                had = {p.how for p in points if (p.target, p.seed, p.budget) == (name, seed, budget)}
                if had >= {*ORACLE, *OTHERS, *(f"auto-{has}" for has in CLIENT_HAS)}:
                    continue
                course = course or Course(index, spec, seed, home=home_directory(), pack=pack)
                for point in measure(course, budget, had.__contains__):
                    points.append(point)
                    if options.keep:
                        with options.keep.open("a") as file:
                            file.write(json.dumps(asdict(point)) + "\n")
                    print(
                        f"{name} {seed} {budget} {point.how} {point.rule} {point.keep} {point.test:.1f}",
                        file=sys.stderr,
                    )
    named = {has: figures(points, has) for has in reversed(CLIENT_HAS)}
    write_section(options.out, "selection", document(points, named, options.seeds))
    if options.json:
        print(
            json.dumps({**named["pack"], **{f"{figure}_plain": value for figure, value in named["manifest"].items()}})
        )


if __name__ == "__main__":
    main()
