"""Soft labels: what a class means as shares of all classes, one row a class, in the notes of a payload.

The paper's label variants (arXiv 2602.23358, Appendix D): the mean odds of a class's images (eq. 12), or a Dirichlet
distribution of them (eq. 13, 14) from which a target is drawn each time an image is seen. Readers that do not know the note
train on the hard labels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from plada.common.arrays import F64, I64
from plada.errors import PayloadCorrupt, PayloadUnsupported

NOTE = "soft_labels"
MAX_CLASSES = 4096  # a table of their squares is what a reader must have room for
PARTS = 255  # shares are sent as whole numbers that add up to this
_TINY = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class SoftLabels:
    """`shares` int64 [classes, classes]: row c is what an image of class c is like, in PARTS; `precision` float64 [classes] is
    the sum of a class's Dirichlet parameters, None where targets are the shares themselves."""

    shares: I64
    precision: F64 | None = None

    def targets(self, labels: I64, seed: int) -> F64:
        """What to train on, float64 [n, classes], rows adding up to 1, for labels int64 [n]; `seed` decides the draws of a
        Dirichlet."""
        means = self.shares[labels] / PARTS
        if self.precision is None:
            return np.asarray(means, np.float64)
        drawn = np.random.default_rng(seed).standard_gamma(means * self.precision[labels][:, None])
        totals = drawn.sum(axis=1, keepdims=True)
        # Parameters far below 1 can all be drawn as zero.
        return np.asarray(np.where(totals > _TINY, drawn / np.maximum(totals, _TINY), means), np.float64)

    def note(self) -> dict[str, Any]:
        """The member NOTE of a payload's notes: of each class, pairs of another class and its share, shares of 0 left
        out."""
        rows = []
        for row in self.shares:
            there = np.flatnonzero(row)
            rows.append(np.stack([there, row[there]], axis=1).ravel().tolist())
        note: dict[str, Any] = {"shares": rows}
        if self.precision is not None:
            note["precision"] = [float(f"{value:.3g}") for value in self.precision]
        return {NOTE: note}


def soft_labels_of(notes: Mapping[str, Any], classes: int) -> SoftLabels | None:
    """The soft labels in the notes of a payload of `classes`, or None where there are none.

    Raises:
        PayloadCorrupt: not what SoftLabels.note makes.
    """
    if NOTE not in notes:
        return None
    note = notes[NOTE]
    if classes > MAX_CLASSES:
        raise PayloadUnsupported(
            f"note {NOTE}: {classes} classes; soft labels are read for at most {MAX_CLASSES}. Ask for one with hard labels"
        )
    rows = note.get("shares") if isinstance(note, dict) else None
    if not isinstance(rows, list) or len(rows) != classes or not all(_is_row(row, classes) for row in rows):
        raise PayloadCorrupt(
            f"note {NOTE}: expected, for each of {classes} classes, pairs of a class and its share of {PARTS}. Ask for the "
            "payload again"
        )
    shares = np.zeros((classes, classes), np.int64)
    for label, row in enumerate(rows):
        shares[label, row[::2]] = row[1::2]
    precision = note.get("precision")
    if precision is None:
        return SoftLabels(shares)
    good = isinstance(precision, list) and len(precision) == classes
    if not good or not all(type(one) in (int, float) and 0 < one < 1e9 for one in precision):
        raise PayloadCorrupt(f"note {NOTE}: expected a precision above 0 for each of {classes} classes")
    return SoftLabels(shares, np.array(precision, np.float64))


def _is_row(row: Any, classes: int) -> bool:
    if not isinstance(row, list) or len(row) % 2 or not all(type(number) is int for number in row):
        return False
    others, parts = row[::2], row[1::2]
    within = all(0 <= other < classes for other in others) and len(set(others)) == len(others)
    return within and all(0 < part <= PARTS for part in parts) and sum(parts) == PARTS
