"""Choosing images: `auto` against the paper's rules at equal bytes, for clients that are the server and clients that are not.

    python benchmarks/selection.py --index NAME --client-index NAME TARGET... [--budgets 250,500,1000,2000,5000] [--seeds 3] \
        [--keep FILE] [--only oracle,auto,networks] [--network-weights FILE] [--out docs/benchmarks.md] [--json]

Students are linear. Student A stands on the index's own embeddings (penalty 1e-5), student B on those of another index of the
same reference (the better of penalties 1e-3 and 1e-5, for every method alike). Each seed draws another validation split, hence
another teacher. The oracle is the best of the paper's rules by TEST accuracy of the same student, for each target, budget and
seed: an advantage granted to it. Its bytes are those of the paper's coder alone, without header or class names; ours are
whole files for clients with the pack, without class names. `auto` sees train and validation images only.

The targets are two halves, every other one by name. Each variant of `auto` in VARIANTS is measured on all targets. A target
counts with the variant that gained most on the half that it is not in, so no figure is of a target that was chosen on.

Student N is tf_efficientnet_lite0 itself, trained at 96 pixels. It takes minutes a cell, so it is measured when asked for.

`--keep FILE` holds what was measured, line by line. A run that was stopped goes on, and parts of the work can run side by side.
"""

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

import plada
from benchmarks.document import machine, write_section
from plada.benchmark.messages import ReferenceLabels
from plada.benchmark.methods import PAPERS_RULES
from plada.benchmark.scenario import Scenario, label_reference
from plada.benchmark.students import StudentPlan, student_accuracy
from plada.common.arrays import F32, I64
from plada.common.files import home_directory
from plada.common.progress import silent
from plada.common.statistics import holm, sign_flip_p
from plada.labeler.embedded_target import embed_target
from plada.networks.linear_head import STUDENT_PENALTY, HeadFitter
from plada.networks.network import NetworkSpec
from plada.retrieval.index import Index
from plada.selection.auto import LEVEL

ORACLE = PAPERS_RULES
OTHERS = ("random",)
PENALTIES = (1e-3, STUDENT_PENALTY)  # from large to small: each search starts where the last one ended
STEPS = 120
VARIANTS = {"auto, herd-sure": "herd-sure", "auto, core": "core"}  # the rule that is the default
SMALL, LARGE = (250, 500, 1000), (2000, 5000)  # bytes


@dataclass(frozen=True, slots=True)
class Point:
    """One selection: `how` is a rule, or a variant of `auto`; accuracies in % on the target's test images, of student A and of
    student B under each of PENALTIES; `forecast`, `low` and `high` are what `auto` foresaw, in %."""

    target: str
    seed: int
    budget: int
    how: str
    rule: str
    keep: int
    bytes: int
    a: float
    b: tuple[float, ...]
    teacher: float
    seconds: float
    forecast: float | None = None
    low: float | None = None
    high: float | None = None


OURS = "auto, herd-sure"  # what `plada select` does
STUDENTS: dict[str, Callable[[Point], float]] = {"a": lambda p: p.a, "b": lambda p: max(p.b)}


class Students:
    """Linear students of the rows that a scenario's rules choose. What was trained once is remembered."""

    def __init__(self, scenario: Scenario, client: Index, client_vectors: F32) -> None:
        self.scenario = scenario
        target = embed_target(
            client.lazy_encoder(), scenario.target, report=silent, cache=home_directory() / "cache" / "embeddings"
        )
        assert target.test is not None
        self.client, self.vectors, self.test = client, client_vectors, target.test
        self._known: dict[bytes, tuple[float, tuple[float, ...]]] = {}

    def __call__(self, rows: I64) -> tuple[float, tuple[float, ...]]:
        """Test accuracies in % of A, and of B under each penalty."""
        ordered = np.sort(rows)
        key = ordered.tobytes()
        if key not in self._known:
            scenario = self.scenario
            labels, positions = scenario.labels.labels[ordered], scenario.labels.positions[ordered]
            a = 100 * scenario.accuracy_of(scenario.fit_student(ordered).logits)
            fitter = HeadFitter(
                self.vectors[positions].astype(np.float32), labels, classes=scenario.classes, mean=self.client.mean
            )
            heads = [fitter.head(penalty, steps=STEPS) for penalty in PENALTIES]
            right = [head.logits(self.test.vectors).argmax(axis=1) == self.test.labels for head in heads]
            self._known[key] = a, tuple(100 * float(each.mean()) for each in right)
        return self._known[key]


