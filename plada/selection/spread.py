"""Spread: within a class, images that differ from each other."""

import numpy as np

from plada.extras import require
from plada.labeler.scores import PseudoLabels
from plada.selection.quotas import balanced_quotas
from plada.selection.rule import F32, I64, Choose, Chosen, Context, class_pools, in_order_of

CELL_DIMENSIONS = 64
AXES_SAMPLE = 5000
SPREAD_POOL = 8  # candidates for each image that is kept, chosen by margin, before they are spread


def spread(labels: PseudoLabels, context: Context) -> Choose:
    """Class-balanced and different from each other: of SPREAD_POOL times the quota with the largest margins, k-means
    cells as many as the quota, and the largest margin of each cell (design.md section 9)."""
    score = labels.scores["margin"]
    pools = class_pools(labels)
    sample = labels.positions[:: max(1, len(labels) // AXES_SAMPLE)]
    axes = principal_axes(context.vectors(sample))

    def choose(k: int) -> Chosen:
        kept: list[I64] = []
        for pool, quota in zip(pools, balanced_quotas(labels.counts(), k).tolist(), strict=True):
            candidates = pool[: SPREAD_POOL * quota]
            if quota == 0 or len(candidates) <= quota:
                kept.append(candidates[:quota])
                continue
            cells = k_means_cells(context.vectors(labels.positions[candidates]) @ axes, quota, seed=context.seed)
            # Candidates are best first, so the first row of a cell is its best; for an empty cell, the next best.
            _, first = np.unique(cells, return_index=True)
            rest = np.setdiff1d(np.arange(len(candidates)), first)
            kept.append(candidates[np.concatenate([np.sort(first), rest])[:quota]])
        return in_order_of(score, np.concatenate(kept))

    return choose


def principal_axes(vectors: F32, dimensions: int = CELL_DIMENSIONS) -> F32:
    """The directions [d, m] of largest variance of vectors [n, d], at most `dimensions`. Cells are as good in 64 of them
    as in all, and k-means is twenty times as fast for 1280."""
    _, axes = np.linalg.eigh(np.cov(vectors, rowvar=False))
    return np.ascontiguousarray(axes[:, ::-1][:, :dimensions], np.float32)


def k_means_cells(vectors: F32, cells: int, *, seed: int) -> I64:
    """Cell of each vector, int64 [n], by ten rounds of FAISS's k-means from a seeded start."""
    require("faiss", extra="cpu", purpose="rule spread")
    import faiss

    vectors = np.ascontiguousarray(vectors, np.float32)
    means = faiss.Kmeans(vectors.shape[1], cells, niter=10, seed=seed + 1, min_points_per_centroid=1, verbose=False)
    means.train(vectors)
    return np.asarray(means.assign(vectors)[1], np.int64)
