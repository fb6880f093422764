"""The two collections that plada makes itself: reference `glyphs` and target `digits`. Nothing is downloaded."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from plada.common.arrays import I64
from plada.common.packages import require
from plada.errors import DataError, RequestError
from plada.sources.collection import stream_by_position
from plada.sources.formats import glyphs
from plada.sources.formats.arrays import ArrayCollection, PixelsInMemory, netpbm
from plada.sources.targets.target import Split, Target

GLYPHS = 20_000


@dataclass(frozen=True, slots=True)
class GlyphCollection:
    """Drawn characters, fully determined by (seed, count, glyphs.VERSION); image i does not depend on the count."""

    count: int
    seed: int
    keys: Any
    sizes: I64
    first: int = 0  # the character that position 0 is; more than 0 in a part

    @property
    def location(self) -> str:
        options = [f"count={self.count}"] * (self.count != GLYPHS) + [f"seed={self.seed}"] * (self.seed != 0)
        return "glyphs" + (":" + ",".join(options) if options else "")

    def __len__(self) -> int:
        return len(self.sizes)

    def read(self, position: int) -> bytes:
        return netpbm(glyphs.render(self.first + position, seed=self.seed))

    def part(self, start: int, stop: int) -> "GlyphCollection":
        keys = pa.array(self.keys.slice(start, stop - start).to_pylist(), pa.string())
        return replace(self, keys=keys, sizes=self.sizes[start:stop].copy(), first=self.first + start)

    def stream(self, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
        return stream_by_position(self, start, stop)


def open_glyphs(options: dict[str, str]) -> GlyphCollection:
    """`glyphs`, or `glyphs:count=500,seed=3`. Raises RequestError: another option, or not a number. MissingExtra:
    matplotlib, whose fonts are used, is not installed."""
    require("matplotlib", extra="client", purpose="reference 'glyphs'")
    try:
        count, seed = int(options.pop("count", GLYPHS)), int(options.pop("seed", 0))
    except ValueError as err:
        raise RequestError(f"glyphs: count and seed are whole numbers ({err})") from err
    if options or not 1 <= count <= 10_000_000 or not 0 <= seed < 2**32:
        raise RequestError("glyphs takes count=1..10000000 and seed=0..4294967295, such as glyphs:count=5000,seed=1")
    keys = pa.array([f"v{glyphs.VERSION}/{position:07d}" for position in range(count)], pa.string())
    size = len(netpbm(np.zeros((glyphs.SIZE, glyphs.SIZE), np.uint8)))
    return GlyphCollection(count, seed, keys, np.full(count, size, np.int64))


def open_digits() -> Target:
    """Target `digits`: scikit-learn's 1 797 handwritten digits (UCI optical recognition, test part), 8x8 grey, light on
    dark. The split is by the image's index i in scikit-learn's order, fixed for good:

    test i % 3 == 2 (599), validation i % 6 == 1 (300), training the rest (898).

    Raises:
        MissingExtra: scikit-learn is not installed.
        DataError: scikit-learn brought other images than those the split was fixed for.
    """
    require("sklearn.datasets", extra="client", purpose="target 'digits'")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    if bunch.images.shape != (1797, 8, 8) or int(bunch.images.sum()) != 561_718:
        raise DataError("digits: scikit-learn's digits are not the 1797 known images; the split would mean others")
    pixels = np.minimum(bunch.images * 16, 255).astype(np.uint8)
    keys = pa.array([f"{index:04d}" for index in range(len(pixels))], pa.string())
    sizes = np.full(len(pixels), len(netpbm(pixels[0])), np.int64)
    bounds = np.array([0, len(pixels)], np.int64)
    collection = ArrayCollection("digits", ("digits",), keys, sizes, (PixelsInMemory(pixels),), bounds)
    index = np.arange(len(pixels))
    labels = bunch.target.astype(np.int64)
    test, validation = index % 3 == 2, index % 6 == 1
    train, held, tested = (
        Split(collection, index[mask], labels[mask]) for mask in (~test & ~validation, validation, test)
    )
    return Target("digits", tuple("0123456789"), train, held, tested, recipe={"image_size": 8, "mirror": False})
