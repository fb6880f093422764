"""Contents of many shapes for tests of the coders."""

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]


def bounds_of(images: int, seed: int, longest: int = 60) -> I64:
    """Bounds of runs of 1 to `longest` images."""
    rng = np.random.default_rng(seed)
    ends = np.cumsum(rng.integers(1, longest + 1, images))
    return np.concatenate([[0], ends[ends < images], [images]]).astype(np.int64)


def clustered(images: int, kept: int, classes: int, bounds: I64, seed: int) -> tuple[I64, I64]:
    """Images chosen more often in some blocks than in others, most of a block with one class."""
    rng = np.random.default_rng(seed)
    rates = np.repeat(rng.gamma(0.2, 1, len(bounds) - 1) + 1e-9, np.diff(bounds))
    positions = np.sort(rng.choice(images, kept, replace=False, p=rates / rates.sum()))
    usual = rng.integers(0, classes, len(bounds) - 1)[np.searchsorted(bounds, positions, "right") - 1]
    labels = np.where(rng.random(kept) < 0.8, usual, rng.integers(0, classes, kept))
    return positions.astype(np.int64), labels.astype(np.int64)


def features_of(images: int, positions: I64, labels: I64, dimensions: int, seed: int) -> npt.NDArray[np.int8]:
    """Features that tell a good deal of which images are kept and as what."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 16, (images, dimensions))
    values[positions] += rng.normal(0, 40, (int(labels.max(initial=0)) + 1, dimensions))[labels]
    return np.clip(np.rint(values), -127, 127).astype(np.int8)
