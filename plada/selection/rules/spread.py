"""Spread: within a class, images that differ from each other."""

import numpy as np

from plada.common.arrays import F32, I64
from plada.common.packages import require
from plada.common.products import one_thread
from plada.labeler.pseudo_labels import PseudoLabels
from plada.selection.rules.rule import Choose, Chosen, Context, class_by_class, class_pools, in_order_of
from plada.selection.space import SAMPLE, main_axes

CELL_DIMENSIONS = 64  # cells are as good there as in all dimensions, and k-means is twenty times as fast for 1 280
SPREAD_POOL = 8  # candidates for each image that is kept, chosen by margin, before they are spread


def spread(labels: PseudoLabels, context: Context) -> Choose:
    """Class-balanced and different from each other: of SPREAD_POOL times the quota with the largest margins, k-means
    cells as many as the quota, and the largest margin of each cell (design.md section 9)."""
    score, pools = labels.scores["margin"], class_pools(labels)
    if context.space is None:
        sample = labels.positions[:: max(1, len(labels) // SAMPLE)]
        axes = main_axes(context.vectors(sample), CELL_DIMENSIONS)

    def points(rows: I64) -> F32:
        if context.space is not None:  # its axes come largest first
            return context.space.at(labels.positions[rows])[:, :CELL_DIMENSIONS]
        return context.vectors(labels.positions[rows]) @ axes

    def within(label: int, quota: int) -> Chosen:
        candidates = pools[label][: SPREAD_POOL * quota]
        if len(candidates) > quota:
            cells = k_means_cells(points(candidates), quota, seed=context.seed)
            # Candidates are best first, so the first row of a cell is its best; for an empty cell, the next best.
            _, first = np.unique(cells, return_index=True)
            rest = np.setdiff1d(np.arange(len(candidates)), first)
            candidates = candidates[np.concatenate([np.sort(first), rest])[:quota]]
        return in_order_of(score, candidates)

    return class_by_class(labels, within)


def k_means_cells(vectors: F32, cells: int, *, seed: int) -> I64:
    """Cell of each vector, int64 [n], by ten rounds of FAISS's k-means from a seeded start."""
    require("faiss", extra="cpu", purpose="rule spread")
    import faiss

    vectors = np.ascontiguousarray(vectors, np.float32)
    means = faiss.Kmeans(vectors.shape[1], cells, niter=10, seed=seed + 1, min_points_per_centroid=1, verbose=False)
    with one_thread():
        means.train(vectors)
        return np.asarray(means.assign(vectors)[1], np.int64)
