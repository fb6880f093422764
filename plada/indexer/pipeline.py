"""The way of a build: tasks to a crew, rows into shards, shards into a store, which writes one while the next is made."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from plada.common.progress import Report, Tracker
from plada.indexer.embed import Made, Rows, Task, empty_rows
from plada.indexer.growth import Known, Match
from plada.indexer.workers import Crew
from plada.sources.collection import Collection, part_of

Span = tuple[int, int]  # positions start .. stop - 1
STAGES = ("read", "decode", "encode", "write")


@dataclass(slots=True)
class Flow:
    """What a run did: `embedded` images, `kept` ones that were known, seconds on the clock (`loading` until the first worker
    was ready, `embedding` from there to the last row), and `spent`: seconds of all processes together by stage."""

    embedded: int = 0
    kept: int = 0
    loading: float = 0.0
    embedding: float = 0.0
    spent: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    notes: list[str] = field(default_factory=list)

    def add(self, made: Made) -> str:
        """Count what a crew made; a note that was not heard yet comes back."""
        self.kept += int(made.kept.sum())
        self.embedded += len(made.kept) - int(made.kept.sum())
        for stage, seconds in made.spent.items():
            self.spent[stage] += seconds
        if not made.note or made.note in self.notes:
            return ""
        self.notes.append(made.note)
        return made.note

    def write(self, commit: Callable[[Rows], None], rows: Rows) -> None:
        """Commit rows, and count the time."""
        before = time.perf_counter()
        commit(rows)
        self.spent["write"] += time.perf_counter() - before

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
    crew: Crew,
    commit: Callable[[Rows], None],
    *,
    dimension: int,
    chunk: int,
    known: Known | None,
    flow: Flow,
    report: Report,
) -> None:
    """Embed the images of `spans` and hand each span's rows to `commit`, in order, from a thread of its own.

    Whatever stops this, a commit that was begun is waited for. `flow` is kept up to date.

    Raises:
        What the crew and `commit` raise.
    """
    hired, tracker, matches = time.monotonic(), None, dict[int, Match]()

    def tasks() -> Iterator[Task]:
        for start, stop in spans:
            if known is not None:
                matches[start] = known.match(collection.keys.slice(start, stop - start))
            for at in range(start, stop, chunk):
                end = min(at + chunk, stop)
                expected = matches[start].hashes[at - start : end - start] if known is not None else None
                yield Task(at, part_of(collection, at, end), expected)

    def account(made: Made) -> None:
        nonlocal tracker
        if tracker is None:
            flow.loading = max(made.began - hired, 0.0)
            tracker = Tracker("embed", sum(stop - start for start, stop in spans), report, began=made.began)
        flow.embedding = time.monotonic() - hired - flow.loading
        if note := flow.add(made):
            tracker.say(note)
        tracker.advance(len(made.rows))

    with ThreadPoolExecutor(1) as writer, crew as run:
        made_ones, writing = run(tasks()), list[Future[None]]()
        for start, stop in spans:
            rows, kept, at = empty_rows(start, stop - start, dimension), np.zeros(stop - start, np.bool_), start
            while at < stop:
                made = next(made_ones)
                rows.put(made.rows)
                kept[at - start : at - start + len(made.rows)] = made.kept
                at += len(made.rows)
                account(made)
            if known is not None:
                matches.pop(start).fill(rows, kept)
            # One shard is written while the next is made; a third would only take memory.
            for earlier in writing:
                earlier.result()
            writing = [writer.submit(flow.write, commit, rows)]
        for earlier in writing:
            earlier.result()
