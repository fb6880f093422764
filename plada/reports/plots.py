"""Plots for people: how often each class was in the pseudo-labels, and how often it was chosen."""

from collections.abc import Sequence
from pathlib import Path

from plada.common.files import whole_file
from plada.errors import MissingExtra

_SHOWN = 60  # classes that have a name below their bar


def class_histogram(
    before: Sequence[int], after: Sequence[int], classes: tuple[str, ...], path: Path, title: str
) -> Path:
    """Write a PNG with two bars for each class: its share of all pseudo-labels of the reference, and of those chosen.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as err:
        raise MissingExtra(package="matplotlib", extra="client", purpose="a histogram") from err
    figure = Figure(figsize=(max(6.0, min(0.35 * len(classes), 24.0)), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    places = range(len(classes))
    for counts, shift, colour, name in (
        (before, -0.2, "#9aa5b1", "whole reference"),
        (after, 0.2, "#1f6fb2", "chosen"),
    ):
        total = max(sum(int(count) for count in counts), 1)
        shares = [100 * int(count) / total for count in counts]
        axes.bar([place + shift for place in places], shares, 0.4, color=colour, label=f"{name} ({total})")
    axes.set_ylabel("share of the images, %")
    axes.set_title(title)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.01)
    if len(classes) <= _SHOWN:
        axes.set_xticks(list(places), classes, rotation=60, ha="right", fontsize=8)
    else:
        axes.set_xlabel("class")
    with whole_file(path) as part:
        figure.savefig(part, format="png", dpi=110)
    return path
