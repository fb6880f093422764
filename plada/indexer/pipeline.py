"""The pipeline of a build: tasks to a worker pool, rows into shards, shards into a store, which writes one while the next is
embedded."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from plada.common.progress import Report, Tracker
from plada.indexer.embed import STAGES, EmbeddedRows, Task, TaskResult, empty_rows
from plada.indexer.growth import FinishedRows, RowMatch
from plada.indexer.workers import WorkerPool
from plada.sources.collection import Collection, part_of
from plada.sources.unreadable import UnreadableTally

Span = tuple[int, int]  # positions start .. stop - 1


@dataclass(slots=True)
class RunStats:
    """What a run did: `embedded` images, `kept` ones that were known, seconds on the clock (`loading` until the first worker
    was ready, `embedding` from there to the last row), and `spent`: seconds of all processes together by stage."""

    embedded: int = 0
    kept: int = 0
    loading: float = 0.0
    embedding: float = 0.0
    spent: dict[str, float] = field(default_factory=lambda: dict.fromkeys((*STAGES, "write"), 0.0))
    notes: list[str] = field(default_factory=list)
    remarks: UnreadableTally = field(default_factory=UnreadableTally)

    def add(self, result: TaskResult) -> str:
        """Count the result of a task. Returns its note if that is new, else an empty text."""
        self.kept += int(result.kept.sum())
        self.embedded += len(result.kept) - int(result.kept.sum())
        for stage, seconds in result.spent.items():
            self.spent[stage] += seconds
        for key, remark in result.remarks:
            self.remarks.add(key, remark)
        if not result.note or result.note in self.notes:
            return ""
        self.notes.append(result.note)
        return result.note

    def write(self, commit: Callable[[EmbeddedRows], None], rows: EmbeddedRows) -> None:
        """Commit rows, and count the time."""
        before = time.perf_counter()
        commit(rows)
        self.spent["write"] += time.perf_counter() - before

    def all_notes(self) -> tuple[str, ...]:
        """Notes, and each remark on images once, with a count and an example."""
        counted = (f"{group.images} images {group.reason}, such as {group.example}" for group in self.remarks.groups())
        return (*self.notes, *counted)

    @property
    def rate(self) -> float:
        """Images a second, loading left out."""
        return (self.embedded + self.kept) / max(self.embedding, 1e-9)


def shard_spans(images: int, shard: int) -> list[Span]:
    """The shards of a reference, in order."""
    return [(start, min(start + shard, images)) for start in range(0, images, shard)]


def embed_shards(
    collection: Collection,
    spans: Sequence[Span],
    pool: WorkerPool,
    commit: Callable[[EmbeddedRows], None],
    *,
    dimension: int,
    chunk: int,
    known: FinishedRows | None,
    stats: RunStats,
    report: Report,
) -> None:
    """Embed the images of `spans` and hand each span's rows to `commit`, in order, from a thread of its own.

    Whatever stops this, a commit that was begun is waited for. `stats` is kept up to date.

    Raises:
        What the pool and `commit` raise.
    """
    started, tracker, matches = time.monotonic(), None, dict[int, RowMatch]()

    def tasks() -> Iterator[Task]:
        for start, stop in spans:
            if known is not None:
                matches[start] = known.match(collection.keys.slice(start, stop - start))
            for at in range(start, stop, chunk):
                end = min(at + chunk, stop)
                expected = matches[start].hashes[at - start : end - start] if known is not None else None
                yield Task(at, part_of(collection, at, end), expected)

    def account(result: TaskResult) -> None:
        nonlocal tracker
        if tracker is None:
            stats.loading = max(result.began - started, 0.0)
            tracker = Tracker("embed", sum(stop - start for start, stop in spans), report, began=result.began)
        stats.embedding = time.monotonic() - started - stats.loading
        if note := stats.add(result):
            tracker.say(note)
        tracker.advance(len(result.rows))

    with ThreadPoolExecutor(1) as writer, pool as run:
        results, writing = run(tasks()), list[Future[None]]()
        for start, stop in spans:
            rows, kept, at = empty_rows(start, stop - start, dimension), np.zeros(stop - start, np.bool_), start
            while at < stop:
                result = next(results)
                rows.put(result.rows)
                kept[at - start : at - start + len(result.rows)] = result.kept
                at += len(result.rows)
                account(result)
            if known is not None:
                matches.pop(start).fill(rows, kept)
            # One shard is written while the next is embedded; a third would only take memory.
            for earlier in writing:
                earlier.result()
            writing = [writer.submit(stats.write, commit, rows)]
        for earlier in writing:
            earlier.result()
