"""Students that are networks, beside linear ones: what `plada select`, the paper's rules and others teach them at equal bytes.

    python benchmarks/student_networks.py --index NAME --client-index NAME --weights FILE --keep FILE TARGET... [--points FILE] \
        [--budgets 500,1000] [--seeds 0,1] [--hours 4] [--picture docs/pictures/networks.png] [--out docs/benchmarks.md] [--json]

Students: `server` is linear on the index's own embeddings, `client` linear on those of another index of the same reference (the
better of two penalties), `lite0` is tf_efficientnet_lite0 from WEIGHTS, trained whole at 96 pixels, `small_cnn` sees 32 pixels
and begins with nothing.

Methods: `auto` is what `plada select` writes for clients with the pack; `oracle` the best of the paper's rules, by the test accuracy of
the linear student itself and, as a network takes minutes, by that of `client` for networks; `random` are any images with their
labels; `all` is the label of every image of the reference, for networks one pass over them; `full` is training on the target's own images.
`all` and `full` keep to no budget. Networks have `all` under the first seed only.

Cheap and telling cells come first. `--keep FILE` holds what was measured, line by line: a run that was stopped goes on. `--points FILE` is
what benchmarks/selection.py kept; the choices found there are taken from it, and others are added. After `--hours` no new cell is begun;
with 0 the section and the picture are written from what there is. The section says which cells are missing.
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import plada
from benchmarks.document import conclude, machine, spread
from benchmarks.selection import OTHERS, OURS, PENALTIES, STEPS, Point, Students, mean, measure_auto, measure_rules
from plada.benchmark.messages import AllTargetImages, Content, ReferenceLabels
from plada.benchmark.methods import PAPERS_RULES
from plada.benchmark.scenario import Scenario, label_reference
from plada.benchmark.students import StudentPlan, student_accuracy
from plada.common.files import home_directory
from plada.common.progress import silent
from plada.common.statistics import accuracy
from plada.labeler.embedded_target import embed_target
from plada.networks.linear_head import HeadFitter
from plada.networks.network import SMALL_CNN, NetworkSpec
from plada.payload.coders.paper_coders import paper_bytes
from plada.retrieval.index import Index

SERVER, CLIENT, LITE0 = "server", "client", "lite0"
STUDENTS = (SERVER, CLIENT, LITE0, SMALL_CNN)
LINEAR, NETWORKS = STUDENTS[:2], STUDENTS[2:]
AUTO, ORACLE, RANDOM, ALL, FULL = METHODS = ("auto", "oracle", "random", "all", "full")
SENT = METHODS[:3]  # within the budget
SIDE, SMALL_SIDE = 96, 32  # pixels that lite0 and small_cnn see
TITLES = {
    SERVER: "linear, server's encoder",
    CLIENT: "linear, tf_efficientnet_lite0",
    LITE0: "tf_efficientnet_lite0, trained at 96 px",
    SMALL_CNN: "small_cnn at 32 px, from nothing",
}
Key = tuple[str, int, int | None, str, str]


@dataclass(frozen=True, slots=True)
class Cell:
    """One student under one method: test `accuracy` in %, `bytes` of the labels (None: not sent), `images` that it was trained on."""

    target: str
    seed: int
    budget: int | None
    student: str
    method: str
    rule: str
    images: int
    bytes: int | None
    accuracy: float
    seconds: float

    @property
    def key(self) -> Key:
        """What the cell is about; each is measured once."""
        return self.target, self.seed, self.budget, self.student, self.method


def plan(targets: Sequence[str], budgets: Sequence[int], seeds: Sequence[int]) -> list[Key]:
    """All cells in the order in which they are measured: linear students, then networks: the smaller budget first, one seed after
    another, what was sent before the bounds, and the labels of everything last."""
    first = sorted(budgets)
    linear = [
        (target, seed, budget, student, method)
        for seed, target in itertools.product(seeds, targets)
        for student in LINEAR
        for budget, method in (*itertools.product(first, SENT), (None, FULL))
    ]
    networks: list[Key] = []
    for seed, budget in itertools.product(seeds, first):
        networks += [(t, seed, budget, student, how) for student in NETWORKS[::-1] for t in targets for how in SENT]
        if budget == first[0]:
            networks += [(t, seed, None, student, FULL) for student in NETWORKS[::-1] for t in targets]
    everything = [(target, seed, None, student, ALL) for student in LINEAR for seed in seeds for target in targets]
    everything += [(target, seeds[0], None, student, ALL) for student in NETWORKS[::-1] for target in targets]
    return [*linear, *networks, *everything]


def network(student: str, weights: Path | None) -> StudentPlan:
    """How a network is trained: at its default recipe."""
    if student == SMALL_CNN:
        return StudentPlan(
            network=NetworkSpec(name=SMALL_CNN, image_size=SMALL_SIDE), recipe={"image_size": SMALL_SIDE}
        )
    spec = NetworkSpec(name="timm:tf_efficientnet_lite0", weights=weights, pretrained=True, image_size=SIDE)
    return StudentPlan(network=spec, recipe={"image_size": SIDE})


def chosen(
    points: Sequence[Point], target: str, seed: int, budget: int | None, student: str, method: str
) -> Point | None:
    """The choice of images of a cell, if it is known."""
    here = [p for p in points if (p.target, p.seed, p.budget) == (target, seed, budget)]
    if method != ORACLE:
        how = {AUTO: OURS, RANDOM: "random"}[method]
        return next((p for p in here if p.how == how), None)
    rules = [p for p in here if p.how in PAPERS_RULES]
    if len(rules) < len(PAPERS_RULES):
        return None
    return max(rules, key=lambda p: p.a if student == SERVER else max(p.b))


def known_cells(points: Sequence[Point], keys: Sequence[Key]) -> list[Cell]:
    """What the points of benchmarks/selection.py say of cells: linear students, and lite0 where it was measured there (its oracle is the
    same rule)."""
    cells = []
    trained = {(p.target, p.seed, p.budget, p.how): p for p in points if p.how.startswith("N, ")}
    for key in keys:
        target, seed, budget, student, method = key
        if budget is None or student == SMALL_CNN:
            continue
        point = (
            trained.get((target, seed, budget, {AUTO: f"N, {OURS}", ORACLE: "N, oracle"}.get(method, "")))
            if student == LITE0
            else chosen(points, *key)
        )
        if point is not None:
            value = point.a if student != CLIENT else max(point.b)
            cells.append(Cell(*key, point.rule, point.keep, point.bytes, value, point.seconds))
    return cells


class Bench:
    """What cells share: the indexes, the choices, and the scenario of the target and seed at hand."""

    def __init__(self, index: Index, client: Index, specs: Sequence[str], pack: Path, weights: Path | None) -> None:
        self.index, self.client, self.pack, self.weights = index, client, pack, weights
        self.specs = {Path(spec).name: spec for spec in specs}
        self.vectors = np.concatenate([vectors.astype(np.float16) for _, vectors in client.scan()])
        self._at: tuple[str, int] | None = None
        self._scenario: Scenario | None = None

    def scenario(self, target: str, seed: int) -> Scenario:
        """The last scenario is kept; one holds the labels of the whole reference."""
        if self._scenario is None or self._at != (target, seed):
            self._scenario = None
            labelled = label_reference(self.index, self.specs[target], seed, home=home_directory())
            self._scenario, self._at = Scenario(self.index, labelled, seed, pack=self.pack), (target, seed)
        return self._scenario

    def choices(self, target: str, seed: int, budget: int, done: Sequence[Point]) -> Iterator[Point]:
        """The points of a target, seed and budget that are not there yet, with both linear students."""
        had = {p.how for p in done if (p.target, p.seed, p.budget) == (target, seed, budget)}
        if had >= {*PAPERS_RULES, *OTHERS, OURS}:
            return
        scenario = self.scenario(target, seed)
        students = Students(scenario, self.client, self.vectors)
        yield from measure_rules(scenario, students, budget, had.__contains__)
        yield from measure_auto(scenario, students, budget, [OURS], had.__contains__)

    def measure(self, key: Key, point: Point | None) -> Cell:
        """One cell; `point` is its choice of images, None of methods that keep to no budget."""
        target, seed, _, student, method = key
        began = time.process_time()
        scenario = self.scenario(target, seed)
        content: Content
        size: int | None = None
        if point is not None:
            rows = np.sort(scenario.choices(point.rule)(point.keep).rows)
            content, size = ReferenceLabels(rows), point.bytes
        elif method == ALL:
            content, labels = ReferenceLabels(np.arange(len(scenario.labels))), scenario.labels
            size = paper_bytes(labels.positions, labels.labels, len(self.index), scenario.classes)
        else:
            content = AllTargetImages(len(scenario.embedded.train.labels))
        if student == CLIENT:
            value = self._client_accuracy(scenario, method)
        elif student == SERVER:
            value = _accuracy(scenario, content, StudentPlan(network=NetworkSpec(name="linear")))
        else:
            how = network(student, self.weights)
            if method == ALL:
                how = StudentPlan(network=how.network, recipe={**how.recipe, "epochs": 1})
            value = _accuracy(scenario, content, how)
        spent = round(time.process_time() - began, 1)
        rule = point.rule if point is not None else method
        return Cell(*key, rule, len(content), size, 100 * value, spent)

    def _client_accuracy(self, scenario: Scenario, method: str) -> float:
        """The linear student on the client's embeddings, of all labels or of the target's own images; the better penalty."""
        cache = home_directory() / "cache" / "embeddings"
        own = embed_target(self.client.lazy_encoder(), scenario.target, report=silent, cache=cache)
        assert own.test is not None
        if method == FULL:
            vectors, labels = own.train.vectors, own.train.labels
        else:
            labels = scenario.labels.labels
            vectors = self.vectors[scenario.labels.positions].astype(np.float32)
        fitter = HeadFitter(vectors, labels, classes=scenario.classes, mean=self.client.mean)
        heads = [fitter.head(penalty, steps=STEPS) for penalty in PENALTIES]
        return max(accuracy(head.logits(own.test.vectors), own.test.labels) for head in heads)


def _accuracy(scenario: Scenario, content: Content, how: StudentPlan) -> float:
    value = student_accuracy(scenario, content, how)
    assert isinstance(value, float), value
    return value


def of_seeds(cells: Sequence[Cell], target: str, budget: int | None, student: str, method: str) -> list[float]:
    """Accuracies of the seeds that were measured."""
    return [
        cell.accuracy
        for cell in cells
        if (cell.target, cell.budget, cell.student, cell.method) == (target, budget, student, method)
    ]


def common_means(
    cells: Sequence[Cell],
    budget: int,
    student: str,
    methods: Sequence[str] = SENT,
    among: Collection[tuple[str, int]] | None = None,
) -> tuple[dict[str, float], list[tuple[str, int]]]:
    """Mean accuracies by method over the (target, seed) pairs where all `methods` were measured (of those `among` them), and those
    pairs."""
    known = {(c.target, c.seed, c.method): c.accuracy for c in cells if (c.student, c.budget) == (student, budget)}
    known |= {(c.target, c.seed, c.method): c.accuracy for c in cells if (c.student, c.budget) == (student, None)}
    pairs = sorted({(t, s) for t, s, _ in known if all((t, s, method) in known for method in methods)})
    pairs = [pair for pair in pairs if among is None or pair in among]
    means = {method: mean([known[(*pair, method)] for pair in pairs]) for method in methods}
    return {method: value for method, value in means.items() if value is not None}, pairs


def figures(cells: Sequence[Cell], keys: Sequence[Key]) -> dict[str, float | None]:
    """The named figures: how much `auto` gains over the oracle and over random images, in points, by student."""
    found: dict[str, float | None] = {"cells": len(cells), "missing": len(keys) - len(cells)}
    for student in STUDENTS:
        gains: dict[str, list[float]] = {ORACLE: [], RANDOM: []}
        for budget in sorted({c.budget for c in cells if c.budget is not None}):
            for other, listed in gains.items():
                means, pairs = common_means(cells, budget, student, (AUTO, other))
                listed += [means[AUTO] - means[other]] * len(pairs) if pairs else []
        for other, listed in gains.items():
            value = mean(listed)
            found[f"{student}_auto_over_{other}"] = None if value is None else round(value, 2)
    return found


def document(cells: Sequence[Cell], keys: Sequence[Key], command: str) -> list[str]:
    """The section of docs/benchmarks.md."""
    targets = list(dict.fromkeys(key[0] for key in keys))
    budgets = sorted({key[2] for key in keys if key[2] is not None})
    seeds = sorted({key[1] for key in keys})
    done = {cell.key for cell in cells}
    lines = [
        "## Students that are networks",
        "",
        f"`{command}`, {machine()}.",
        "Test accuracy in %, mean +- deviation of seeds "
        + ", ".join(map(str, seeds))
        + "; a single figure is of one seed, and `-` was not measured. Bytes are those of",
        "the whole file for `auto` (clients with the pack, without class names), of the paper's coder without header for the others. The",
        "oracle is the best of the paper's rules by test accuracy: of the student itself if it is linear, of the linear tf_efficientnet_lite0",
        "if it is a network. `all` is the label of every image of the reference (one pass over them for networks), `full` the target's own",
        "training images; neither keeps to a budget. Networks are trained at their default recipe, lite0 from its weights.",
    ]
    for student in STUDENTS:
        lines += ["", f"Student: {TITLES[student]}.", ""]
        heads = [f"{method}, {budget} B" for budget in budgets for method in SENT] + [ALL, FULL]
        columns: list[tuple[int | None, str]] = [*itertools.product(budgets, SENT), (None, ALL), (None, FULL)]
        lines += ["| target | " + " | ".join(heads) + " |", "| --- " * (len(heads) + 1) + "|"]
        for target in targets:
            row = [of_seeds(cells, target, budget, student, method) for budget, method in columns]
            lines.append(f"| {target} | " + " | ".join(map(_shown, row)) + " |")
    lines += ["", "Means over the targets and seeds where all three were measured:", ""]
    lines += ["| student | bytes | cells | auto | oracle | random |", "| --- | --- | --- | --- | --- | --- |"]
    for student, budget in itertools.product(STUDENTS, budgets):
        means, pairs = common_means(cells, budget, student)
        shown = [f"{means[method]:.1f}" if method in means else "-" for method in SENT]
        lines.append(f"| {TITLES[student]} | {budget} | {len(pairs)} | " + " | ".join(shown) + " |")
    missing = [key for key in keys if key not in done]
    lines += ["", f"{len(done)} of {len(keys)} cells were measured."]
    if missing:
        counts = {
            name: sum(key[3] == name for key in missing) for name in STUDENTS if any(key[3] == name for key in missing)
        }
        listed = ", ".join(f"{count} of {name}" for name, count in counts.items())
        lines[-1] += f" Missing: {listed}. The same command goes on where it stopped."
    seconds = {
        name: mean([c.seconds for c in cells if c.student == name and c.budget is not None]) for name in NETWORKS
    }
    timed = ", ".join(f"{name} {value:.0f}" for name, value in seconds.items() if value is not None)
    if timed:
        lines += ["", f"Seconds of processor time for a cell within the budget: {timed}."]
    lines += ["", "| figure | |", "| --- | --- |"]
    lines += [
        f"| {name} | {'not measured' if value is None else value} |" for name, value in figures(cells, keys).items()
    ]
    return lines


def _shown(values: Sequence[float]) -> str:
    value = mean(values)
    if value is None:
        return "-"
    return f"{value:.1f} +- {spread(values):.1f}" if len(values) > 1 else f"{value:.1f}"


def draw(cells: Sequence[Cell], out: Path) -> None:
    """Bars: the means of the methods at the smallest budget, over the runs that every student shown has, as PNG on white."""
    from matplotlib.figure import Figure

    budget = min(c.budget for c in cells if c.budget is not None)
    colours = {AUTO: "#0b62c4", ORACLE: "#c2410c", RANDOM: "#8c959f"}
    names = {
        AUTO: "plada select",
        ORACLE: "best of the paper's rules, picked by test accuracy",
        RANDOM: "random images",
    }
    pairs = {student: set(common_means(cells, budget, student)[1]) for student in STUDENTS}
    shown = [student for student in STUDENTS if pairs[student]]
    same = set.intersection(*(pairs[student] for student in shown)) if shown else set()
    groups = [(student, common_means(cells, budget, student, among=same)[0]) for student in shown if same]
    targets = sorted({target for target, _ in same})
    ink = "#24292f"
    figure = Figure(figsize=(9, 3.6), dpi=110, facecolor="white", layout="constrained")
    axis = figure.subplots()
    for place, (_, means) in enumerate(groups):
        for shift, method in enumerate(SENT):
            x = place + 0.26 * (shift - 1)
            axis.bar(x, means[method], width=0.24, color=colours[method], label=None if place else names[method])
            axis.text(x, means[method] + 1, f"{means[method]:.1f}", ha="center", color=ink, fontsize=9)
    axis.set_xticks(
        range(len(groups)), [TITLES[student].replace(", ", "\n") for student, _ in groups], color=ink, fontsize=9
    )
    axis.set_ylim(0, 100)
    axis.set_ylabel(f"test accuracy in %, {budget} bytes", color=ink)
    runs = f"mean of {len(same)} runs on {len(targets)} targets, the same for every student: {', '.join(targets)}"
    axis.set_title(runs, color=ink, fontsize=9)
    axis.grid(axis="y", color="#d8dee4", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.tick_params(colors=ink, length=0)
    for edge in axis.spines.values():
        edge.set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9, labelcolor=ink)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, metadata={"Software": None})


def read_rows(path: Path | None) -> list[dict[str, Any]]:
    """The lines of a file that was kept. A last line that is cut is removed."""
    if path is None or not path.exists():
        return []
    whole = path.read_bytes()
    kept = whole[: whole.rfind(b"\n") + 1]
    if kept != whole:
        path.write_bytes(kept)
    return [json.loads(line) for line in kept.splitlines()]


def append_row(path: Path, record: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def run(bench: Bench, keys: Sequence[Key], points: list[Point], cells: list[Cell], options: argparse.Namespace) -> None:
    """Measure what is missing, until the time is over."""
    began = time.monotonic()
    done = {cell.key for cell in cells}
    for key in keys:
        if key in done:
            continue
        if time.monotonic() - began > 3600 * options.hours:
            return
        target, seed, budget, student, method = key
        point = None
        if budget is not None:
            for made in bench.choices(target, seed, budget, points):
                points.append(made)
                append_row(options.points, asdict(made))
            point = chosen(points, *key)
            assert point is not None
        if budget is not None and student in LINEAR:
            found = known_cells(points, [key])
        else:
            found = [bench.measure(key, point)]
            append_row(options.keep, asdict(found[0]))
        cells += found
        shown = f"{target} {seed} {budget} {student} {method} {found[0].images} {found[0].accuracy:.1f} {found[0].seconds:.0f}s"
        print(shown, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--index", required=True)
    parser.add_argument("--client-index", required=True)
    parser.add_argument("--index-home", type=Path, help="where the indexes are, if not in this home")
    parser.add_argument("--pack", type=Path, help="the reference's pack [default: made in the home's cache]")
    parser.add_argument("--weights", type=Path, help="of tf_efficientnet_lite0")
    parser.add_argument("--budgets", default="500,1000")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--hours", type=float, default=4.0)
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--points", type=Path, help="of benchmarks/selection.py [default: beside --keep]")
    parser.add_argument("--picture", type=Path, help="where to draw the means")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.points = options.points or options.keep.with_suffix(".points.jsonl")
    budgets, seeds = ([int(text) for text in listed.split(",")] for listed in (options.budgets, options.seeds))
    keys = plan([Path(spec).name for spec in options.targets], budgets, seeds)
    points = [Point(**{**row, "b": tuple(row["b"])}) for row in read_rows(options.points)]
    cells = {cell.key: cell for cell in known_cells(points, keys)}
    cells |= {cell.key: cell for cell in (Cell(**row) for row in read_rows(options.keep)) if cell.key in set(keys)}
    listed = list(cells.values())
    if options.hours > 0 and len(listed) < len(keys):
        index = plada.open_index(options.index, home=options.index_home)
        client = plada.open_index(options.client_index, home=options.index_home)
        pack = options.pack or home_directory() / "cache" / f"{options.index}.pack"
        if not pack.exists():
            plada.make_pack(index, out=pack)
        run(Bench(index, client, options.targets, pack, options.weights), keys, points, listed, options)
    command = f"python benchmarks/student_networks.py --index {options.index} --client-index {options.client_index} --weights FILE --keep FILE ..."
    if options.picture:
        draw(listed, options.picture)
    conclude(
        options.out, "student-networks", document(listed, keys, command), figures(listed, keys), as_json=options.json
    )


if __name__ == "__main__":
    main()
