"""Plots of a benchmark: accuracy against bytes with the Pareto front, curves over keep rates, bars side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plada.errors import MissingExtra
from plada.files import whole_file

_PER_ROW = 3
_DPI = 110
_GREY = "#6b7280"


@dataclass(frozen=True, slots=True)
class Style:
    """How a series is drawn, the same in every picture."""

    colour: str
    marker: str = "o"
    line: str = "-"
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One small plot: `series` are lines of (x, y) by name; `front` a step line of (x, y); `ceiling` a level with a name."""

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
    """Write a PNG of small plots in a grid, x in logarithms, with one legend below all.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
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
        axes.xaxis.set_major_formatter(_plain)
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


def bars(
    groups: Sequence[str],
    series: Mapping[str, Sequence[float | None]],
    styles: Mapping[str, Style],
    path: Path,
    *,
    title: str,
    y: str = "test accuracy, %",
    log: bool = False,
    ceilings: Sequence[float | None] = (),
    divide: int | None = None,
) -> Path:
    """Write a PNG with a group of bars for each of `groups`; `ceilings` are marks above the groups, `divide` draws a line
    before that group.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    figure = _figure((max(7.0, min(1.2 * len(groups) + 2.0, 26.0)), 4.8))
    axes = figure.subplots()
    width = 0.84 / max(len(series), 1)
    for number, (name, values) in enumerate(series.items()):
        places = [place - 0.42 + width * (number + 0.5) for place, value in enumerate(values) if value is not None]
        heights = [value for value in values if value is not None]
        axes.bar(places, heights, width * 0.92, color=styles[name].colour, label=name, zorder=3)
    for place, level in enumerate(ceilings):
        if level is not None:
            label = "teacher" if place == next(i for i, one in enumerate(ceilings) if one is not None) else None
            axes.plot([place - 0.45, place + 0.45], [level, level], ":", color=_GREY, linewidth=1.6, label=label)
    if divide is not None:
        axes.axvline(divide - 0.5, color=_GREY, linewidth=1.0)
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(_plain)
    axes.set_xticks(range(len(groups)), groups, rotation=30, ha="right", fontsize=9)
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.set_ylabel(y)
    axes.set_title(title)
    axes.grid(True, axis="y", color="#e5e7eb", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(6, len(names)), frameon=False, fontsize=9)
    return _save(figure, path)


def _plain(value: float, _: int) -> str:
    """`500`, `2 000`, `1.5M`: what stands at an axis in logarithms."""
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
    with whole_file(path) as part:
        figure.savefig(part, format="png", dpi=_DPI)
    return path
