"""Images allowed per class. Every rule of rounding is stated, since the same inputs must give the same bytes."""

import numpy as np
import numpy.typing as npt

from plada.common.arrays import I64


def balanced_quotas(counts: I64, k: int) -> I64:
    """k images in equal parts over the classes, never more than `counts` [c]; what a class lacks the others share.

    Left-over single images go to the classes with most images to spare, then to the lower class.
    """
    quotas = np.zeros_like(counts)
    left = min(k, int(counts.sum()))
    while left:
        open_classes = np.flatnonzero(quotas < counts)
        share = left // len(open_classes)
        if share == 0:
            spare = counts[open_classes] - quotas[open_classes]
            quotas[open_classes[np.argsort(-spare, kind="stable")[:left]]] += 1
            break
        given = np.minimum(share, counts[open_classes] - quotas[open_classes])
        quotas[open_classes] += given
        left -= int(given.sum())
    return quotas


def safety_net_quotas(counts: I64, reserved: int, alpha: float, *, available: I64 | None = None) -> I64:
    """`reserved` images in parts proportional to counts^alpha (the paper's eq. 6), never more than `available`
    (by default `counts`; fewer where only a shortlist of a class can be chosen from).

    The paper leaves open: rounding (largest remainder, ties to the lower class), a class with fewer images than its
    quota (the rest goes to the other quotas in the same proportion), an empty class (quota 0).
    """
    available = counts if available is None else available
    quotas = np.zeros_like(counts)
    weights = np.where(available > 0, np.maximum(counts, 1).astype(np.float64) ** alpha, 0.0)
    left = min(reserved, int(available.sum()))
    while left:
        room = (available - quotas) * (weights > 0)
        ideal = np.where(room > 0, weights, 0.0)
        ideal = left * ideal / ideal.sum()
        given = _rounded(ideal, left, room)
        quotas += given
        left -= int(given.sum())
    return quotas


def weighted_quotas(counts: I64, k: int, shares: npt.NDArray[np.float64]) -> I64:
    """k images in parts proportional to `shares` [c], never more than `counts` [c], at least one of each class that has
    any (while k allows); what a class lacks the others get in the same proportion.

    Rounded by largest remainder, ties to the lower class.
    """
    k = min(k, int(counts.sum()))
    quotas = np.zeros_like(counts)
    there = np.flatnonzero(counts)
    quotas[there[: min(k, len(there))]] = 1
    left = k - int(quotas.sum())
    while left:
        room = counts - quotas
        ideal = np.where(room > 0, np.maximum(shares, 1e-12), 0.0)
        # What every class has already counts towards its share.
        ideal = np.maximum(ideal / ideal.sum() * (left + int(quotas[room > 0].sum())) - quotas, 0.0) * (room > 0)
        ideal = left * ideal / ideal.sum() if ideal.sum() > 0 else left * (room > 0) / (room > 0).sum()
        given = _rounded(ideal, left, room)
        quotas += given
        left -= int(given.sum())
    return quotas


def _rounded(ideal: npt.NDArray[np.float64], left: int, room: I64) -> I64:
    """`left` images in whole numbers near `ideal` [c], which adds up to it: by largest remainder, ties to the lower class, and
    never more than `room` [c]."""
    given = np.floor(ideal).astype(np.int64)
    first = np.argsort(-(ideal - given), kind="stable")
    given[first[: left - int(given.sum())]] += 1
    return np.minimum(given, room)
