"""The plots of a benchmark."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from plada.benchmark import paper_numbers as paper
from plada.benchmark.label_methods import CODERS, CURVE, KEPT
from plada.benchmark.methods import ORACLE, PAPERS_RULES
from plada.benchmark.results import Point, Results, pareto_front
from plada.common.units import format_size, group_digits
from plada.reports.plots import Bars, Panel, Style, bars, panels

_STYLES: Mapping[str, Style] = {
    "auto-pack": Style("#0b5cad", "o", strong=True),
    "auto-manifest": Style("#3b93e0", "o", strong=True),
    "herd-sure-pack": Style("#0b5cad", "s", "--"),
    "herd-sure-manifest": Style("#3b93e0", "s", "--"),
    "herd-sure": Style("#3b93e0", "s", strong=True),
    ORACLE: Style("#b45309", "^", strong=True),
    "energy": Style("#d97706", "v"),
    "high-energy": Style("#fbbf24", "v"),
    "paper": Style("#92400e", "v"),
    "paper-0.2": Style("#c2703d", "v"),
    "entropy": Style("#eab308", "v"),
    "random": Style("#9ca3af", "x"),
    "images-random": Style("#15803d", "D"),
    "images-k-centre": Style("#65a30d", "D"),
    "images-random-shrunk": Style("#15803d", "d", "--"),
    "images-k-centre-shrunk": Style("#65a30d", "d", "--"),
    "probe-pruned": Style("#be185d", "P"),
    "probe-axes": Style("#7e22ce", "P", "--"),
    "probe-int8": Style("#be185d", "*"),
    "random-heads": Style("#0f766e", "X", "-."),
    "gaussians": Style("#0f766e", "P", ":"),
    "full-data": Style("#111827", "*"),
    "the paper's, ImageNet-21K": Style("#d97706", "v", "--"),
    "the paper's, ImageNet-1K": Style("#fbbf24", "v", "--"),
    "raw": Style("#d1d5db"),
    "huffman": Style("#fbbf24"),
    "zstd": Style("#d97706"),
    "ours, manifest": Style("#3b93e0"),
    "ours, pack": Style("#0b5cad"),
}


def draw_plots(results: Results, folder: Path) -> list[Path]:
    """Write the plots; returns the paths of those that have something to show. Raises MissingExtra: matplotlib is not
    installed."""
    paths = [_pareto(results, folder / "pareto.png")]
    if results.keeps:
        paths += [
            _keep(results, folder / "keep.png"),
            _rules(results, [t for t in results.targets if t not in results.far], paper.RULES_SIDE_BY_SIDE, folder / "rules.png", "Rules side by side"),
        ]  # fmt: skip
        if results.far:
            paths.append(_rules(results, results.far, paper.FAR_OFF, folder / "far.png", "Far-off targets"))
        paths.append(_sizes(results, folder / "sizes.png"))
    return paths


def _pareto(results: Results, path: Path) -> Path:
    shown = set(results.methods) - {"full-data"}  # it takes so many bytes that nothing else could be told apart
    if ORACLE in shown:
        shown -= set(PAPERS_RULES) - {"energy"}
    listed = []
    for target in results.targets:
        points = results.points(target)
        series = {
            method: [(p.bytes, 100 * p.accuracy) for p in points if p.method == method]
            for method in results.methods
            if method in shown
        }
        best = [
            (p.bytes, 100 * p.accuracy)
            for p in pareto_front([p for p in points if p.method not in (ORACLE, "full-data")])
        ]
        teacher = results.accuracy("teacher", target)
        listed.append(
            Panel(
                _all_data(target, points),
                {name: s for name, s in series.items() if s},
                best,
                None if teacher is None else 100 * teacher,
            )
        )
    most = max((x for panel in listed for points in panel.series.values() for x, _ in points), default=1.0)
    decades = (10**power for power in range(2, 8) if results.budgets[-1] * 3 < 10**power <= most)
    ticks = {float(size): group_digits(size) for size in (*results.budgets, *decades)}
    return panels(listed, _STYLES, path, title="Accuracy against bytes sent", x="bytes", ticks=ticks)


def _all_data(target: str, points: Sequence[Point]) -> str:
    """A title with the bytes and the accuracy of all data of the target."""
    whole = next((p for p in points if p.method == "full-data"), None)
    return (
        target
        if whole is None
        else f"{target}; all data: {format_size(round(whole.bytes))}, {100 * whole.accuracy:.1f} %"
    )


def _keep(results: Results, path: Path) -> Path:
    ours = {
        rule: [(100 * k, 100 * mean[0]) for k in results.keeps if (mean := results.mean(rule, None, k)) is not None]
        for rule in CURVE
    }
    theirs = {
        f"the paper's, {name}": [(100 * keep, value) for keep, value in zip(paper.KEEPS, means, strict=True)]
        for name, means in paper.KEEP_RATE_MEANS.items()
    }
    teacher = results.mean("teacher")
    listed = [
        Panel(f"here, mean of {len(results.targets)} targets", {n: s for n, s in ours.items() if s}, (), 100 * teacher[0] if teacher else None),
        Panel("the paper, mean of its 10 sets, lowest energy", theirs, (), sum(paper.TEACHERS[n] for n in paper.KEEP_RATE) / len(paper.KEEP_RATE)),
    ]  # fmt: skip
    rates = sorted({100 * k for k in (*results.keeps, *paper.KEEPS)})
    ticks = {rate: f"{rate:g}" for rate in rates}
    return panels(
        listed, _STYLES, path, title="Share of the reference that is kept", x="kept, % of the reference", ticks=ticks
    )


def _rules(
    results: Results, targets: Sequence[str], papers: Mapping[str, Sequence[float]], path: Path, title: str
) -> Path:
    keep = results.keeps[0]
    rules = [rule for rule in KEPT if results.cells(rule, None, keep)]
    here = {rule: [_percent(results.accuracy(rule, target, None, keep)) for target in targets] for rule in rules}
    there = {
        rule: [values[paper.RULES.index(rule)] if rule in paper.RULES else None for values in papers.values()]
        for rule in rules
    }
    teachers = [_percent(results.accuracy("teacher", target)) for target in targets]
    listed = [
        Bars(f"{title}, {100 * keep:g} % of the reference", list(targets), here, teachers),
        Bars("the paper's sets and numbers, 1 % of ImageNet-21K", list(papers), there, [paper.TEACHERS[n] for n in papers]),
    ]  # fmt: skip
    return bars([plot for plot in listed if plot.groups], _STYLES, path)


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _sizes(results: Results, path: Path) -> Path:
    groups, series = [], {}
    present = {name for keep in results.keeps for t in results.targets for name in results.coders("energy", t, keep)}
    names = [name for name in CODERS if name in present]
    listed = [(rule, keep) for rule in ("energy", "herd-sure") for keep in results.keeps]
    for rule, keep in listed:
        groups.append(f"{rule}, {100 * keep:g} %")
    for name in names:
        column: list[float | None] = []
        for rule, keep in listed:
            sizes = [one[name] for t in results.targets if name in (one := results.coders(rule, t, keep))]
            column.append(sum(sizes) / len(sizes) if sizes else None)
        series[name] = column
    title = "Bytes of the same labels under each coder, mean over targets"
    return bars([Bars(title, groups, series)], _STYLES, path, y="bytes", log=True)
