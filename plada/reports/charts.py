"""Charts as SVG within the page: no script, no style of their own, and always beside the same numbers in a table."""

from collections.abc import Sequence

from plada.reports.findings import Histogram, Spread
from plada.reports.text import esc


def bar(share: float, label: str = "", kind: str = "bar") -> str:
    """A horizontal bar, 0 .. 1 of its cell. Without a label it is for the eye alone."""
    width = max(round(160 * min(max(share, 0.0), 1.0), 1), 1.0 if share > 0 else 0.0)
    return f'<svg class="strip" viewBox="0 0 160 12" {_named(label)}><rect class="{kind}" width="{width:g}" height="12" rx="2"/></svg>'


def two_bars(before: float, after: float) -> str:
    """A class before and after the choice, each 0 .. 1."""
    widths = [round(160 * min(max(share, 0.0), 1.0), 1) for share in (before, after)]
    return (
        '<svg class="strip" viewBox="0 0 160 14" aria-hidden="true">'
        f'<rect class="was" width="{widths[0]:g}" height="6"/><rect class="bar" y="7" width="{widths[1]:g}" height="6"/></svg>'
    )


def interval(value: float, low: float | None, high: float | None) -> str:
    """An accuracy with its interval on a line from 0 to 1."""
    whisker = ""
    if low is not None and high is not None:
        whisker = (
            f'<rect class="whisker" x="{160 * low:.1f}" y="4" width="{max(160 * (high - low), 0.5):.1f}" height="4"/>'
        )
    return (
        '<svg class="strip" viewBox="0 0 160 12" aria-hidden="true"><rect class="rail" y="5.5" width="160" height="1"/>'
        f'{whisker}<circle class="bar" cx="{160 * value:.1f}" cy="6" r="4"/></svg>'
    )


def histogram(found: Histogram) -> str:
    """Images by score."""
    most = max(found.counts) or 1
    width = 640 / len(found.counts)
    bars = "".join(
        f'<rect class="bar" x="{place * width:.1f}" y="{130 - 120 * count / most:.1f}" width="{width - 1:.1f}" height="{120 * count / most:.1f}"/>'
        for place, count in enumerate(found.counts)
        if count
    )
    label = f"Histogram of the scores, from {found.low:.4g} to {found.high:.4g}; the fullest bin has {most} images"
    return (
        f'<svg class="chart" viewBox="0 0 640 152" {_named(label)}>{bars}<rect class="rail" y="130" width="640" height="1"/>'
        f'<text x="0" y="147">{found.low:.4g}</text><text x="640" y="147" text-anchor="end">{found.high:.4g}</text></svg>'
    )


def boxes(rows: Sequence[tuple[str, Spread]]) -> str:
    """The spread of the scores of each class: whiskers from the last to the best, a box of the quartiles, the median."""
    low, high = min(each.last for _, each in rows), max(each.best for _, each in rows)
    scale = 470 / ((high - low) or 1.0)

    def at(score: float) -> float:
        return 160 + (score - low) * scale

    parts = []
    for row, (name, each) in enumerate(rows):
        top = 18 * row
        parts.append(
            f'<text x="150" y="{top + 13}" text-anchor="end">{esc(name, 22)}</text>'
            f'<rect class="rail" x="{at(each.last):.1f}" y="{top + 8.5}" width="{at(each.best) - at(each.last):.1f}" height="1"/>'
            f'<rect class="bar" x="{at(each.lower):.1f}" y="{top + 4}" width="{max(at(each.upper) - at(each.lower), 1):.1f}" height="10"/>'
            f'<rect class="median" x="{at(each.median) - 1:.1f}" y="{top + 3}" width="2" height="12"/>'
        )
    height = 18 * len(rows) + 20
    label = "Scores of each class: from the last to the best, a box from the lower to the upper quartile, the median"
    return (
        f'<svg class="chart" viewBox="0 0 640 {height}" {_named(label)}>{"".join(parts)}'
        f'<text x="160" y="{height - 4}">{low:.4g}</text><text x="630" y="{height - 4}" text-anchor="end">{high:.4g}</text></svg>'
    )


def _named(label: str) -> str:
    return f'role="img" aria-label="{esc(label, 400)}"' if label else 'aria-hidden="true"'
