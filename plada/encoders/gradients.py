"""The built-in embedding without weights: histograms of gradient directions over a coarse, contrast-free image."""

import numpy as np

from plada.common.arrays import F32, U8

SIZE = 32  # side of the square that images come as
DIMENSION = 256  # 16 directions in 4 x 4 cells

_COARSE = 8  # every image is first averaged down to this side, so that sharpness tells no collections apart
_FINE = 16  # and drawn again at this side, where gradients are smooth
_CELLS = 4
_DIRECTIONS = 16
_BATCH = 1024


def _area(size: int, to: int) -> F32:
    """Averaging of `size` pixels into `to` equal stretches, float32 [to, size]; copies where size == to."""
    edges = np.arange(to + 1) * (size / to)
    left, right = edges[:-1, None], edges[1:, None]
    pixels = np.arange(size)[None, :]
    cover = np.minimum(right, pixels + 1) - np.maximum(left, pixels)
    return np.asarray(np.clip(cover, 0.0, None) * (to / size), np.float32)


def _linear(size: int, to: int) -> F32:
    """Linear interpolation from `size` to `to` pixels, float32 [to, size]."""
    places = np.clip((np.arange(to) + 0.5) * (size / to) - 0.5, 0, size - 1)
    return np.asarray(np.clip(1 - np.abs(places[:, None] - np.arange(size)[None, :]), 0, None), np.float32)


def _cells() -> F32:
    """How much every pixel of a side counts in every cell: overlapping triangles, float32 [_CELLS, _FINE]."""
    width = _FINE / _CELLS
    middles = (np.arange(_CELLS) + 0.5) * width
    pixels = np.arange(_FINE) + 0.5
    weight: np.ndarray = np.clip(1 - np.abs(pixels[None, :] - middles[:, None]) / width, 0, None)
    return weight.astype(np.float32)


def _grey(images: U8) -> F32:
    pixels = images.astype(np.float32)
    if pixels.ndim == 4:
        if pixels.shape[3] not in (1, 3):
            raise ValueError(f"images have {pixels.shape[3]} channels, not 1 or 3")
        if pixels.shape[3] == 3:
            return pixels @ np.array([0.299, 0.587, 0.114], np.float32)
        return pixels[..., 0]
    if pixels.ndim != 3:
        raise ValueError(f"images have {pixels.ndim} axes, not 3 or 4")
    return pixels


def _embed(images: U8) -> F32:
    grey = _grey(images)
    n, height, width = grey.shape
    rows = _linear(_COARSE, _FINE) @ _area(height, _COARSE)
    columns = _linear(_COARSE, _FINE) @ _area(width, _COARSE)
    smooth = np.matmul(np.matmul(rows, grey), columns.T)
    # No pixel outside the image is made up: at the border the one-sided difference is taken.
    gy, gx = np.gradient(smooth, axis=(1, 2))
    strength = np.sqrt(gx * gx + gy * gy)
    # Each gradient is shared between the two nearest directions; directions keep their sign, so that light on dark
    # differs from dark on light.
    turn = np.arctan2(gy, gx) * (_DIRECTIONS / (2 * np.pi))
    low = np.floor(turn)
    share = turn - low
    first = low.astype(np.int64) % _DIRECTIONS
    planes = np.zeros((n, _FINE, _FINE, _DIRECTIONS), np.float32)
    np.put_along_axis(planes, first[..., None], (strength * (1 - share))[..., None], 3)
    np.put_along_axis(planes, (first[..., None] + 1) % _DIRECTIONS, (strength * share)[..., None], 3)
    cells = _cells()
    half = np.matmul(cells, planes.reshape(n, _FINE, _FINE * _DIRECTIONS)).reshape(n, _CELLS, _FINE, _DIRECTIONS)
    pooled = np.matmul(cells, half).reshape(n, -1)
    # Square roots keep a few strong edges from being everything (Hellinger); a flat image gives zeros.
    pooled = np.sqrt(pooled)
    # A flat image has no gradient at all; it still needs a place in the index, and gets the same one each time.
    pooled[pooled.max(axis=1) < 1e-3] = 1
    return np.asarray(pooled / np.linalg.norm(pooled, axis=1, keepdims=True), np.float32)


def embed(images: U8) -> F32:
    """Rows of length 1, float32 [n, DIMENSION], of uint8 images [n, h, w] or [n, h, w, 3]."""
    parts = [_embed(images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)]
    return np.concatenate(parts).astype(np.float32) if parts else np.zeros((0, DIMENSION), np.float32)
