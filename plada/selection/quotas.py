"""Images allowed per class. Every rule of rounding is stated, since the same inputs must give the same bytes."""

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]


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


def safety_net_quotas(counts: I64, reserved: int, alpha: float) -> I64:
    """`reserved` images in parts proportional to counts^alpha (the paper's eq. 6), never more than `counts`.

    The paper leaves open: rounding (largest remainder, ties to the lower class), a class with fewer images than its
    quota (the rest goes to the other quotas in the same proportion), an empty class (quota 0).
    """
    quotas = np.zeros_like(counts)
    weights = np.where(counts > 0, np.maximum(counts, 1).astype(np.float64) ** alpha, 0.0)
    left = min(reserved, int(counts.sum()))
    while left:
        room = (counts - quotas) * (weights > 0)
        ideal = np.where(room > 0, weights, 0.0)
        ideal = left * ideal / ideal.sum()
        given = np.floor(ideal).astype(np.int64)
        remainder_first = np.argsort(-(ideal - given), kind="stable")
        given[remainder_first[: left - int(given.sum())]] += 1
        given = np.minimum(given, room)
        quotas += given
        left -= int(given.sum())
    return quotas
