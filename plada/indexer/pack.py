"""The features of a pack: the leading principal components of an index's embeddings, as int8.

The same index gives the same bytes with any number of threads. Sums whose order a BLAS chooses are made exact: what
goes into them is rounded to so few bits that no sum of products needs more than the 53 of a float64.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from plada.common.arrays import F16, F64
from plada.common.packages import require
from plada.common.progress import Report, Tracker, silent
from plada.errors import DataError, RequestError
from plada.indexer.scores import VectorBlocks

_SAMPLE = 1 << 20  # rows that the components are fitted on at most: every n-th, so that all folders are in
_GRID = 2.0**14  # of fitted vectors: 2^20 rows of products below 2^28.01 stay below 2^53
_EXACT = 53 - 24 - 1  # bits left to weights: float16 values are multiples of 2^-24, and in a unit vector below 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PackSpec:
    """How a pack is written.

    Attributes:
        out: The file. None: in the home, where an installed pack would be.
        dimensions: Features of an image, one byte each; at most the dimensions of the embeddings.

    Examples:
        >>> import plada
        >>> plada.index("glyphs:count=100", name="few-characters", pack=plada.PackSpec(dimensions=16)).images
        100
    """

    out: str | Path | None = None
    dimensions: int = 64


@dataclass(frozen=True, slots=True)
class Projection:
    """Vectors to features. weights: float64 [D, d], offset: float64 [d]; variance: the share of it that is kept."""

    weights: F64
    offset: F64
    variance: float

    def features(self, vectors: F16) -> npt.NDArray[np.int8]:
        """int8 [m, d], -127..127, of vectors float16 [m, D]; halves go to the even neighbour."""
        projected = vectors.astype(np.float64) @ self.weights - self.offset
        return np.clip(np.rint(projected), -127, 127).astype(np.int8)


def fit_projection(
    blocks: VectorBlocks, *, images: int, dimensions: int, scale: int, report: Report = silent
) -> Projection:
    """The `dimensions` leading principal components of (positions int64 [m], unit vectors float16 [m, D]) blocks.

    `scale` becomes the standard deviation of the first feature. A component's sign is the one that makes its largest
    weight positive. Of more than 2^20 `images` every n-th is taken (position divisible by n).

    Raises:
        RequestError: more dimensions than the vectors have. DataError: the vectors are all alike.
    """
    stride = -(-images // _SAMPLE)
    tracker = Tracker("components", images, report)
    total: F64 = np.zeros(0)
    products: F64 = np.zeros((0, 0))
    rows = 0
    for positions, vectors in blocks:
        width = vectors.shape[1]
        if not 1 <= dimensions <= width:
            raise RequestError(f"a pack of {dimensions} dimensions: this index has embeddings of {width}")
        if not rows:
            total, products = np.zeros(width), np.zeros((width, width))
        sampled = np.rint(vectors[positions % stride == 0].astype(np.float64) * _GRID)
        total += sampled.sum(axis=0)
        products += sampled.T @ sampled
        rows += len(sampled)
        tracker.advance(len(positions))
    tracker.advance(images - tracker.done)  # the unreadable ones
    if rows < 2:
        raise DataError(f"a pack needs at least 2 readable images; {rows} are there")
    mean = total / rows
    covariance = products / rows - np.outer(mean, mean)
    variances, components = _leading(covariance)
    if variances[0] < 1:  # of the square of the grid: nothing but its rounding
        raise DataError("all embeddings of this index are equal, so a pack of them would contain no information")
    kept = components[:, :dimensions]
    largest = kept[np.abs(kept).argmax(axis=0), np.arange(dimensions)]
    wide = kept * np.sign(largest) * (scale * _GRID / np.sqrt(variances[0]))
    # As fine as keeps every sum of values times weights within 53 bits, whatever the order.
    fine = 2.0 ** (_EXACT - np.ceil(np.log2(np.abs(wide).sum(axis=0).max() + 1)))
    weights = np.rint(wide * fine) / fine
    offset = (weights * (mean / _GRID)[:, None]).sum(axis=0)
    share = float(variances[:dimensions].sum() / np.trace(covariance))
    return Projection(weights, offset, share)


def _leading(covariance: F64) -> tuple[F64, F64]:
    """(variances, components in columns), the largest first; by one thread, since more would round otherwise."""
    require("threadpoolctl", extra="cpu", purpose="a pack")
    import threadpoolctl

    with threadpoolctl.threadpool_limits(1):
        variances, components = np.linalg.eigh(covariance)
    return variances[::-1], components[:, ::-1]


def feature_blocks(
    blocks: VectorBlocks, projection: Projection, *, images: int, report: Report = silent
) -> Iterator[npt.NDArray[np.int8]]:
    """Rows int8 [m, d] of all positions 0 .. images - 1, block by block; zeros where an image has no vector."""
    tracker = Tracker("features", images, report)
    dimensions, at = len(projection.offset), 0
    for positions, vectors in blocks:
        if not len(positions):
            continue
        stop = int(positions[-1]) + 1
        rows = np.zeros((stop - at, dimensions), np.int8)
        rows[positions - at] = projection.features(vectors)
        yield rows
        tracker.advance(stop - at)
        at = stop
    while at < images:
        stop = min(images, at + (1 << 16))
        yield np.zeros((stop - at, dimensions), np.int8)
        tracker.advance(stop - at)
        at = stop
