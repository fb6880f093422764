"""Labelled images for the loop: held in memory where they fit, else read ahead of their use, and their pixels kept on disk
from the first epoch on."""

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
import numpy.typing as npt

from plada.common.progress import Report, silent
from plada.errors import DataError, Unreadable
from plada.sources.decode import View, decode, load_pixels

I64 = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]
MEMORY = 2 << 30  # bytes of pixels that are held; 14 000 images at 224 px
_AHEAD = 4  # batches that are read before they are asked for


class Images(Protocol):
    """Pixels uint8 [size, size, 3] with a label each, by row."""

    def __len__(self) -> int: ...

    def used(self) -> int:
        """Images that can be read, as far as is known."""
        ...

    def batches(self, order: Iterable[I64]) -> Iterator[tuple[Pixels, I64]]:
        """(pixels [m, size, size, 3], labels [m]) for each array of rows, in order; unreadable images are left out, all of
        them perhaps."""
        ...


@dataclass(frozen=True, slots=True)
class Held:
    """Images in memory: pixels uint8 [n, size, size, 3], labels int64 [n]."""

    pixels: Pixels
    labels: I64

    def __len__(self) -> int:
        return len(self.labels)

    def used(self) -> int:
        return len(self.labels)

    def batches(self, order: Iterable[I64]) -> Iterator[tuple[Pixels, I64]]:
        for rows in order:
            yield self.pixels[rows], self.labels[rows]


class Kept:
    """Pixels decoded once, in a file without a name that is gone with the process: no image is decoded twice."""

    def __init__(self, folder: Path, images: int, size: int) -> None:
        """Raises OSError where the disk has no room for all of them."""
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
        self.known = np.zeros(images, np.bool_)


@dataclass(frozen=True, slots=True)
class Streamed:
    """Images that are read when they are needed, by threads, a few batches ahead. `left_out`: rows found unreadable; `kept`:
    where decoded pixels stay, if there is room for them."""

    read: Callable[[int], bytes]
    positions: I64
    labels: I64
    view: View
    workers: int = 4
    left_out: set[int] = field(default_factory=set)
    kept: Kept | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def used(self) -> int:
        return len(self.labels) - len(self.left_out)

    def batches(self, order: Iterable[I64]) -> Iterator[tuple[Pixels, I64]]:
        waiting: deque[tuple[I64, list[Future[Pixels | None]]]] = deque()
        with ThreadPoolExecutor(self.workers) as pool:
            for rows in order:
                waiting.append((rows, [pool.submit(self._one, int(row)) for row in rows]))
                if len(waiting) > _AHEAD:
                    yield from self._ready(*waiting.popleft())
            while waiting:
                yield from self._ready(*waiting.popleft())

    def _one(self, row: int) -> Pixels | None:
        if self.kept is not None and self.kept.known[row]:
            return np.array(self.kept.pixels[row])
        if row in self.left_out:
            return None
        try:
            pixels = self.view.of(decode(self.read(int(self.positions[row]))))
            if self.kept is not None:
                self.kept.pixels[row] = pixels
                self.kept.known[row] = True
            return pixels
        except Unreadable:
            self.left_out.add(row)
            return None

    def _ready(self, rows: I64, futures: list[Future[Pixels | None]]) -> Iterator[tuple[Pixels, I64]]:
        seen = [
            (pixels, row) for future, row in zip(futures, rows, strict=True) if (pixels := future.result()) is not None
        ]
        # A batch of which nothing can be read comes empty: batches are counted.
        pixels = np.zeros((len(seen), self.view.size, self.view.size, 3), np.uint8)
        for place, (image, _) in enumerate(seen):
            pixels[place] = image
        yield pixels, self.labels[[row for _, row in seen]]


def labelled_images(
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
) -> Images:
    """Images at `positions` [k] with `labels` [k]; held if their pixels take at most `memory` bytes, else streamed, the
    decoded pixels kept below `cache` if the disk has room.

    `read` gives stored bytes by position and may check them. Unreadable images are left out.

    Raises:
        DataError: none can be read (said at once for held images only), or what `read` raises.
    """
    if len(positions) * view.size * view.size * 3 > memory:
        kept = None
        if cache is not None:
            with contextlib.suppress(OSError):
                kept = Kept(cache, len(positions), view.size)
        return Streamed(read, positions, labels, view, max(4, os.cpu_count() or 1), kept=kept)
    pixels, readable = load_pixels(read, positions, view, stage=stage, report=report)
    if not readable.any():
        raise DataError(f"{where}: none of the {len(positions)} images can be read")
    return Held(pixels[readable], labels[readable])
