"""The passes of `select` over the embeddings of an index: by this process, or on a Ray cluster.

On Ray a task reads a range of the index on its node, by the path or URL that the index has here, and gives back what can still be
wanted of it. A path may be a disk that nodes share, or a copy on each node's own disk: that it is the same index is compared. The
results of all ranges, put together in order of position, are those of one pass, to the last bit on the same kind of processor.
"""

import json
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from plada.common.arrays import F16, F32, I64
from plada.common.cluster import LIVES, RAY, in_order, places, ray_cluster
from plada.common.products import BLAS, one_thread
from plada.common.progress import Report, Tracker
from plada.errors import DataError, PladaError, ReferenceMismatch, RequestError, ResourceError
from plada.indexer.ann import ann_source
from plada.labeler.pseudo_labels import PseudoLabels
from plada.labeler.scan import MarginCollector, TopMargins, collect_margins, join_scores, score_all, score_some
from plada.labeler.shortlist import LeadCollector, Leads, Shortlist, find_shortlist, shortlist_depth
from plada.networks.linear_head import Head
from plada.retrieval.embeddings import is_among
from plada.retrieval.index import Index, open_index
from plada.retrieval.remote import RemoteFolder

_AHEAD = 2  # tasks for each that the cluster can do at once
_WAITING = 1 << 30  # bytes of results that may lie in Ray's store
_REMEDY = "Start nodes with more memory, or leave out --engine ray"
_KINDS = (DataError, ReferenceMismatch, RequestError, ResourceError)


class Passes(Protocol):
    """What is asked of all embeddings of an index. `stage` names the pass in the progress."""

    def scores(self, head: Head, names: Collection[str], stage: str) -> PseudoLabels:
        """As score_all."""
        ...

    def shortlist(self, head: Head, share: float, stage: str) -> Shortlist:
        """As find_shortlist."""
        ...

    def surest(self, head: Head, depth: int, stage: str) -> TopMargins:
        """As scan_linear."""
        ...

    def embeddings(self, positions: I64, stage: str) -> Iterator[tuple[I64, F16]]:
        """Blocks (positions [m], embeddings [m, d]) in order, in which all of `positions` (rising) are, and perhaps others."""
        ...


@contextmanager
def passes_over(index: Index, engine: str, report: Report) -> Iterator[Passes]:
    """The passes over an index by an engine of plada.common.cluster.

    Raises:
        MissingExtra: ray is not installed. ResourceError: no cluster answers, or it has no CPU.
    """
    if engine != RAY:
        yield OwnPasses(index, report)
        return
    Tracker("scan", index.readable, report).say("looking for a Ray cluster")
    with ray_cluster("--engine ray") as ray:
        yield RayPasses(index, report, ray, places("CPU"))


class OwnPasses:
    """By this process."""

    def __init__(self, index: Index, report: Report) -> None:
        self._index, self._report = index, report

    def scan(self, stage: str) -> Iterator[tuple[I64, F16]]:
        """All embeddings, telling how far it is."""
        tracker = Tracker(stage, self._index.readable, self._report)
        for where, some in self._index.scan():
            yield where, some
            tracker.advance(len(where))

    def scores(self, head: Head, names: Collection[str], stage: str) -> PseudoLabels:
        """See Passes."""
        return score_all(self.scan(stage), head, names)

    def shortlist(self, head: Head, share: float, stage: str) -> Shortlist:
        """See Passes."""
        classes = head.weight.shape[1]
        return find_shortlist(self.scan(stage), head.logits, classes=classes, images=self._index.readable, share=share)

    def surest(self, head: Head, depth: int, stage: str) -> TopMargins:
        """See Passes."""
        return collect_margins(self.scan(stage), head, depth=depth).finish()

    def embeddings(self, positions: I64, stage: str) -> Iterator[tuple[I64, F16]]:
        """See Passes."""
        return self.scan(stage)


