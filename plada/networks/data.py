"""Labelled images for the training loop: in memory where they fit, else read ahead and kept on disk as pixels."""

import os
import shutil
import tempfile
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from plada.common.arrays import I64, U8
from plada.common.files import remove_dead_parts
from plada.common.machine import cores
from plada.common.progress import Report, silent
from plada.errors import DataError, Unreadable
from plada.networks.device import send
from plada.networks.process_group import SINGLE_PROCESS, ProcessGroup
from plada.sources.decode import View, decode, load_pixels

if TYPE_CHECKING:
    import torch

Pixels: TypeAlias = "U8 | torch.Tensor"  # uint8 [n, size, size, 3]; a tensor where they lie on the device already
MEMORY = 2 << 30  # bytes of pixels that are held; 14 000 images at 224 px
READ_AT_ONCE = 50_000  # images that are read before the first step; of more the first epoch reads each when it needs it
_AHEAD = 4  # batches that are read before they are asked for
_DEVICE_SHARE = 4  # pixels may take one in so many bytes of what is free on a GPU


class LabelledImages(Protocol):
    """Images as pixels uint8 [size, size, 3], each with a label."""

    def __len__(self) -> int: ...

    def readable(self) -> int:
        """Images that can be read, as far as is known yet."""
        ...

    def batches(self, order: Iterable[I64]) -> Iterator[tuple[Pixels, I64]]:
        """(pixels [m, size, size, 3], labels [m]) for each array of rows, in order; unreadable images are left out."""
        ...


@dataclass(frozen=True, slots=True)
class ImagesInMemory:
    """Images in memory: pixels uint8 [n, size, size, 3], labels int64 [n]."""

    pixels: U8
    labels: I64

    def __len__(self) -> int:
        return len(self.labels)

    def readable(self) -> int:
        return len(self.labels)

    def batches(self, order: Iterable[I64]) -> Iterator[tuple[Pixels, I64]]:
        for rows in order:
            yield self.pixels[rows], self.labels[rows]


@dataclass(frozen=True, slots=True)
class ImagesOnDevice:
    """Images whose pixels, a uint8 tensor [n, size, size, 3], stay on a device; their labels int64 [n] are here."""

    pixels: "torch.Tensor"
    labels: I64

    def __len__(self) -> int:
        return len(self.labels)

    def readable(self) -> int:
        return len(self.labels)

    def batches(self, order: Iterable[I64]) -> Iterator[tuple[Pixels, I64]]:
        import torch

        for rows in order:
            yield self.pixels[send(torch.from_numpy(np.ascontiguousarray(rows)), self.pixels.device)], self.labels[rows]


def on_device(images: LabelledImages, where: "torch.device", free: int | None) -> LabelledImages:
    """Images in memory with their pixels on the device, where they take at most a quarter of its `free` bytes; others, and all
    where `free` is None, as they are: no batch is then copied any more."""
    if free is None or not isinstance(images, ImagesInMemory) or images.pixels.nbytes > free // _DEVICE_SHARE:
        return images
    import torch

    return ImagesOnDevice(torch.from_numpy(images.pixels).to(where), images.labels)


class PixelFile:
    """Pixels of decoded images in a file without a name, which ends with the process: no image is decoded twice. Processes that
    train together share one on each machine.

    `states` uint8 [n] says of each image whether its pixels are there (FILLED), or it cannot be read (UNREADABLE).
    """

    FILLED, UNREADABLE = 1, 2

    def __init__(self, file: IO[bytes], images: int, size: int) -> None:
        self.pixels = np.memmap(file, np.uint8, "r+", shape=(images, size, size, 3))
        self.states = np.memmap(file, np.uint8, "r+", offset=self.pixels.nbytes, shape=(images,))


def make_pixel_file(folder: Path, images: int, size: int, group: ProcessGroup, mates: list[int]) -> PixelFile | None:
    """The file of pixels of this process, or of all processes on this machine, whose ranks are `mates`; None where the disk has
    no room for all images. Every process of the group must call this."""
    total = images * (size * size * 3 + 1)
    if group.size == 1:
        with suppress(OSError), _room(folder, total), tempfile.TemporaryFile(dir=folder) as file:
            _reserve(file, total)
            return PixelFile(file, images, size)
        return None
    first, path = mates[0] == group.rank, folder / f"pixels.{uuid.uuid4().hex}.{os.getpid()}.part"
    made = False
    if first:
        with suppress(OSError), _room(folder, total):
            remove_dead_parts(folder / "pixels")
            with path.open("xb") as file:
                _reserve(file, total)
            made = True
    shared = group.gather(path if made else None)[mates[0]]
    opened = None
    if shared is not None:
        with suppress(OSError), shared.open("r+b") as file:
            opened = PixelFile(file, images, size)
    group.gather(opened is not None)  # all of them have opened it: it needs its name no more
    if first:
        path.unlink(missing_ok=True)
    return opened


