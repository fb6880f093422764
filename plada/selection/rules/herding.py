"""Herding: images whose mean, as they are added one by one, stays as near as it can to the mean of a class.

A student that stands on embeddings learns mostly where a class lies. The images that are single-handedly nearest to the
target (plada.selection.rules.nearest) lie all on one side of it, that of the reference; herding balances them out.
"""

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


def herd_order(
    candidates: F32,
    goal: F32,
    count: int,
    *,
    turns: int | None = None,
    groups: I64 | None = None,
    slack: float = 0.0,
) -> I64:
    """The first `count` rows of `candidates` [n, d] in herding order (Welling 2009), int64 [count].

    Each row taken is the one that brings the mean of all taken so far nearest to `goal` [d]; ties go to the lower row.
    Nothing is taken twice. Costs count x n x d multiplications; with `turns` below `count`, each turn takes as many of
    the best rows as needed for that number of turns.

    With `groups` int64 [n] a row of a group that has been taken from already goes before one that is nearer to the goal by no
    more than `slack` times the candidates' mean squared length.
    """
    count = min(count, len(candidates))
    step = 1 if turns is None else max(1, -(-count // turns))
    rows = np.zeros(count, np.int64)
    lengths = np.einsum("nd,nd->n", candidates, candidates).astype(np.float64)
    wanted = (candidates @ goal).astype(np.float64)
    drawn = np.zeros(len(candidates), np.float64)  # inner products with the sum of what was taken
    bonus = slack * float(lengths.mean()) if count else 0.0
    opened = np.zeros(len(candidates), np.bool_)
    for at in range(0, count, step):
        # |sum + z - n goal|^2 for n images taken, without what is the same for every z
        cost = lengths + 2 * drawn - 2 * (at + 1) * wanted
        if groups is not None:
            cost -= bonus * opened
        many = min(step, count - at)
        best = np.array([cost.argmin()]) if many == 1 else _lowest(cost, many)
        rows[at : at + many] = best
        lengths[best] = np.inf
        if groups is not None:
            opened |= np.isin(groups, groups[best]) if many > 1 else groups == groups[best[0]]
        drawn += candidates @ (candidates[best[0]] if many == 1 else candidates[best].sum(axis=0))
    return rows


def _lowest(cost: F64, many: int) -> I64:
    """Places of the `many` lowest values, lowest first, ties by place: a stable sort's beginning without the sort."""
    if many >= len(cost):
        return np.argsort(cost, kind="stable")
    bound = np.partition(cost, many - 1)[many - 1]
    among = np.flatnonzero(cost <= bound)
    return among[np.argsort(cost[among], kind="stable")[:many]]
