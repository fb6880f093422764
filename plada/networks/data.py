"""Labelled images for the training loop: in memory where they fit, else read ahead and kept on disk as pixels."""

import contextlib
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from plada.common.arrays import I64, U8
from plada.common.machine import cores
from plada.common.progress import Report, silent
from plada.errors import DataError, Unreadable
from plada.sources.decode import View, decode, load_pixels

Pixels = U8
MEMORY = 2 << 30  # bytes of pixels that are held; 14 000 images at 224 px
_AHEAD = 4  # batches that are read before they are asked for


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

    pixels: Pixels
    labels: I64

    def __len__(self) -> int:
        return len(self.labels)

    def readable(self) -> int:
        return len(self.labels)

    def batches(self, order: Iterable[I64]) -> Iterator[tuple[Pixels, I64]]:
        for rows in order:
            yield self.pixels[rows], self.labels[rows]


class PixelFile:
    """Pixels of decoded images in a file without a name, which ends with the process: no image is decoded twice."""

    def __init__(self, folder: Path, images: int, size: int) -> None:
        """Make the file. Raises OSError: the disk has no room for all images."""
        folder.mkdir(parents=True, exist_ok=True)
        total = images * size * size * 3
        if shutil.disk_usage(folder).free < 2 * total:
            raise OSError("no room")
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):  # a file with holes would end the process when the disk is full
                os.posix_fallocate(file.fileno(), 0, total)
            self.pixels = np.memmap(
                file, np.uint8, "r+" if hasattr(os, "posix_fallocate") else "w+", shape=(images, size, size, 3)
            )
        self.filled = np.zeros(images, np.bool_)


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
        return len(self.labels) - len(self.unreadable)

    def batches(self, order: Iterable[I64]) -> Iterator[tuple[Pixels, I64]]:
        waiting: deque[tuple[I64, list[Future[Pixels | None]]]] = deque()
        with ThreadPoolExecutor(self.workers) as pool:
            for rows in order:
                waiting.append((rows, [pool.submit(self._pixels, int(row)) for row in rows]))
                if len(waiting) > _AHEAD:
                    yield from self._ready(*waiting.popleft())
            while waiting:
                yield from self._ready(*waiting.popleft())

    def _pixels(self, row: int) -> Pixels | None:
        if self.cache is not None and self.cache.filled[row]:
            return np.array(self.cache.pixels[row])
        if row in self.unreadable:
            return None
        try:
            pixels = self.view.of(decode(self.read(int(self.positions[row]))))
            if self.cache is not None:
                self.cache.pixels[row] = pixels
                self.cache.filled[row] = True
            return pixels
        except Unreadable:
            self.unreadable.add(row)
            return None

    def _ready(self, rows: I64, futures: list[Future[Pixels | None]]) -> Iterator[tuple[Pixels, I64]]:
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
    workers: int | None = None,
) -> LabelledImages:
    """Images at `positions` [k] with `labels` [k]: in memory if their pixels take at most `memory` bytes, else streamed.

    Streamed images keep their decoded pixels in the folder `cache`, if the disk has room. `read` gives stored bytes by position
    and may check them. Unreadable images are left out. `workers` threads read; None stands for one a processor, and at least two, as
    one may wait for the disk.

    Raises:
        DataError: none can be read (known at once only for images in memory), or what `read` raises.
    """
    workers = max(2, workers or cores())
    if len(positions) * view.size * view.size * 3 > memory:
        pixel_file = None
        if cache is not None:
            with contextlib.suppress(OSError):
                pixel_file = PixelFile(cache, len(positions), view.size)
        return StreamedImages(read, positions, labels, view, workers, cache=pixel_file)
    pixels, readable = load_pixels(read, positions, view, stage=stage, report=report, workers=workers)
    if not readable.any():
        raise DataError(f"{where}: none of the {len(positions)} images can be read")
    return ImagesInMemory(pixels[readable], labels[readable])