class RayPasses:
    """By tasks on a cluster that does `cores` at once, each with a range of the index."""

    def __init__(self, index: Index, report: Report, ray: Any, cores: int) -> None:
        self._index, self._report, self._ray, self._cores = index, report, ray, cores
        place = index.rows.place
        options = dict(place.options) if isinstance(place, RemoteFolder) else {}
        self._place = ray.put(json.dumps([index.place, str(index.home), options, ann_source(index.info)]))
        self._ranges = index.rows.ranges()

    def scores(self, head: Head, names: Collection[str], stage: str) -> PseudoLabels:
        """See Passes."""
        wanted = sorted(names)
        return join_scores(self._results(_scores, stage, 16 + 4 * (1 + len(wanted)), self._ray.put(head), wanted))

    def shortlist(self, head: Head, share: float, stage: str) -> Shortlist:
        """See Passes. A task is told the floors so far: what lies below is not sent."""
        classes, images = head.weight.shape[1], self._index.readable
        kept = LeadCollector(classes, shortlist_depth(classes, images, share))
        shared = self._ray.put(head)
        # At first a task may send as many leads as all classes keep.
        row = 20 * max(1, kept.depth * classes // max(1, *map(len, self._ranges)))
        for part in self._results(_leads, stage, row, shared, kept.depth, lambda: kept.floor.copy()):
            kept.join(part)
        return kept.finish()

    def surest(self, head: Head, depth: int, stage: str) -> TopMargins:
        """See Passes."""
        kept = MarginCollector(head.weight.shape[1], depth)
        for part in self._results(_surest, stage, 20, self._ray.put(head), depth):
            kept.join(part)
        return kept.finish()

    def embeddings(self, positions: I64, stage: str) -> Iterator[tuple[I64, F16]]:
        """See Passes. A range in which none lies is not read."""
        edges = np.searchsorted(positions, [[each.start, each.stop] for each in self._ranges])
        some = [(each, positions[first:last]) for each, (first, last) in zip(self._ranges, edges, strict=True)]
        remote, tracker = self._remote(_embeddings), Tracker(stage, len(positions), self._report)
        calls = (remote.remote(self._place, each, wanted) for each, wanted in some if len(wanted))
        for where, vectors in in_order(calls, self._ahead(2 * self._index.dimension), _REMEDY):
            yield where, vectors
            tracker.advance(len(where))

    def _results(self, work: Any, stage: str, bytes_a_row: int, *arguments: Any) -> Iterator[Any]:
        """What `work` gives for every range, in order. An argument that can be called is asked before each."""
        remote, tracker = self._remote(work), Tracker(stage, len(self._index), self._report)
        calls = (
            remote.remote(self._place, each, *(value() if callable(value) else value for value in arguments))
            for each in self._ranges
        )
        for each, result in zip(self._ranges, in_order(calls, self._ahead(bytes_a_row), _REMEDY), strict=True):
            yield result
            tracker.advance(len(each))

    def _remote(self, work: Any) -> Any:
        return self._ray.remote(num_cpus=1, max_retries=LIVES)(work)

    def _ahead(self, bytes_a_row: int) -> int:
        rows = max(map(len, self._ranges), default=1)
        return max(1, min(_AHEAD * self._cores, _WAITING // (rows * bytes_a_row)))


def _scores(place: str, rows: range, head: Head, names: list[str]) -> PseudoLabels:
    with _on_node(), one_thread(BLAS):
        return score_some(_node_index(place).rows.embeddings(rows=rows), head, names)


def _leads(place: str, rows: range, head: Head, depth: int, floor: F32) -> Leads:
    with _on_node(), one_thread(BLAS):
        kept = LeadCollector(head.weight.shape[1], depth, floor)
        kept.look_through(_node_index(place).rows.embeddings(rows=rows), head.logits, threads=1)
        return kept.kept()


def _surest(place: str, rows: range, head: Head, depth: int) -> TopMargins:
    with _on_node(), one_thread(BLAS):
        return collect_margins(_node_index(place).rows.embeddings(rows=rows), head, depth=depth).kept()


def _embeddings(place: str, rows: range, positions: I64) -> tuple[I64, F16]:
    with _on_node():
        index = _node_index(place)
        blocks = [
            (where[kept], vectors[kept])
            for where, vectors in index.rows.embeddings(rows=rows)
            if (kept := is_among(where, positions)).any()
        ]
        none = np.zeros((0, index.dimension), np.float16)
        return (
            np.concatenate([np.zeros(0, np.int64), *(where for where, _ in blocks)]),
            np.concatenate([none, *(vectors for _, vectors in blocks)]),
        )


@lru_cache(maxsize=1)
def _node_index(said: str) -> Index:
    """The index on the node of this task, opened once in each worker.

    Raises:
        ReferenceMismatch: it is another one than was meant. As open_index.
    """
    place, home, options, source = json.loads(said)
    index = open_index(place, home=home, storage_options=options)
    if ann_source(index.info) != source:
        raise ReferenceMismatch(
            f"{place}: is another index there than on the machine that started this. Copy it anew to every node"
        )
    return index


@contextmanager
def _on_node() -> Iterator[None]:
    """Say on which node something is wrong."""
    try:
        yield
    except PladaError as err:
        kind = next((kind for kind in _KINDS if isinstance(err, kind)), PladaError)
        raise kind(f"Ray, on node {socket.gethostname()}: {err}") from None