@contextmanager
def _room(folder: Path, total: int) -> Iterator[None]:
    """Make the folder. Raises OSError: its disk has not twice as many bytes free."""
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free < 2 * total:
        raise OSError("no room")
    yield


def _reserve(file: IO[bytes], total: int) -> None:
    if hasattr(os, "posix_fallocate"):  # a file with holes would end the process when the disk is full
        os.posix_fallocate(file.fileno(), 0, total)
    else:
        file.truncate(total)


@dataclass(frozen=True, slots=True)
class StreamedImages:
    """Images that threads read a few batches ahead. `unreadable` collects rows; `cache` keeps decoded pixels, if there is room."""

    read: Callable[[int], bytes]
    positions: I64
    labels: I64
    view: View
    workers: int = 2
    unreadable: set[int] = field(default_factory=set)
    cache: PixelFile | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def readable(self) -> int:
        if self.cache is not None:  # which other processes fill, too
            return len(self.labels) - int(np.count_nonzero(self.cache.states == PixelFile.UNREADABLE))
        return len(self.labels) - len(self.unreadable)

    def batches(self, order: Iterable[I64]) -> Iterator[tuple[Pixels, I64]]:
        waiting: deque[tuple[I64, list[Future[U8 | None]]]] = deque()
        with ThreadPoolExecutor(self.workers) as pool:
            for rows in order:
                waiting.append((rows, [pool.submit(self._pixels, int(row)) for row in rows]))
                if len(waiting) > _AHEAD:
                    yield from self._ready(*waiting.popleft())
            while waiting:
                yield from self._ready(*waiting.popleft())

    def _pixels(self, row: int) -> U8 | None:
        state = 0 if self.cache is None else self.cache.states[row]
        if self.cache is not None and state == PixelFile.FILLED:
            return np.array(self.cache.pixels[row])
        if row in self.unreadable or state == PixelFile.UNREADABLE:
            return None
        try:
            pixels = self.view.of(decode(self.read(int(self.positions[row]))))
            if self.cache is not None:
                self.cache.pixels[row] = pixels
                self.cache.states[row] = PixelFile.FILLED
            return pixels
        except Unreadable:
            self.unreadable.add(row)
            if self.cache is not None:
                self.cache.states[row] = PixelFile.UNREADABLE
            return None

    def _ready(self, rows: I64, futures: list[Future[U8 | None]]) -> Iterator[tuple[Pixels, I64]]:
        loaded = [
            (pixels, row) for future, row in zip(futures, rows, strict=True) if (pixels := future.result()) is not None
        ]
        # A batch without a readable image is empty, not left out: batches are counted.
        pixels = np.zeros((len(loaded), self.view.size, self.view.size, 3), np.uint8)
        for place, (image, _) in enumerate(loaded):
            pixels[place] = image
        yield pixels, self.labels[[row for _, row in loaded]]


def load_images(
    read: Callable[[int], bytes],
    positions: I64,
    labels: I64,
    view: View,
    *,
    where: str,
    stage: str = "read",
    report: Report = silent,
    memory: int = MEMORY,
    cache: Path | None = None,
    group: ProcessGroup = SINGLE_PROCESS,
    workers: int | None = None,
) -> LabelledImages:
    """Images at `positions` [k] with `labels` [k]: in memory if they are at most READ_AT_ONCE and their pixels take at most `memory`
    bytes, else streamed.

    Streamed images keep their decoded pixels in the folder `cache`, if the disk has room. `read` gives stored bytes by position
    and may check them. Unreadable images are left out. The processes of `group` on one machine divide `memory` between them, and
    share the decoded pixels; all must call this. `workers` threads read; None stands for one a processor, and at least two, as one
    may wait for the disk.

    Raises:
        DataError: none can be read (known at once only for images in memory), or what `read` raises.
    """
    mates = group.on_this_machine()
    workers = max(2, workers or cores() // len(mates))
    if len(positions) > READ_AT_ONCE or len(positions) * view.size * view.size * 3 > memory // len(mates):
        file = make_pixel_file(cache, len(positions), view.size, group, mates) if cache is not None else None
        return StreamedImages(read, positions, labels, view, workers, cache=file)
    pixels, readable = load_pixels(read, positions, view, stage=stage, report=report, workers=workers)
    if not readable.any():
        raise DataError(f"{where}: none of the {len(positions)} images can be read")
    return ImagesInMemory(pixels[readable], labels[readable])
