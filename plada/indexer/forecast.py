"""Estimates from a short trial: the time, disk and memory that an index takes, and the slowest stage."""

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from plada.common.machine import peak_memory, peak_memory_of_children
from plada.common.progress import Clock, Report, Tracker
from plada.encoders.encoder import Encoder
from plada.indexer.embed import STAGES, Task, TaskResult
from plada.indexer.store import Store, shard_rows
from plada.indexer.workers import Plan, WorkerPool
from plada.sources.collection import Collection, part_of

_ROUNDS = 2  # tasks of each worker that are left out of the rate: libraries are loaded, caches are cold
_KEPT = 8  # tasks
_MANIFEST_ROW = 24  # bytes, beside the key, which zstd brings to a few


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexForecast:
    """What an index would take.

    Attributes:
        images: Images of the reference.
        tried: Images of the trial.
        images_per_second: The rate of the trial, its start left out.
        seconds: Expected time, with loading and writing.
        disk_bytes: Expected size of index and manifest.
        free_bytes: Free space in the home.
        memory_bytes: Expected memory of this process and its workers.
        microseconds: Time of one process for an image, by stage: read, decode, encode, write.
        limit: The stage that limits the rate.
        workers: Worker processes.
        batch_size: Images that the encoder sees at a time.
        device: Where the encoder runs.
        encoder: Name of the encoder.
        dimension: Numbers of an embedding.
    """

    images: int
    tried: int
    images_per_second: float
    seconds: float
    disk_bytes: int
    free_bytes: int
    memory_bytes: int
    microseconds: Mapping[str, float]
    limit: str
    workers: int
    batch_size: int
    device: str
    encoder: str
    dimension: int

    def to_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return asdict(self)


def run_trial(
    collection: Collection,
    encoder: Encoder,
    plan: Plan,
    pool: WorkerPool,
    *,
    seconds: float,
    clock: Clock,
    home: Path,
    report: Report,
) -> IndexForecast:
    """Embed images from all over the collection for about `seconds` and extrapolate; what is written is removed again."""
    images, trial = len(collection), _Trial(seconds)
    tracker = Tracker("trial", None, report)
    started = time.monotonic()
    with pool as run:
        for result in run(_samples(collection, plan.chunk, trial)):
            trial.add(result, skip=_ROUNDS * max(plan.workers, 1))
            tracker.advance(len(result.rows))
    clock.seconds["load"] = clock.seconds.get("load", 0.0) + max(trial.kept[0].began - started, 0.0)
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="trial-", dir=home) as folder:
        before = time.monotonic()
        written = _write(collection, trial.kept, Store(Path(folder)))
        writing = (time.monotonic() - before) / written
        disk = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / written
        free = shutil.disk_usage(folder).free
    each = {stage: seconds / trial.tried * 1e6 for stage, seconds in trial.spent.items()}
    each["write"] = writing * 1e6
    return IndexForecast(
        images=images,
        tried=trial.tried,
        images_per_second=trial.rate,
        seconds=clock.seconds.get("load", 0.0) + images / trial.rate + images * writing,
        disk_bytes=int(images * (disk + _MANIFEST_ROW)),
        free_bytes=free,
        memory_bytes=_memory(plan, images, encoder.config.dimension),
        microseconds=each,
        limit=_limit(each, plan, encoder),
        workers=plan.workers,
        batch_size=plan.batch_size,
        device=encoder.where,
        encoder=encoder.config.name,
        dimension=encoder.config.dimension,
    )


@dataclass(slots=True)
class _Trial:
    """What is counted while a trial runs. The first tasks are left out of the rate: libraries load, caches are cold."""

    seconds: float
    tried: int = 0
    kept: list[TaskResult] = field(default_factory=list)  # to be written once, for their size
    spent: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    tasks: int = 0
    timed: int = 0  # images between `first` and `last`
    first: float = 0.0
    last: float = 0.0

    def add(self, result: TaskResult, *, skip: int) -> None:
        self.last = time.monotonic()
        self.tasks, self.tried = self.tasks + 1, self.tried + len(result.rows)
        if self.tasks <= skip:
            self.first = self.last
        else:
            self.timed += len(result.rows)
        for stage in self.spent:
            self.spent[stage] += result.spent[stage]
        if len(self.kept) < _KEPT:
            self.kept.append(result)

    def over(self) -> bool:
        return bool(self.kept) and time.monotonic() >= self.kept[0].began + self.seconds

    @property
    def rate(self) -> float:
        if self.timed and self.last > self.first:
            return self.timed / (self.last - self.first)
        return self.tried / max(self.last - self.kept[0].began, 1e-9)


def _samples(collection: Collection, chunk: int, trial: _Trial) -> Iterator[Task]:
    """Tasks from all over a collection, none twice, until the trial is over: first every 64th part, then those between."""
    starts = list(range(0, len(collection), chunk))
    step = max(1, len(starts) // 64)
    for offset in range(step):
        for start in starts[offset::step]:
            if trial.over():
                return
            yield Task(start, part_of(collection, start, min(start + chunk, len(collection))))


def _write(collection: Collection, results: list[TaskResult], store: Store) -> int:
    for result in results:
        store.append(result.rows, collection.keys.slice(result.rows.start, len(result.rows)))
    return sum(len(result.rows) for result in results)


def _limit(each: Mapping[str, float], plan: Plan, encoder: Encoder) -> str:
    """In one process the stage that takes longest; before a GPU whether its feeders or it are slower."""
    if plan.workers and encoder.where != "cpu":
        gpu_workers = (each["read"] + each["decode"]) / plan.workers
        return "encode" if each["encode"] > gpu_workers else "decode" if each["decode"] > each["read"] else "read"
    return max(STAGES, key=lambda stage: each[stage])


def _memory(plan: Plan, images: int, dimension: int) -> int:
    """This process, its workers as large as the largest was, and two shards of rows."""
    rows = 2 * shard_rows(images) * (2 * dimension + 160)
    return (peak_memory() or 0) + plan.workers * (peak_memory_of_children() or 0) + rows
