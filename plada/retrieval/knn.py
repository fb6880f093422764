"""Exact nearest neighbours over a stream of blocks, on FAISS (CPU, or GPU where faiss-gpu sees one)."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from plada.errors import DataError


def exact_search(
    blocks: Iterable[tuple[npt.NDArray[np.int64], npt.NDArray[np.float16]]], queries: npt.NDArray[np.float32], k: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """(scores float32 [n, k], positions int64 [n, k]) of the k largest inner products, ties to the lower position.

    `blocks` gives (positions [m], vectors [m, d]); `queries` is float32 [n, d]. Only one block is in memory.

    Raises:
        DataError: fewer than k vectors in all.
    """
    import faiss

    heap = faiss.ResultHeap(len(queries), k, keep_max=True)
    queries = np.ascontiguousarray(queries, np.float32)
    gpu = "GPU" in faiss.get_compile_options() and faiss.get_num_gpus() > 0
    resources = faiss.StandardGpuResources() if gpu else None
    for positions, vectors in blocks:
        if not len(positions):
            continue
        block, near = np.ascontiguousarray(vectors, np.float32), min(k, len(positions))
        if resources is not None:
            scores, rows = faiss.knn_gpu(resources, queries, block, near, metric=faiss.METRIC_INNER_PRODUCT)
        else:
            scores, rows = faiss.knn(queries, block, near, metric=faiss.METRIC_INNER_PRODUCT)
        heap.add_result(scores, positions[rows])
    heap.finalize()
    if (heap.I < 0).any():
        raise DataError(f"fewer than {k} images have an embedding")
    # FAISS lists equal scores by falling id; people expect the first image first.
    order = np.lexsort((heap.I, -heap.D), axis=1)
    return np.take_along_axis(heap.D, order, axis=1), np.take_along_axis(heap.I, order, axis=1)
