"""Who encodes on a GPU: this process where there is one GPU, a process of its own for each where there are several, so that no GPU
waits for the Python of another. Each has two threads with a CUDA stream each: one batch is copied while another is computed.

Pixels come from worker processes through slots: files in shared memory that all of them map.
"""

import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

import numpy as np

from plada.common.arrays import I64
from plada.common.failures import first_line
from plada.common.packages import require
from plada.encoders.encoder import Encoder, load_encoder
from plada.encoders.spec import EncoderSpec
from plada.errors import ResourceError
from plada.indexer.embed import PreparedTask, TaskResult, encode_prepared
from plada.networks.device import use_own_stream

LANES = 2  # batches that a GPU has at a time
SHARED_MEMORY = Path("/dev/shm")
_GOODBYE_SECONDS = 10.0  # for a feeder to end by itself


@dataclass(frozen=True, slots=True)
class SlotJob:
    """A decoded task: pixels uint8 [m, size, size, 3] of the images at `places` lie first in the file `slot`, which has room for
    `chunk` of `size` pixels."""

    result: TaskResult
    places: I64
    slot: str
    chunk: int
    size: int


class Feeder(Protocol):
    """Encodes decoded tasks on one device; LANES threads may ask at the same time."""

    def encode(self, job: SlotJob) -> TaskResult: ...


class OwnFeeder:
    """This process, with an encoder that is loaded already. Batches stay smaller once memory has ended."""

    def __init__(self, encoder: Encoder, batch_size: int) -> None:
        self.encoder, self.batch_size = encoder, batch_size

    def encode(self, job: SlotJob) -> TaskResult:
        """The rows of a task."""
        shape = (job.chunk, job.size, job.size, 3)
        stored = np.memmap(job.slot, np.uint8, "r+", shape=shape)[: len(job.places)]
        result = encode_prepared(PreparedTask(job.result, job.places, stored), self.encoder, self.batch_size)
        self.batch_size = min(self.batch_size, result.batch_size or self.batch_size)
        return result


class FeederProcess:
    """A process of its own for one GPU, started anew if it is killed, at most `lives` times."""

    def __init__(self, spec: EncoderSpec, device: str, batch_size: int, lives: int) -> None:
        self.spec, self.device, self.batch_size, self.lives = spec, device, batch_size, lives
        self.lost = 0
        self.process: Any = None
        self._pipes: list[Any] = []
        self._free: SimpleQueue[int] = SimpleQueue()
        self._lock = threading.Lock()
        for lane in range(LANES):
            self._free.put(lane)

    def __enter__(self) -> "FeederProcess":
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes:
            pipe.close()
        self._end(_GOODBYE_SECONDS)

    def encode(self, job: SlotJob) -> TaskResult:
        """The rows of a task. Raises what the process raised; ResourceError: it was killed too often."""
        lane = self._free.get()
        try:
            while True:
                pipe = self._pipes[lane]
                try:
                    pipe.send(job)
                    answer = pipe.recv()
                    break
                except (EOFError, OSError) as err:
                    pipe.close()
                    with self._lock:
                        if self._pipes[lane] is pipe:  # else the other lane has started it anew
                            self._replace(err)
        finally:
            self._free.put(lane)
        if isinstance(answer, BaseException):
            raise answer
        result: TaskResult = answer
        return result

    def _start(self) -> None:
        require("loky", extra="cpu", purpose="a process for each GPU")
        from loky.backend import get_context

        context = get_context("loky")  # fresh processes: torch hangs in a fork
        pairs = [context.Pipe() for _ in range(LANES)]
        theirs = [there for _, there in pairs]
        self.process = context.Process(
            target=_feed, args=(self.spec, self.device, self.batch_size, theirs), daemon=True
        )
        self.process.start()
        for there in theirs:
            there.close()
        self._pipes = [here for here, _ in pairs]

    def _end(self, seconds: float) -> None:
        if self.process is not None:
            self.process.join(seconds)
            self.process.terminate()
            self.process.join()

    def _replace(self, err: Exception) -> None:
        self.lost += 1
        if self.lost > self.lives:
            raise ResourceError(
                f"the process that feeds {self.device} was killed {self.lost} times, mostly for want of memory. Run the same "
                "command again with a smaller --batch-size; what is finished is kept"
            ) from err
        self._end(0.0)  # the other lane finds that out by itself
        self._start()


def _feed(spec: EncoderSpec, device: str, batch_size: int, pipes: list[Any]) -> None:
    """In a feeder: load the encoder, then answer each lane in a thread of its own until the parent closes it, or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        feeder: OwnFeeder | Exception = OwnFeeder(load_encoder(spec, device=device), batch_size)
    except Exception as err:  # whatever it is, the parent hears it when it asks
        feeder = err
    threads = [threading.Thread(target=_answer, args=(pipe, feeder, device)) for pipe in pipes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _answer(pipe: Any, feeder: OwnFeeder | Exception, device: str) -> None:
    with suppress(EOFError, OSError):
        if not isinstance(feeder, Exception):
            use_own_stream(device)
        while True:
            job = pipe.recv()
            try:
                answer = feeder.encode(job) if isinstance(feeder, OwnFeeder) else feeder
            except Exception as err:
                answer = err
            try:
                pipe.send(answer)
            except (AttributeError, TypeError, ValueError):  # an error that cannot travel
                pipe.send(RuntimeError(first_line(answer) if isinstance(answer, Exception) else type(answer).__name__))


@contextmanager
def pixel_slots(
    wanted: int, least: int, chunk: int, size: int, *, memory: Path | None = None
) -> Iterator[tuple[list[Path], str]]:
    """(`wanted` files, each for the pixels of one task, and what the user should hear of them): in shared memory, of which they take at most half of
    what is free: there may be fewer, but `least`. Where there is no room for these, on disk, and that is said.

    Raises:
        ResourceError: there is no room on disk, either.
    """
    memory, each = memory or SHARED_MEMORY, chunk * size * size * 3
    _clear_orphans(memory)
    room = shutil.disk_usage(memory).free // 2 // each if memory.is_dir() else 0
    shared = room >= least
    folder = Path(tempfile.mkdtemp(prefix=f"plada-{os.getpid()}-", dir=memory if shared else None))
    try:
        note = ""
        if not shared:
            _clear_orphans(folder.parent)
            room = shutil.disk_usage(folder).free // each
            if room < least:
                raise ResourceError(
                    f"{folder.parent}: {least * each} bytes are needed to hand pixels to the encoder, which is more than is free. "
                    "Lower --batch-size or --workers"
                )
            if memory.is_dir():
                note = (
                    f"{memory} has too little room for pixels ({least * each} bytes, twice of which must be free): they go through "
                    f"{folder.parent}, which may be slower. Give it more (--shm-size of a container), or lower --batch-size"
                )
        paths = [folder / str(slot) for slot in range(min(wanted, room))]
        for path in paths:
            with path.open("wb") as file:
                file.truncate(each)
        yield paths, note
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _clear_orphans(folder: Path) -> None:
    """Remove what processes that were killed have left."""
    if not Path("/proc/self").exists():
        return
    for path in folder.glob("plada-*-*"):
        owner = path.name.split("-")[1]
        if owner.isdigit() and int(owner) != os.getpid() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(path, ignore_errors=True)
