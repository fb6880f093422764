"""Contact sheets of a selection, for a person to look at before it is sent."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from plada.reports.contact_sheet import contact_sheet
from plada.sources.reference import Reference

SHEET_COLUMNS = 16
PERCENTILES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


def write_sheet(table: Any, classes: tuple[str, ...], images: Reference, path: Path, *, title: str = "") -> Path:
    """A contact sheet of a selection's table: the first images of each class, in the order in which the rule chose them."""
    best = table.filter(np.asarray(table["class_rank"]) < SHEET_COLUMNS).sort_by("class_rank")
    labels, positions = np.asarray(best["label"]), np.asarray(best["position"])
    totals = np.bincount(np.asarray(table["label"]), minlength=len(classes))
    rows = [
        (f"{name} ({totals[label]})", [images.image(int(p)) for p in positions[labels == label]])
        for label, name in enumerate(classes)
    ]
    return contact_sheet(rows, path, title=title)


def write_percentiles(table: Any, classes: tuple[str, ...], images: Reference, path: Path, *, title: str = "") -> Path:
    """A contact sheet by score percentile, as the paper's figure 3: from the first images to the last, whatever the class,
    each with its label below."""
    order = np.argsort(-np.asarray(table["score"]), kind="stable")
    positions, labels = np.asarray(table["position"])[order], np.asarray(table["label"])[order]
    rows, notes = [], []
    for low, high in itertools.pairwise(PERCENTILES):
        first, last = int(low * len(order)), max(int(high * len(order)), int(low * len(order)) + 1)
        some = np.unique(np.linspace(first, min(last, len(order)) - 1, SHEET_COLUMNS // 2).round().astype(int))
        rows.append((f"{low:.0%} to {high:.0%}", [images.image(int(positions[row])) for row in some]))
        notes.append([classes[int(labels[row])][:10] for row in some])
    return contact_sheet(rows, path, title=title, notes=notes)