def measure_rules(scenario: Scenario, students: Students, budget: int, done: Callable[[str], bool]) -> Iterator[Point]:
    """The paper's rules and random images, as many as the paper's coder fits into the budget."""
    for rule in (*ORACLE, *OTHERS):
        if done(rule):
            continue
        began = time.monotonic()
        found = scenario.fit_paper_coder(rule, budget)
        if found is None:
            raise SystemExit(f"{scenario.target.name}: {budget} bytes hold no label under the paper's coder")
        rows, size = found
        a, b = students(rows)
        yield Point(
            scenario.target.name, scenario.seed, budget, rule, rule, len(rows), size, a, b,
            100 * scenario.teacher_accuracy, time.monotonic() - began,
        )  # fmt: skip


def measure_auto(
    scenario: Scenario, students: Students, budget: int, variants: Sequence[str], done: Callable[[str], bool]
) -> Iterator[Point]:
    """The variants of `auto`; cells that one has judged another one need not judge again."""
    for variant in variants:
        if done(variant):
            continue
        began = time.process_time()
        choice = scenario.auto(budget, "pack", default=VARIANTS[variant])
        spent = time.process_time() - began
        forecast = choice.forecast
        assert forecast is not None
        a, b = students(choice.trial.selection.rows)
        yield Point(
            scenario.target.name, scenario.seed, budget, variant, choice.rule, choice.trial.k, choice.trial.bytes, a, b,
            100 * scenario.teacher_accuracy, spent, 100 * forecast.accuracy, 100 * forecast.interval[0],
            100 * forecast.interval[1],
        )  # fmt: skip


def measure_networks(
    scenario: Scenario,
    budget: int,
    done: Callable[[str], bool],
    points: Sequence[Point],
    weights: Path,
) -> Iterator[Point]:
    """Student N: tf_efficientnet_lite0 from `weights`, trained at 96 pixels on what `auto` and the best of the paper's rules chose.
    Training takes minutes, so that rule is the one whose student B is best by test, not one of five networks."""
    cell = [p for p in points if (p.target, p.seed, p.budget) == (scenario.target.name, scenario.seed, budget)]
    rules = [p for p in cell if p.how in ORACLE]
    plan = StudentPlan(
        network=NetworkSpec(name="timm:tf_efficientnet_lite0", weights=weights, pretrained=True, image_size=96),
        recipe={"image_size": 96},
    )
    wanted = {
        f"N, {OURS}": next((p for p in cell if p.how == OURS), None),
        "N, oracle": max(rules, key=lambda p: max(p.b), default=None),
    }
    for how, point in wanted.items():
        if done(how) or point is None:
            continue
        began = time.process_time()
        rows = scenario.choices(point.rule)(point.keep).rows
        found = student_accuracy(scenario, ReferenceLabels(np.sort(rows)), plan)
        assert isinstance(found, float)
        yield replace(point, how=how, a=100 * found, b=(100 * found,), seconds=time.process_time() - began)


def figures(points: Sequence[Point]) -> dict[str, float | None]:
    """The named figures, each target under the variant that was chosen on the other half of the targets."""
    of = {(p.target, p.budget, p.seed, p.how): p for p in points}
    chosen = choose_variants(points)
    cells = sorted({key[:3] for key in of if all((*key[:3], how) in of for how in (*ORACLE, *OTHERS, chosen[key[0]]))})
    ours = {cell: of[(*cell, chosen[cell[0]])] for cell in cells}
    found: dict[str, float | None] = {}
    worst: list[float] = []
    monotone: list[float] = []
    for name, student in STUDENTS.items():
        best = {cell: max(student(of[(*cell, rule)]) for rule in ORACLE) for cell in cells}
        lead = {cell: student(ours[cell]) - best[cell] for cell in cells}
        for label, budgets in (("", SMALL), ("_large", LARGE)):
            found[f"gain_{name}{label}"] = mean([lead[cell] for cell in cells if cell[1] in budgets])
        rival = {cell: max(best[cell], student(of[(*cell, "random")])) for cell in cells}
        pairs = sorted({cell[:2] for cell in cells})
        worst += [mean([student(ours[c]) - rival[c] for c in cells if c[:2] == pair]) or 0.0 for pair in pairs]
        for (target, low), (other, high) in itertools.combinations(pairs, 2):
            if target == other:
                seeds = {c[2] for c in cells if c[:2] == (target, low)} & {
                    c[2] for c in cells if c[:2] == (target, high)
                }
                steps = [student(ours[(target, high, s)]) - student(ours[(target, low, s)]) for s in seeds]
                monotone += [statistics.fmean(steps)] if steps else []
    networks = [(p, of.get((p.target, p.budget, p.seed, "N, oracle"))) for p in points if p.how == f"N, {OURS}"]
    found["gain_n"] = mean([p.a - other.a for p, other in networks if other is not None])
    found["worst"], found["monotone_worst"] = min(worst, default=None), min(monotone, default=None)
    judged = [p for p in ours.values() if p.forecast is not None]
    found["forecast_error"] = mean([abs((p.forecast or 0.0) - p.a) for p in judged])
    found["forecast_coverage"] = mean([float((p.low or 0.0) <= p.a <= (p.high or 0.0)) for p in judged])
    found["false_switch"] = simulate_false_switches()
    found["auto_s"] = max((p.seconds for p in points if p.how == OURS and p.budget == 1000), default=None)
    return found


