"""Looks: 64 bytes an image by which near copies find each other.

A look is the image's luma, reduced to 8 x 8 whatever its shape: re-encoding and resizing leave it as it is,
mirroring permutes it, and a crop of a tenth moves it by less than a cell, so that the crop of a look can be compared
with the cells it covers (plada/sources/leaks.py). Integer from the decoder on: the same bytes on every machine.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from PIL import Image

from plada.errors import DataError, Unreadable
from plada.progress import Report, Tracker, silent
from plada.sources.decode import decode

LOOK_SIDE = 8
LOOK_BYTES = LOOK_SIDE * LOOK_SIDE
_CHUNK = 64


def look(image: Image.Image) -> npt.NDArray[np.uint8]:
    """The look of a decoded RGB image, uint8 [LOOK_BYTES]: luma of 8 x 8 cells, row by row."""
    # PIL's box filter takes whole pixels only, which is far off where a cell is no whole number of them; Hamming is
    # nearly as sharp. Reducing to 32 pixels by whole factors first costs a quarter and changes next to nothing.
    cells = image.resize((LOOK_SIDE, LOOK_SIDE), Image.Resampling.HAMMING, reducing_gap=4.0)
    return np.frombuffer(cells.convert("L").tobytes(), np.uint8)


def scan_looks(
    read: Callable[[int], bytes],
    positions: Iterable[int],
    *,
    stage: str = "looks",
    report: Report = silent,
    workers: int = 4,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Read and decode many images with threads: looks uint8 [n, LOOK_BYTES] and readable bool [n].

    An image that cannot be read or decoded keeps its place, in black: a look without contrast matches nothing.
    """
    wanted = [int(position) for position in positions]
    looks = np.zeros((len(wanted), LOOK_BYTES), np.uint8)
    readable = np.ones(len(wanted), np.bool_)
    tracker = Tracker(stage, len(wanted), report)

    def some(start: int) -> int:
        rows = range(start, min(start + _CHUNK, len(wanted)))
        for row in rows:
            try:
                looks[row] = look(decode(read(wanted[row])))
            except (Unreadable, DataError):
                readable[row] = False
        return len(rows)

    with ThreadPoolExecutor(workers) as pool:
        for done in pool.map(some, range(0, len(wanted), _CHUNK)):
            tracker.advance(done)
    return looks, readable
