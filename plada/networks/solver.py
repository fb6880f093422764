"""Softmax regression by L-BFGS in numpy; of many examples and classes on a GPU, where one may be used.

For problems this small it takes a tenth of the time of a general optimiser; choosing one rule trains hundreds of students. It runs
on one thread: more gain nothing, and wait for each other where the machine is busy.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from plada.common.arrays import F32, F64, I64
from plada.common.machine import cores
from plada.common.products import BLAS, one_thread
from plada.networks.device import free_device_memory, send

if TYPE_CHECKING:
    import torch

_HISTORY = 10
_ARMIJO, _SHRINK, _MAX_HALVINGS = 1e-4, 0.5, 12
_NUMBERS = 1 << 22  # logits of a block: 16 MB
_LEAST_ROWS, _MOST_ROWS = 256, 8192  # examples of a block
_DEVICE_NUMBERS, _MOST_DEVICE_ROWS = 1 << 26, 1 << 16  # the same on a GPU: 256 MB
_SETTLING = 10  # steps over which the loss is looked at
_FLAT = 1e-7  # largest gradient at which the search ends


@one_thread(BLAS)
def softmax_regression(
    points: F64,
    labels: I64 | F64,
    classes: int,
    *,
    penalty: float,
    steps: int,
    settled: float = 0.0,
    start: F64 | None = None,
    importance: F64 | None = None,
) -> F64:
    """Weights float64 [d + 1, classes] (bias last) that minimise mean cross-entropy + penalty x |weights|^2, bias free.

    points [n, d], labels int64 [n], or soft ones float64 [n, classes] whose rows add up to 1; `importance` [n] is how much each
    example counts, on average 1. At most `steps` iterations from `start`, by default zero, fewer where ten bring less than the share
    `settled` of the loss; the problem is convex, so the start only decides how long it takes.
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
        if importance is None:
            loss = float(np.log(totals).mean() - np.einsum("nc,nc->", logits, targets) / len(points))
        else:
            losses = np.log(totals[:, 0]) - np.einsum("nc,nc->n", logits, targets)
            loss = float(np.vdot(importance, losses)) / len(points)
        powers /= totals
        powers -= targets
        if importance is not None:
            powers *= importance[:, None]
        slope = inputs.T @ powers
        slope /= len(points)
        slope[:-1] += 2 * penalty * weights[:-1]
        return loss + penalty * float(np.vdot(weights[:-1], weights[:-1])), slope

    return minimise(value, np.zeros((inputs.shape[1], classes)) if start is None else start.copy(), steps, settled)


