"""Who embeds the tasks of a build: this process, worker processes, or worker processes that feed GPUs.

A worker pool is a context manager that gives a `Run`: a function from tasks to their results, in the order of the tasks, a
few ahead of the consumer. A worker that is killed is replaced and its tasks are done again.
"""

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from plada.common.machine import cores, free_memory, peak_memory
from plada.common.packages import require
from plada.encoders.encoder import Encoder, load_encoder
from plada.encoders.spec import EncoderSpec
from plada.errors import RequestError, ResourceError
from plada.indexer.embed import Task, TaskResult, embed, prepare
from plada.indexer.feeders import LANES, Feeder, FeederProcess, OwnFeeder, SlotJob, pixel_slots
from plada.networks.device import use_own_stream
from plada.sources.decode import View

Run = Callable[[Iterable[Task]], Iterator[TaskResult]]
WorkerPool = AbstractContextManager[Run]

_CPU_BATCH, _GPU_BATCH = 32, 256
_CHUNK = 256  # images of a task, about: some megabytes of pixels, a second of work
_WORTH_WORKERS = 4096  # images from which worker processes, which take seconds to start, are worth it
LIVES = 5  # workers that may be lost before the build gives up
_PARENT_SECONDS = 0.5  # how often a worker looks whether its parent still lives


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a pool works. `batch_size`: images that the encoder sees at a time; `chunk`: images of one task, in whole batches;
    `workers`: processes (0: none but this one); `threads`: of each worker."""

    batch_size: int
    chunk: int
    workers: int
    threads: int


@contextmanager
def this_process(encoder: Encoder, plan: Plan) -> Iterator[Run]:
    """No other process: for small collections, where starting one would cost more than it saves."""

    def run(tasks: Iterable[Task]) -> Iterator[TaskResult]:
        batch_size = plan.batch_size
        for task in tasks:
            result = embed(task, encoder, batch_size)
            batch_size = result.batch_size or batch_size
            yield result

    yield run


@contextmanager
def worker_processes(spec: EncoderSpec, plan: Plan) -> Iterator[Run]:
    """Worker processes that read, decode and encode, each with an encoder of its own on the CPU.

    One core for each worker is faster than all cores on one batch after another, because nobody waits (docs/decisions.md).
    """
    with _ProcessPool(plan, spec) as workers:
        yield lambda tasks: workers.run(_embed_there, ((task, plan.batch_size) for task in tasks), ahead=plan.workers)


@contextmanager
def gpu_workers(encoder: Encoder, plan: Plan, *, spec: EncoderSpec, devices: Sequence[str]) -> Iterator[Run]:
    """Worker processes that read and decode, and a feeder for each of `devices` that encodes: this process, by `encoder`, for a
    single one, else processes that load the encoder of `spec`. Pixels come through shared memory."""
    view, dimension = encoder.view, encoder.config.dimension
    encoding_slots = LANES * len(devices) + 1
    with ExitStack() as stack:
        pixels, note = stack.enter_context(
            pixel_slots(2 * plan.workers + encoding_slots, plan.workers + encoding_slots, plan.chunk, view.size)
        )
        free = deque(pixels)
        workers = stack.enter_context(_ProcessPool(plan, None))
        feeders: list[Feeder] = [OwnFeeder(encoder, plan.batch_size)]
        if len(devices) > 1:
            processes = [FeederProcess(spec, device, plan.batch_size, LIVES) for device in devices]
            feeders = [stack.enter_context(process) for process in processes]
        # Streams belong to threads. Those of this process only wait where processes of their own encode.
        streams = [encoder.where if len(devices) == 1 else "cpu" for _ in devices]
        lanes = [
            stack.enter_context(ThreadPoolExecutor(LANES, initializer=use_own_stream, initargs=(where,)))
            for where in streams
        ]

        def run(tasks: Iterable[Task]) -> Iterator[TaskResult]:
            taken, encoding = deque[Path](), deque[tuple[Future[TaskResult], Path]]()

            def jobs() -> Iterator[tuple[Any, ...]]:
                for task in tasks:
                    slot = free.popleft()
                    taken.append(slot)
                    yield task, view, dimension, str(slot), plan.chunk

            decoded = workers.run(_prepare_there, jobs(), ahead=len(pixels) - plan.workers - encoding_slots)
            for number, (result, places) in enumerate(decoded):
                slot, chosen = taken.popleft(), number % len(feeders)
                result.note = note
                job = SlotJob(result, places, str(slot), plan.chunk, view.size)
                encoding.append((lanes[chosen].submit(feeders[chosen].encode, job), slot))
                while encoding and (len(encoding) > LANES * len(feeders) or encoding[0][0].done()):
                    future, slot = encoding.popleft()
                    yield future.result()
                    free.append(slot)
            for future, slot in encoding:
                yield future.result()
                free.append(slot)

        yield run


@dataclass(slots=True)
class _WorkerState:
    """What a worker process got at its start, and what it has loaded since."""

    spec: EncoderSpec | None
    threads: int
    encoder: Encoder | None = None
    batch_size: int = 1 << 30


_state: list[_WorkerState] = []  # of a worker process; empty everywhere else


class _ProcessPool:
    """A pool of fresh processes (never forked: FAISS and torch hang in a fork) that outlives the death of its members."""

    def __init__(self, plan: Plan, spec: EncoderSpec | None) -> None:
        self.plan, self.spec, self.lost = plan, spec, 0
        self.pool: Any = None

    def __enter__(self) -> "_ProcessPool":
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(wait=True, kill_workers=True)

    def run(self, work: Callable[..., Any], jobs: Iterable[tuple[Any, ...]], *, ahead: int) -> Iterator[Any]:
        """The results of `work` for each job, in order. `ahead` jobs wait beside those that the workers have in hand."""
        from loky.process_executor import BrokenProcessPool

        def submit(job: tuple[Any, ...]) -> "Future[Any]":
            try:
                future: Future[Any] = self.pool.submit(work, *job)
            except BrokenProcessPool as err:  # found out here; it is replaced when this job's turn has come
                future = Future()
                future.set_exception(err)
            return future

        jobs = iter(jobs)
        waiting = deque((job, submit(job)) for job in islice(jobs, self.plan.workers + ahead))
        while waiting:
            try:
                result = waiting[0][1].result()
            except BrokenProcessPool as err:
                self._replace(err)
                waiting = deque((job, submit(job)) for job, _ in waiting)
                continue
            waiting.popleft()
            # First the next job, then the consumer: no worker waits for it.
            waiting.extend((job, submit(job)) for job in islice(jobs, 1))
            yield result

    def _start(self) -> None:
        require("loky", extra="cpu", purpose="worker processes")
        from loky import ProcessPoolExecutor

        threads = str(self.plan.threads)
        self.pool = ProcessPoolExecutor(
            self.plan.workers,
            initializer=_start_worker,
            initargs=(self.spec, self.plan.threads, os.getpid()),
            env={"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
        )

    def _replace(self, err: Exception) -> None:
        self.lost += 1
        self.pool.shutdown(wait=True, kill_workers=True)
        if self.lost > LIVES:
            raise ResourceError(
                f"worker processes were killed {self.lost} times, mostly for want of memory. Run the same command again with "
                "fewer --workers or a smaller --batch-size; what is finished is kept"
            ) from err
        self._start()


def _start_worker(spec: EncoderSpec | None, threads: int, parent: int) -> None:
    """In a worker process: keep what it is for, leave Ctrl-C to the parent, and end when the parent is gone."""
    _state[:] = [_WorkerState(spec, threads)]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_SECONDS)
    os._exit(1)


def _embed_there(task: Task, batch_size: int) -> TaskResult:
    (own,) = _state
    if own.encoder is None:
        assert own.spec is not None
        own.encoder = load_in_worker(own.spec, "cpu", own.threads)
    result = embed(task, own.encoder, min(batch_size, own.batch_size))
    own.batch_size = result.batch_size or own.batch_size
    return result


def load_in_worker(spec: EncoderSpec, device: str, threads: int) -> Encoder:
    """An encoder for a worker process that has `threads` processors for itself."""
    encoder = load_encoder(spec, device=device)
    if encoder.config.name != "gradients":
        import torch

        torch.set_num_threads(threads)
    return encoder


def _prepare_there(task: Task, view: View, dimension: int, slot: str, chunk: int) -> tuple[TaskResult, Any]:
    pixels = np.memmap(slot, np.uint8, "r+", shape=(chunk, view.size, view.size, 3))
    prepared = prepare(task, view, dimension, pixels)
    if len(prepared.places) < len(task.images):
        pixels[: len(prepared.places)] = prepared.pixels
    return prepared.result, prepared.places


def make_plan(encoder: Encoder, images: int, *, batch_size: int | None, workers: int | None) -> Plan:
    """The plan for a build of `images` images; what is None is chosen for this machine."""
    on_cpu, processors = encoder.where == "cpu", cores()
    if batch_size is None:
        batch_size = _CPU_BATCH if on_cpu else _GPU_BATCH
    if workers is None:
        workers = processors if images >= _WORTH_WORKERS else 0
        if on_cpu and workers:
            workers = max(1, min(workers, _room_for(workers)))
    chunk = batch_size * max(1, _CHUNK // batch_size)
    return Plan(batch_size=batch_size, chunk=chunk, workers=workers, threads=max(1, processors // max(workers, 1)))


def _room_for(workers: int) -> int:
    """How many workers as large as this process, which has the encoder loaded, fit into half of the free memory."""
    free, own = free_memory(), peak_memory()
    return workers if free is None or own is None else int(free / 2 // own)


def all_gpus() -> list[str]:
    """torch's names of every GPU of this machine.

    Raises:
        RequestError: there is none.
    """
    require("torch", extra="client", purpose="a GPU")
    import torch

    if not torch.cuda.is_available():
        raise RequestError(
            "--device all: torch sees no GPU here. Leave it out to work on the CPU; `plada doctor` says more"
        )
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
