"""The picture of README: accuracy against bytes, `plada select` and the paper's rules, drawn from what benchmarks/selection.py kept.

    python benchmarks/selection_picture.py KEPT [--seeds 0,1] [--out docs/pictures/choosing.png]

The curves are the means of the tables in docs/benchmarks.md (Choosing images): of each target over its seeds, then of all targets.
`--seeds` leaves out those that are still being measured.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.selection import ORACLE, STUDENTS, Point, choose_variants, mean

PANELS = {"a": "client uses the server's encoder", "b": "client uses another encoder"}
INK, GRID = "#24292f", "#d8dee4"
OURS, ORACLE_LINE, RULES, RANDOM = "#0b62c4", "#c2410c", "#f0a98a", "#8c959f"


def curve(points: Sequence[Point], how: Callable[[Point], bool], value: Callable[[Point], float]) -> dict[int, float]:
    """The mean accuracy in % by bytes: the best point of a cell, the mean over seeds, the mean over targets. A budget that some
    target was not measured at has no point."""
    targets = sorted({p.target for p in points})
    found = {}
    for budget in sorted({p.budget for p in points}):
        means = []
        for target in targets:
            here = [p for p in points if (p.target, p.budget) == (target, budget) and how(p)]
            best = [max(value(p) for p in here if p.seed == seed) for seed in sorted({p.seed for p in here})]
            means.append(mean(best))
        whole = [each for each in means if each is not None]
        if targets and len(whole) == len(targets):
            found[budget] = sum(whole) / len(whole)
    return found


def whole_cells(points: Sequence[Point], chosen: dict[str, str]) -> list[Point]:
    """Points of the cells (target, seed, bytes) where every curve was measured, so that curves are means of the same cells."""
    known: dict[tuple[str, int, int], set[str]] = {}
    for p in points:
        known.setdefault((p.target, p.seed, p.budget), set()).add(p.how)
    return [
        p for p in points if known[p.target, p.seed, p.budget] >= {*ORACLE, "random", chosen.get(p.target, "random")}
    ]


def draw(points: Sequence[Point], out: Path) -> None:
    """Write the picture as PNG, on white, so that it can be read on a dark page too."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    chosen = choose_variants(points)
    points = whole_cells(points, chosen)
    targets, seeds = sorted({p.target for p in points}), sorted({p.seed for p in points})
    figure = Figure(figsize=(9, 3.9), dpi=110, facecolor="white", layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, (name, title) in zip(axes, PANELS.items(), strict=True):
        student = STUDENTS[name]
        for rule in ORACLE:
            label = "each of the paper's rules" if rule == ORACLE[0] else None
            known = curve([p for p in points if p.how == rule], lambda p: True, student)
            axis.plot(list(known), list(known.values()), color=RULES, linewidth=1, label=label)
        lines = (
            ("random images", lambda p: p.how == "random", RANDOM, "s:"),
            ("best of the paper's rules, picked by test accuracy", lambda p: p.how in ORACLE, ORACLE_LINE, "^-"),
            ("plada select", lambda p: p.how == chosen[p.target], OURS, "o-"),
        )
        for label, how, colour, style in lines:
            known = curve(points, how, student)
            axis.plot(list(known), list(known.values()), style, color=colour, markersize=5, linewidth=2, label=label)
        budgets = sorted({p.budget for p in points})
        axis.set_xscale("log")
        axis.set_xticks(budgets, [f"{budget:,}".replace(",", " ") for budget in budgets])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xlabel("bytes of the payload", color=INK)
        axis.set_title(title, color=INK, fontsize=11)
        axis.grid(color=GRID, linewidth=0.7)
        axis.set_axisbelow(True)
        axis.tick_params(colors=INK, length=0)
        for edge in axis.spines.values():
            edge.set_visible(False)
    axes[0].set_ylabel(
        f"test accuracy in %\nmean of {len(targets)} targets, seeds {', '.join(map(str, seeds))}", color=INK
    )
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles[::-1], labels[::-1], loc="outside lower center", ncols=4, frameon=False, fontsize=9, labelcolor=INK
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kept", type=Path, help="what benchmarks/selection.py wrote to --keep")
    parser.add_argument("--seeds", help="those that are drawn [default: all]")
    parser.add_argument("--out", type=Path, default=Path("docs/pictures/choosing.png"))
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.kept.read_text().splitlines()]
    points = [Point(**{**row, "b": tuple(row["b"])}) for row in rows]
    seeds = {int(text) for text in options.seeds.split(",")} if options.seeds else {p.seed for p in points}
    draw([p for p in points if p.seed in seeds], options.out)


if __name__ == "__main__":
    main()