def blocked_regression(
    points_of: Callable[[slice], F32],
    labels: I64 | F64,
    classes: int,
    dimension: int,
    *,
    penalty: float,
    steps: int,
    settled: float = 0.0,
    start: F64 | None = None,
    importance: F64 | None = None,
) -> F64:
    """As softmax_regression, for more examples and classes than memory holds the logits of.

    `points_of` gives points float32 [m, d] of a slice of the examples. Logits are float32 and exist for one block of examples a
    processor; sums over blocks are float64 and taken in one order, so the result does not depend on the number of threads.
    """
    rows = max(_LEAST_ROWS, min(_MOST_ROWS, _NUMBERS // classes))

    def part(first: int, weights: F32) -> tuple[float, F32]:
        some = slice(first, first + rows)
        points, wanted = points_of(some), labels[some]
        logits = points @ weights[:-1]
        logits += weights[-1]
        logits -= logits.max(axis=1, keepdims=True)
        at = np.arange(len(points))
        own = logits[at, wanted] if wanted.ndim == 1 else np.einsum("nc,nc->n", logits, wanted)
        powers = np.exp(logits, out=logits)
        totals = powers.sum(axis=1, keepdims=True)
        losses = np.log(totals[:, 0].astype(np.float64)) - own
        loss = float(losses.sum() if importance is None else np.vdot(importance[some], losses))
        powers /= totals
        if wanted.ndim == 1:
            powers[at, wanted] -= 1
        else:
            powers -= wanted
        if importance is not None:
            powers *= importance[some, None].astype(np.float32)
        slope = np.empty(weights.shape, np.float32)
        np.matmul(points.T, powers, out=slope[:-1])
        slope[-1] = powers.sum(axis=0)
        return loss, slope

    with one_thread(BLAS), ThreadPoolExecutor(cores()) as pool:

        def value(weights: F64) -> tuple[float, F64]:
            rounded, loss, slope = weights.astype(np.float32), 0.0, np.zeros(weights.shape)
            for first in range(0, len(labels), rows * cores()):
                starts = range(first, min(first + rows * cores(), len(labels)), rows)
                for one_loss, one_slope in pool.map(lambda at: part(at, rounded), starts):
                    loss += one_loss
                    slope += one_slope
            slope /= len(labels)
            slope[:-1] += 2 * penalty * weights[:-1]
            return loss / len(labels) + penalty * float(np.vdot(weights[:-1], weights[:-1])), slope

        return minimise(value, np.zeros((dimension + 1, classes)) if start is None else start.copy(), steps, settled)


def device_regression(
    points_of: Callable[[slice], F32],
    labels: I64 | F64,
    classes: int,
    dimension: int,
    *,
    where: "torch.device",
    penalty: float,
    steps: int,
    settled: float = 0.0,
    start: F64 | None = None,
    importance: F64 | None = None,
) -> F64:
    """As blocked_regression, with logits and sums on a GPU, in float32 and float64; the search itself is the same.

    Points stay on the device where they take at most a quarter of what is free, else they are sent block by block. Sums are taken in
    one order, so one GPU gives the same bits each time; another one, or a CPU, rounds otherwise.
    """
    import torch
    from torch.nn import functional

    rows = max(_LEAST_ROWS, min(_MOST_DEVICE_ROWS, _DEVICE_NUMBERS // classes))
    free = free_device_memory(where)
    stay = free is None or len(labels) * dimension * 4 <= free // 4
    kept: dict[int, torch.Tensor] = {}

    def points(first: int) -> torch.Tensor:
        if first in kept:
            return kept[first]
        sent = send(torch.from_numpy(np.ascontiguousarray(points_of(slice(first, first + rows)))), where)
        if stay:
            kept[first] = sent
        return sent

    def value(weights: F64) -> tuple[float, F64]:
        matrix = send(torch.from_numpy(weights.astype(np.float32)), where)
        loss = torch.zeros((), dtype=torch.float64, device=where)
        slope = torch.zeros(matrix.shape, dtype=torch.float64, device=where)
        for first in range(0, len(labels), rows):
            block, wanted = points(first), send(torch.from_numpy(labels[first : first + rows]), where)
            odds = functional.log_softmax(torch.addmm(matrix[-1], block, matrix[:-1]), dim=1)
            powers = odds.exp()
            if wanted.ndim == 1:
                losses = -odds.gather(1, wanted[:, None])
                powers.scatter_(1, wanted[:, None], powers.gather(1, wanted[:, None]) - 1)
            else:
                losses = -(odds * wanted).sum(dim=1, keepdim=True)
                powers -= wanted
            if importance is not None:
                counts = send(torch.from_numpy(importance[first : first + rows, None].astype(np.float32)), where)
                losses, powers = losses * counts, powers * counts
            loss += losses.sum(dtype=torch.float64)
            slope[:-1] += block.T @ powers
            slope[-1] += powers.sum(dim=0)
        slopes: F64 = slope.cpu().numpy() / len(labels)
        slopes[:-1] += 2 * penalty * weights[:-1]
        return float(loss) / len(labels) + penalty * float(np.vdot(weights[:-1], weights[:-1])), slopes

    return minimise(value, np.zeros((dimension + 1, classes)) if start is None else start.copy(), steps, settled)


def minimise(value: Callable[[F64], tuple[float, F64]], weights: F64, steps: int, settled: float = 0.0) -> F64:
    """L-BFGS with halving steps: weights after at most `steps` iterations; `value` gives loss and slope."""
    loss, slope = value(weights)
    losses = deque([loss], maxlen=_SETTLING + 1)
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
        losses.append(loss)
        if len(losses) > _SETTLING and losses[0] - loss < settled * loss:
            break
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
