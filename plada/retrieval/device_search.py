"""Exact search on a GPU that keeps the embeddings: float16, as they are stored, copied once for all searches of an opened index.

The GPU multiplies in float32 and drops only rows that fall short by more than rounding can hide (`plada.retrieval.coarse` has the
bound). The rest is scored by `plada.indexer.scores` on the CPU, so the result is that of `exact_search`, bit for bit.
"""

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from plada.common.arrays import F32, I64
from plada.common.failures import out_of_memory
from plada.errors import DataError
from plada.indexer.scores import VectorBlocks, score
from plada.networks.device import cuda_device, free_device_memory, release_memory, send
from plada.retrieval.coarse import lowest, slack
from plada.retrieval.knn import NOWHERE, check_queries, damaged_vector, exact_search, merge

if TYPE_CHECKING:
    import torch

WORTH = 1 << 28  # bytes of embeddings from which the GPU pays; the CPU reads fewer in a blink
_SHARE = 2  # embeddings may take one in so many bytes of what is free
_QUERIES, _ROWS = 1024, 1 << 16  # of one product
_SPARE = 16  # rows that are looked at beyond k, so that rounding seldom decides who is in
# Unit roundoff of both factors together, where a process lets float32 be multiplied as something shorter.
_ROUNDOFF = {"none": 0.0, "ieee": 0.0, "tf32": 2.0**-10}
_BF16 = 2.0**-7


class KeptVectors:
    """Embeddings float16 [m, d] on a device, with their positions int64 [m] here."""

    def __init__(self, blocks: VectorBlocks, rows: int, dimension: int, where: "torch.device") -> None:
        """Copy them; `rows` is how many there are at most. Raises DataError: one is not finite."""
        import torch

        self.vectors = torch.empty((rows, dimension), dtype=torch.float16, device=where)
        self.positions = np.empty(rows, np.int64)
        self.where, self.longest, at = where, 0.0, 0
        for positions, vectors in blocks:
            stop = at + len(positions)
            self.vectors[at:stop] = send(torch.from_numpy(np.array(vectors, np.float16)), where)
            lengths = self.vectors[at:stop].float().norm(dim=1)
            if not bool(lengths.isfinite().all()):
                raise damaged_vector(int(positions[int((~lengths.isfinite()).nonzero()[0])]))
            self.positions[at:stop] = positions
            self.longest = max(self.longest, float(lengths.max()) if len(lengths) else 0.0)
            at = stop
        self.vectors, self.positions = self.vectors[:at], self.positions[:at]
        self.longest *= 1 + dimension * 2.0**-23

    def search(self, queries: F32, k: int) -> tuple[F32, I64]:
        """As `exact_search`."""
        import torch

        queries = check_queries(queries)
        best = np.full((len(queries), k), -np.inf, np.float32)
        places = np.full((len(queries), k), NOWHERE, np.int64)
        if len(self.positions) < k:
            raise DataError(f"fewer than {k} images have an embedding")
        missing = slack(queries, queries, unit=roundoff() if self.where.type == "cuda" else 0.0) * self.longest
        for start in range(0, len(queries) if k else 0, _QUERIES):
            chunk = slice(start, min(start + _QUERIES, len(queries)))
            for asked, rows in self._candidates(queries[chunk], missing[chunk], k):
                distinct, at = np.unique(rows, return_inverse=True)
                near = self.vectors[send(torch.from_numpy(distinct), self.where)].cpu().numpy()
                merge(best[chunk], places[chunk], asked, score(queries[chunk], near, asked, at), self.positions[rows])
        return best, places

    def _candidates(self, queries: F32, missing: Any, k: int) -> Iterator[tuple[I64, I64]]:
        """(query int64 [c], row int64 [c]) of all rows that could be among the k best of their query."""
        import torch

        wide = send(torch.from_numpy(queries), self.where)
        near = min(k + _SPARE, len(self.positions))
        top: Any = None
        for first, scores in self._products(wide):
            value, row = scores.topk(min(near, scores.shape[1]), dim=1)
            both = (
                (value, row + first)
                if top is None
                else (torch.cat([top[0], value], 1), torch.cat([top[1], row + first], 1))
            )
            value, place = both[0].topk(min(near, both[0].shape[1]), dim=1)
            top = value, both[1].gather(1, place)
        scores, rows = (part.cpu().numpy() for part in top)
        low = lowest(np.full(len(queries), -np.inf, np.float32), scores[:, k - 1].astype(np.float64), missing)
        # The last row that is looked at may still count: then others behind it may, too.
        unsure = np.flatnonzero(scores[:, -1] >= low) if near < len(self.positions) else np.zeros(0, np.int64)
        keep = scores >= low[:, None]
        keep[unsure] = False
        asked, columns = np.nonzero(keep)
        yield asked, rows[asked, columns]
        if len(unsure):
            some, least = (
                wide[send(torch.from_numpy(unsure), self.where)],
                send(torch.from_numpy(low[unsure]), self.where),
            )
            for first, scores in self._products(some):
                asked, found = (part.cpu().numpy() for part in (scores >= least[:, None]).nonzero(as_tuple=True))
                yield unsure[asked], found + first

    def _products(self, queries: "torch.Tensor") -> "Iterator[tuple[int, torch.Tensor]]":
        """(first row, scores float32 [n, m]) block by block."""
        for first in range(0, len(self.positions), _ROWS):
            yield first, queries @ self.vectors[first : first + _ROWS].float().T


def roundoff() -> float:
    """Unit roundoff of the factors of float32 products on a GPU, as torch is set in this process."""
    import torch

    backends: Any = torch.backends
    own, general = backends.cuda.matmul.fp32_precision, backends.fp32_precision
    return _ROUNDOFF.get(general if own == "none" else own, _BF16)


class ExactSearch:
    """Exact search in one index. Where torch sees a GPU with room, large embeddings are copied to it at the first search, and
    stay; a GPU whose memory ends is given up. Threads may share it."""

    def __init__(self) -> None:
        self._kept: KeptVectors | None = None
        self._given_up = False
        self._lock = threading.Lock()

    def __call__(
        self, blocks: Callable[[], VectorBlocks], queries: F32, k: int, *, rows: int, dimension: int
    ) -> tuple[F32, I64]:
        """As `exact_search` over `blocks()`, which have `rows` embeddings in all."""
        full = False
        try:
            kept = self._on_gpu(blocks, rows, dimension)
            if kept is not None:
                return kept.search(queries, k)
        except (RuntimeError, MemoryError) as err:
            if not out_of_memory(err):
                raise
            self._kept, self._given_up, full = None, True, True
        if full:  # the error is gone, which held what did fit
            release_memory("cuda")
        return exact_search(blocks(), queries, k)

    def _on_gpu(self, blocks: Callable[[], VectorBlocks], rows: int, dimension: int) -> KeptVectors | None:
        with self._lock:
            size = rows * dimension * 2
            if self._kept is None and not self._given_up and size >= WORTH and (where := cuda_device()) is not None:
                free = free_device_memory(where)
                if free is not None and size * _SHARE <= free:
                    self._kept = KeptVectors(blocks(), rows, dimension, where)
                else:
                    self._given_up = True
            return self._kept
