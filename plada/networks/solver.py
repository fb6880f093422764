"""Softmax regression by L-BFGS in numpy.

For problems this small it takes a tenth of the time of a general optimiser; choosing one rule trains hundreds of students.
"""

from collections import deque

import numpy as np

from plada.common.arrays import F64, I64

_HISTORY = 10
_ARMIJO, _SHRINK, _MAX_HALVINGS = 1e-4, 0.5, 12
_FLAT = 1e-7  # largest gradient at which the search ends


def softmax_regression(
    points: F64, labels: I64 | F64, classes: int, *, penalty: float, steps: int, start: F64 | None = None
) -> F64:
    """Weights float64 [d + 1, classes] (bias last) that minimise mean cross-entropy + penalty x |weights|^2, bias free.

    points [n, d], labels int64 [n], or soft ones float64 [n, classes] whose rows add up to 1. At most `steps` iterations from
    `start`, by default zero; the problem is convex, so the start only decides how long it takes.
    """
    inputs = np.hstack([points, np.ones((len(points), 1))])
    if labels.ndim == 2:
        targets = np.asarray(labels, np.float64)
    else:
        targets = np.zeros((len(points), classes))
        targets[np.arange(len(points)), labels] = 1

    def value(weights: F64) -> tuple[float, F64]:
        logits = inputs @ weights
        logits -= logits.max(axis=1, keepdims=True)
        powers = np.exp(logits)
        totals = powers.sum(axis=1, keepdims=True)
        loss = float(np.log(totals).mean() - np.einsum("nc,nc->", logits, targets) / len(points))
        powers /= totals
        powers -= targets
        slope = inputs.T @ powers
        slope /= len(points)
        slope[:-1] += 2 * penalty * weights[:-1]
        return loss + penalty * float(np.vdot(weights[:-1], weights[:-1])), slope

    weights = np.zeros((inputs.shape[1], classes)) if start is None else start.copy()
    loss, slope = value(weights)
    history: deque[tuple[F64, F64, float]] = deque(maxlen=_HISTORY)
    for _ in range(steps):
        if np.abs(slope).max() < _FLAT:
            break
        direction = _direction(slope, history)
        down = float(np.vdot(slope, direction))
        if down >= 0:  # rounding has spoilt the collected curvature
            history.clear()
            direction, down = -slope, -float(np.vdot(slope, slope))
        step = 1.0 if history else min(1.0, 1.0 / float(np.abs(slope).sum()))
        for _ in range(_MAX_HALVINGS):
            moved = weights + step * direction
            then, new_slope = value(moved)
            if then <= loss + _ARMIJO * step * down:
                break
            step *= _SHRINK
        else:
            break
        change, bend = moved - weights, new_slope - slope
        curvature = float(np.vdot(change, bend))
        if curvature > 1e-14:
            history.append((change, bend, 1.0 / curvature))
        weights, loss, slope = moved, then, new_slope
    return weights


def _direction(slope: F64, history: deque[tuple[F64, F64, float]]) -> F64:
    """The two-loop recursion (Nocedal 1980)."""
    direction, shares = -slope, []
    for change, bend, weight in reversed(history):
        share = weight * float(np.vdot(change, direction))
        shares.append(share)
        direction = direction - share * bend
    if history:
        change, bend, weight = history[-1]
        direction = direction / (weight * float(np.vdot(bend, bend)))
    for (change, bend, weight), share in zip(history, reversed(shares), strict=True):
        direction = direction + (share - weight * float(np.vdot(bend, direction))) * change
    return direction