def choose_variants(points: Sequence[Point]) -> dict[str, str]:
    """The variant of each target: the one that gained most, A and B together, on the half that it is not in."""
    targets = sorted({p.target for p in points})
    halves = (targets[::2], targets[1::2])
    gained: dict[tuple[str, int, int], dict[str, float]] = {}
    for p in points:
        if p.how in VARIANTS:
            gained.setdefault((p.target, p.seed, p.budget), {})[p.how] = p.a + max(p.b)
    whole = {cell: by for cell, by in gained.items() if len(by) == len(VARIANTS)}
    chosen = {}
    for half, others in (halves, halves[::-1]):
        means = {how: mean([by[how] for cell, by in whole.items() if cell[0] in others]) or 0.0 for how in VARIANTS}
        chosen.update(dict.fromkeys(half, max(means, key=lambda how: means[how])))
    return chosen


def simulate_false_switches(runs: int = 400, rivals: int = 8, images: int = 300) -> float:
    """How often one of several rivals that are exactly as good takes the default's place, with images that differ in how hard they
    are, and luck that all images of a fold share."""
    rng = np.random.default_rng(0)
    switched = 0
    for _ in range(runs):
        luck = np.repeat(rng.normal(scale=0.15, size=(rivals + 1, 5)), images // 5, axis=1)
        margin = 0.2 + 0.6 * rng.normal(size=images) + luck + rng.normal(scale=0.7, size=(rivals + 1, images))
        right = (margin > 0).astype(np.float64)
        values = [sign_flip_p(row - right[0], unit=1.0, inflation=2.25) for row in right[1:]]
        switched += min(holm(values)) < LEVEL
    return switched / runs


def mean(values: Sequence[float]) -> float | None:
    """The mean; None of nothing."""
    return statistics.fmean(values) if values else None


def table(points: Sequence[Point], value: Callable[[list[Point]], float | None]) -> list[str]:
    """Markdown: a budget a row, a target a column, means over the seeds, the mean of all targets behind."""
    targets = sorted({p.target for p in points})
    lines = ["| bytes | " + " | ".join(targets) + " | mean |", "| --- " * (len(targets) + 2) + "|"]
    for budget in sorted({p.budget for p in points}):
        row = []
        for target in targets:
            here = [p for p in points if (p.target, p.budget) == (target, budget)]
            seeds = [value([p for p in here if p.seed == seed]) for seed in sorted({p.seed for p in here})]
            row.append(mean([found for found in seeds if found is not None]))
        whole = mean([found for found in row if found is not None]) if None not in row else None
        shown = ["" if found is None else f"{found:.1f}" for found in (*row, whole)]
        lines.append(f"| {budget} | " + " | ".join(shown) + " |")
    return lines


def document(points: Sequence[Point], named: dict[str, float | None]) -> str:
    """The section of docs/benchmarks.md."""
    chosen = choose_variants(points)
    seeds = sorted({p.seed for p in points if p.how in VARIANTS})
    ceiling = {p.target: mean([q.teacher for q in points if q.target == p.target]) for p in points}
    lines = [
        "## Choosing images",
        "",
        "`python benchmarks/selection.py --index tiny --client-index lite0 OUT/targets/*`, "
        + machine()
        + ". 40 000 reference images,",
        "mobilenetv2_100 at 96 px, linear teacher; test accuracy in %, means of the seeds that were measured ("
        + ", ".join(map(str, seeds))
        + "). Student A is",
        "linear on the same embeddings, B linear on tf_efficientnet_lite0 at 96 px (the better of two penalties). Ours are whole files",
        "for clients with the pack, without class names; the paper's rules are counted without any header. The oracle is the best of",
        "them by the student's own test accuracy. Each target is shown under the variant of `auto` that did best on the other half of",
        "the targets: "
        + ", ".join(f"{target} {how.removeprefix('auto, ')}" for target, how in sorted(chosen.items()))
        + ".",
        "",
        "Teacher: "
        + ", ".join(f"{target} {value:.1f}" for target, value in sorted(ceiling.items()) if value is not None)
        + ".",
    ]

    def by(how: Callable[[Point], bool], student: Callable[[Point], float]) -> Callable[[list[Point]], float | None]:
        return lambda here: max((student(p) for p in here if how(p)), default=None)

    for name, student in STUDENTS.items():
        parts = (
            (f"Student {name.upper()}, oracle", lambda p: p.how in ORACLE),
            (f"Student {name.upper()}, random", lambda p: p.how == "random"),
            (f"Student {name.upper()}, `auto`", lambda p: p.how == chosen[p.target]),
        )
        for title, how in parts:
            lines += ["", f"{title}:", "", *table(points, by(how, student))]
    keeps = table(points, by(lambda p: p.how == chosen[p.target], lambda p: float(p.keep)))
    lines += ["", "Images that `auto` sends:", "", *keeps, "", "| figure | |", "| --- | --- |"]
    lines += [f"| {name} | {'not measured' if value is None else f'{value:.2f}'} |" for name, value in named.items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--index", required=True)
    parser.add_argument("--client-index", required=True)
    parser.add_argument("--index-home", type=Path, help="where the indexes are, if not in this home")
    parser.add_argument("--pack", type=Path, help="the reference's pack [default: made in the home's cache]")
    parser.add_argument("--budgets", default="250,500,1000,2000,5000")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--only", default="oracle,auto", help="of oracle, auto, networks")
    parser.add_argument("--variants", default=",".join(VARIANTS.values()), help="defaults of `auto` that are measured")
    parser.add_argument("--network-weights", type=Path, help="of tf_efficientnet_lite0, for networks")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    kept = options.keep.read_text().splitlines() if options.keep and options.keep.exists() else []
    points = [Point(**{**json.loads(line), "b": tuple(json.loads(line)["b"])}) for line in kept]
    pack = options.pack or home_directory() / "cache" / f"{options.index}.pack"
    index = plada.open_index(options.index, home=options.index_home)
    client = plada.open_index(options.client_index, home=options.index_home)
    if not pack.exists():
        plada.make_pack(index, out=pack)
    client_vectors = np.concatenate([vectors.astype(np.float16) for _, vectors in client.scan()])
    variants = [how for how, default in VARIANTS.items() if default in options.variants.split(",")]
    budgets = [int(text) for text in options.budgets.split(",")]
    for seed in [int(text) for text in options.seeds.split(",")]:
        for spec in options.targets:
            name = Path(spec).name
            scenario = students = None
            for budget in budgets:
                had = {p.how for p in points if (p.target, p.seed, p.budget) == (name, seed, budget)}
                wanted = {*ORACLE, *OTHERS} if "oracle" in options.only else set()
                wanted |= set(variants) if "auto" in options.only else set()
                wanted |= {f"N, {OURS}", "N, oracle"} if "networks" in options.only else set()
                if had >= wanted:
                    continue
                if scenario is None:
                    labelled = label_reference(index, spec, seed, home=home_directory())
                    scenario = Scenario(index, labelled, seed, pack=pack)
                    students = Students(scenario, client, client_vectors)
                assert students is not None
                parts = (
                    [measure_rules(scenario, students, budget, had.__contains__)] if "oracle" in options.only else []
                )
                parts += (
                    [measure_auto(scenario, students, budget, variants, had.__contains__)]
                    if "auto" in options.only
                    else []
                )
                if "networks" in options.only:
                    parts.append(measure_networks(scenario, budget, had.__contains__, points, options.network_weights))
                for point in itertools.chain(*parts):
                    points.append(point)
                    if options.keep:
                        with options.keep.open("a") as file:
                            file.write(json.dumps(asdict(point)) + "\n")
                    print(
                        f"{name} {seed} {budget} {point.how} {point.keep} {point.a:.1f} {max(point.b):.1f} {point.seconds:.1f}s",
                        file=sys.stderr,
                    )
    named = figures(points)
    write_section(options.out, "selection", document(points, named))
    if options.json:
        print(json.dumps(named))


if __name__ == "__main__":
    main()
