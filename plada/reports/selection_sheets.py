"""Contact sheets of a selection, for a person to look at before it is sent."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from plada.reports.contact_sheet import contact_sheet
from plada.sources.reference import Reference
from plada.sources.synset_names import find_synset_names, name_key

SHEET_COLUMNS = 16
PERCENTILES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


def write_sheet(table: Any, classes: tuple[str, ...], images: Reference, path: Path, *, title: str = "") -> Path:
    """A contact sheet of a selection's table: the first images of each class, in the order in which the rule chose them, each
    with its key below, and the name of its synset where it is known."""
    best = table.filter(np.asarray(table["class_rank"]) < SHEET_COLUMNS).sort_by("class_rank")
    labels, positions = np.asarray(best["label"]), np.asarray(best["position"])
    notes = _notes(best, images)
    totals = np.bincount(np.asarray(table["label"]), minlength=len(classes))
    rows = [
        (f"{name} ({totals[label]})", [images.image(int(p)) for p in positions[labels == label]])
        for label, name in enumerate(classes)
    ]
    by_class = [[notes[row] for row in np.flatnonzero(labels == label)] for label in range(len(classes))]
    return contact_sheet(rows, path, title=title, notes=by_class)


def _notes(table: Any, images: Reference) -> list[str]:
    """What stands under the pictures of a table's rows."""
    synsets = find_synset_names(images.collection.location)
    keys = table["key"].to_pylist()
    return ["\n".join(filter(None, (name_key(key, synsets), key.rsplit("/", 1)[-1]))) for key in keys]


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
