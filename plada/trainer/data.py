"""Labelled images for the loop: held in memory where they fit, else read again in each epoch, ahead of their use."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from plada.errors import DataError, Unreadable
from plada.progress import Report, silent
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


@dataclass(frozen=True, slots=True)
class Streamed:
    """Images that are read when they are needed, by threads, a few batches ahead. `left_out`: rows found unreadable."""

    read: Callable[[int], bytes]
    positions: I64
    labels: I64
    view: View
    workers: int = 4
    left_out: set[int] = field(default_factory=set)

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
        try:
            return self.view.of(decode(self.read(int(self.positions[row]))))
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
) -> Images:
    """Images at `positions` [k] with `labels` [k]; held if their pixels take at most `memory` bytes, else streamed.

    `read` gives stored bytes by position and may check them. Unreadable images are left out.

    Raises:
        DataError: none can be read (said at once for held images only), or what `read` raises.
    """
    if len(positions) * view.size * view.size * 3 > memory:
        return Streamed(read, positions, labels, view)
    pixels, readable = load_pixels(read, positions, view, stage=stage, report=report)
    if not readable.any():
        raise DataError(f"{where}: none of the {len(positions)} images can be read")
    return Held(pixels[readable], labels[readable])
