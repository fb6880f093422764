"""Plots as PNG files, drawn by matplotlib: benchmark curves and bars, class counts, confusion matrices."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from plada.common.arrays import I64
from plada.common.files import whole_file
from plada.errors import MissingExtra

_PER_ROW = 3
_DPI = 110
_GREY = "#6b7280"
_NAMED_GROUPS = 60  # groups of bars that have a name below them
_NAMED_CLASSES = 40  # classes up to which a confusion matrix carries names and counts
MAX_SIDE = 1000  # rows of a confusion matrix that a picture shows; with more classes a row stands for several
_GREEN, _RED = (0, 104, 55), (178, 24, 43)


@dataclass(frozen=True, slots=True)
class Style:
    """How a series is drawn, the same in every plot."""

    colour: str
    marker: str = "o"
    line: str = "-"
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One small plot: `series` are lines of (x, y) by name, `front` a step line of (x, y), `ceiling` a named level."""

    title: str
    series: Mapping[str, Sequence[tuple[float, float]]]
    front: Sequence[tuple[float, float]] = ()
    ceiling: float | None = None


def panels(
    listed: Sequence[Panel],
    styles: Mapping[str, Style],
    path: Path,
    *,
    title: str,
    x: str,
    y: str = "test accuracy, %",
    ceiling: str = "teacher",
    ticks: Mapping[float, str] | None = None,
) -> Path:
    """Write a PNG with a grid of small plots, a logarithmic x axis and one legend for all. Raises MissingExtra:
    matplotlib is not installed."""
    columns = min(_PER_ROW, len(listed))
    rows = -(-len(listed) // columns)
    figure = _figure((4.6 * columns + 0.4, 3.4 * rows + 1.5))
    grid = figure.subplots(rows, columns, squeeze=False)
    handles: dict[str, Any] = {}
    for place, axes in enumerate(grid.flat):
        if place >= len(listed):
            axes.set_visible(False)
            continue
        panel = listed[place]
        for name, points in panel.series.items():
            style = styles[name]
            (handle,) = axes.plot(
                [point[0] for point in points], [point[1] for point in points], style.line, color=style.colour,
                marker=style.marker, markersize=6 if style.strong else 4.5, linewidth=2.2 if style.strong else 1.1,
                alpha=1.0 if style.strong else 0.85, zorder=4 if style.strong else 3,
            )  # fmt: skip
            handles.setdefault(name, handle)
        if panel.front:
            front = axes.step(
                [point[0] for point in panel.front], [point[1] for point in panel.front], where="post", color="black",
                linewidth=5, alpha=0.13, zorder=1, solid_capstyle="round",
            )[0]  # fmt: skip
            handles.setdefault("Pareto front", front)
        if panel.ceiling is not None:
            handles.setdefault(ceiling, axes.axhline(panel.ceiling, color=_GREY, linestyle=":", linewidth=1.3))
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(_plain_number)
        axes.set_title(panel.title, fontsize=11)
        axes.grid(True, which="major", color="#e5e7eb", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
        if ticks:
            axes.set_xticks(list(ticks), list(ticks.values()))
            axes.minorticks_off()
        if place >= len(listed) - columns:
            axes.set_xlabel(x)
        if place % columns == 0:
            axes.set_ylabel(y)
    figure.suptitle(title)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(5, 2 * columns), frameon=False, fontsize=9)  # fmt: skip
    return _save(figure, path)


@dataclass(frozen=True, slots=True)
class Bars:
    """Groups of bars side by side: `series` has a height for each group by name (None: no bar), `ceilings` are marks above
    the groups."""

    title: str
    groups: Sequence[str]
    series: Mapping[str, Sequence[float | None]]
    ceilings: Sequence[float | None] = ()


def bars(
    listed: Sequence[Bars],
    styles: Mapping[str, Style],
    path: Path,
    *,
    y: str = "test accuracy, %",
    ceiling: str = "teacher",
    log: bool = False,
) -> Path:
    """Write a PNG with bar plots one below the other and one legend for all. Raises MissingExtra: matplotlib is not
    installed."""
    width = max(len(plot.groups) * (0.15 + 0.1 * len(plot.series)) for plot in listed)
    figure = _figure((max(7.0, min(width + 2.0, 24.0)), 3.9 * len(listed) + 0.8))
    handles: dict[str, Any] = {}
    for axes, plot in zip(figure.subplots(len(listed), 1, squeeze=False).flat, listed, strict=True):
        width = 0.84 / max(len(plot.series), 1)
        for number, (name, values) in enumerate(plot.series.items()):
            places = [place - 0.42 + width * (number + 0.5) for place, value in enumerate(values) if value is not None]
            heights = [value for value in values if value is not None]
            drawn = axes.bar(places, heights, width * 0.92, color=styles[name].colour, zorder=3)
            if heights:
                handles.setdefault(name, drawn)
        for place, level in enumerate(plot.ceilings):
            if level is not None:
                (mark,) = axes.plot([place - 0.45, place + 0.45], [level, level], ":", color=_GREY, linewidth=1.6)
                handles.setdefault(ceiling, mark)
        if log:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(_plain_number)
        named = plot.groups if len(plot.groups) <= _NAMED_GROUPS else ()
        axes.set_xticks(range(len(named)), named, rotation=25, ha="right", fontsize=9, parse_math=False)
        axes.set_xlim(-0.6, len(plot.groups) - 0.4)
        axes.set_ylabel(y)
        axes.set_title(plot.title, fontsize=11, parse_math=False)
        axes.grid(True, axis="y", color="#e5e7eb", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(6, len(handles)), frameon=False, fontsize=9)  # fmt: skip
    return _save(figure, path)


def class_histogram(
    before: Sequence[int], after: Sequence[int], classes: tuple[str, ...], path: Path, title: str
) -> Path:
    """Write a PNG with two bars for each class: its share of all pseudo-labels of the reference, and of those chosen.
    Raises MissingExtra: matplotlib is not installed."""
    series, styles = {}, {}
    for counts, colour, name in ((before, "#9aa5b1", "whole reference"), (after, "#1f6fb2", "chosen")):
        total = max(sum(map(int, counts)), 1)
        series[f"{name} ({total})"] = [100 * int(count) / total for count in counts]
        styles[f"{name} ({total})"] = Style(colour)
    return bars([Bars(title, classes, series)], styles, path, y="share of the images, %")


def confusion_picture(
    names: Sequence[str], counts: Sequence[Sequence[int]] | I64, path: Path, *, title: str = ""
) -> Path:
    """Write a PNG of a confusion matrix: rows are true classes, columns predicted ones, shaded by shares of the row.

    `counts` [m][m] are images, of each class or of equal runs of neighbouring classes. Up to 40 classes have names, counts, and
    their accuracy at the right.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    matrix = np.asarray(counts, np.int64)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    full = np.where(np.eye(len(matrix), dtype=bool)[..., None], _GREEN, _RED)
    colours = (255 + (full - 255) * shares[..., None] ** 0.7).round().astype(np.uint8)  # a few per cent must show
    named = len(names) <= _NAMED_CLASSES
    side = max(3.0, 0.3 * len(names)) if named else 10.0
    figure = _figure((side + 1.6, side + 1.6))
    axes = figure.subplots()
    axes.imshow(colours, interpolation="nearest")
    axes.set_title(title, fontsize=11, parse_math=False)
    run = -(-len(names) // max(len(matrix), 1))
    together = f" (a line is {run} classes)" if run > 1 else ""
    axes.set_xlabel(f"predicted class{together}")
    axes.set_ylabel(f"class{together}")
    if named:
        places, short = range(len(names)), [name[:24] for name in names]
        axes.set_xticks(places, short, rotation=90, fontsize=8, parse_math=False)
        axes.set_yticks(places, short, fontsize=8, parse_math=False)
        accuracies = axes.secondary_yaxis("right")
        accuracies.set_yticks(places, [f"{100 * shares[row, row]:.0f}" for row in places], fontsize=8)
        accuracies.set_ylabel("right, %")
        for row, column in np.argwhere(matrix):
            shade = "white" if shares[row, column] > 0.55 else "black"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", fontsize=7, color=shade)
    return _save(figure, path)


def _plain_number(value: float, _: int) -> str:
    """`500`, `2 000`, `1.5M`: a tick of a logarithmic axis."""
    return f"{value / 1e6:g}M" if value >= 1e6 else f"{value:,g}".replace(",", " ")


def _figure(size: tuple[float, float]) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as err:
        raise MissingExtra(package="matplotlib", extra="client", purpose="a plot") from err
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, path: Path) -> Path:
    with whole_file(path) as part, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # a name in a script that the font lacks
        figure.savefig(part, format="png", dpi=_DPI)
    return path
