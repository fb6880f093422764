"""Similar fingerprints: every version of a picture's fingerprint against millions of others, in blocks.

A version is the fingerprint that a copy would have if the picture were mirrored, or if one of the two were a crop of the
other. Where the picture is the crop, it is compared only with the cells it covers: a correlation under a mask.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from plada.common.arrays import F32, I64, U8
from plada.common.machine import cores
from plada.common.products import BLAS, ROWS, one_thread
from plada.sources.leaks.fingerprints import FINGERPRINT_BYTES, FINGERPRINT_SIDE, fingerprint

FLOOR = 3.0  # length of a fingerprint less its mean, below which contrast counts as noise: rounding alone gives two
_DIGITS = 5  # of a correlation that count: what is beyond is rounding
_HALVES = (0.0, 0.5, 1.0)
_NINE = tuple((x, y) for y in _HALVES for x in _HALVES)
_FIVE = ((0.5, 0.5), (0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0))
# (share of width and height that a crop keeps, where it may lie): whatever is cut, up to a tenth of each, is then less
# than a third of a cell from a version.
_CROPS = ((0.9, _NINE), (0.95, _FIVE))


@dataclass(frozen=True, slots=True)
class Window:
    """How a picture lies over another. `whole`: edge on edge; `inner`: the other shows the share `keep` of this one's
    width and height; `outer`: this one shows `keep` of the other's. (x, y): which part, 0 left or top, 1 right or
    bottom."""

    kind: str
    keep: float = 1.0
    x: float = 0.0
    y: float = 0.0

    def mirrored(self, mirror: bool, flip: bool) -> "Window":
        """The same window when both pictures are mirrored, flipped upside down."""
        if self.kind == "whole":
            return self
        return Window(self.kind, self.keep, 1 - self.x if mirror else self.x, 1 - self.y if flip else self.y)


@dataclass(frozen=True, slots=True)
class Version:
    """A window, of the picture mirrored or flipped first."""

    window: Window
    mirror: bool = False
    flip: bool = False

    def placement(self) -> tuple[float, float, float, float]:
        """(scale_x, scale_y, left, top) as alignment.Placement has them, for the picture mirrored and flipped first."""
        if self.window.kind == "whole":
            return (1.0, 1.0, 0.0, 0.0)
        keep = self.window.keep
        left, top = (1 - keep) * self.window.x, (1 - keep) * self.window.y
        if self.window.kind == "outer":
            return (keep, keep, left, top)
        return (1 / keep, 1 / keep, -left / keep, -top / keep)


_WINDOWS = (
    Window("whole"),
    *(Window(kind, keep, x, y) for kind in ("inner", "outer") for keep, where in _CROPS for x, y in where),
)
# Upside down only as a whole: nobody crops what they turn over, and every version costs a pass over all fingerprints.
VERSIONS = (
    *(Version(window) for window in _WINDOWS),
    *(Version(window, mirror=True) for window in _WINDOWS),
    Version(_WINDOWS[0], flip=True),
    Version(_WINDOWS[0], mirror=True, flip=True),
)


def _covered(keep: float, part: float) -> tuple[int, int]:
    """First cell and end of the cells that lie wholly in an outer window along one axis."""
    start = (1 - keep) * part * FINGERPRINT_SIDE
    return int(np.ceil(start - 1e-6)), int(np.floor(start + keep * FINGERPRINT_SIDE + 1e-6))


def _mask(window: Window) -> F32:
    mask = np.ones((FINGERPRINT_SIDE, FINGERPRINT_SIDE), np.float32)
    if window.kind == "outer":
        (left, right), (top, bottom) = (_covered(window.keep, part) for part in (window.x, window.y))
        mask[:] = 0
        mask[top:bottom, left:right] = 1
    return mask.reshape(-1)


_OWN_MASKS = np.stack([_mask(version.window) for version in VERSIONS])  # [V, FINGERPRINT_BYTES]
_MASKS, _MASK_OF = np.unique(_OWN_MASKS, axis=0, return_inverse=True)  # the distinct ones [M, FINGERPRINT_BYTES]
_MASK_OF = _MASK_OF.reshape(-1)  # which of them each version has, [V]
_PLACES = np.array([version.placement() for version in VERSIONS], np.float32)
_MIRROR = np.array([version.mirror for version in VERSIONS])
_FLIP = np.array([version.flip for version in VERSIONS])


def versions_of(image: Image.Image) -> F32:
    """All versions of a decoded picture's fingerprint, float32 [V, FINGERPRINT_BYTES]: unit vectors without mean under
    their masks, zero outside; shorter than one where there is too little contrast to say anything."""
    seen = {window: _window_of(image, window) for window in _WINDOWS}
    cells = np.zeros((len(VERSIONS), FINGERPRINT_SIDE, FINGERPRINT_SIDE), np.float32)
    for row, version in enumerate(VERSIONS):
        source = seen[version.window.mirrored(version.mirror, version.flip)]
        cells[row] = source[:: -1 if version.flip else 1, :: -1 if version.mirror else 1]
    return _unit(cells.reshape(len(VERSIONS), -1), _OWN_MASKS)


def _window_of(image: Image.Image, window: Window) -> F32:
    cells = np.zeros((FINGERPRINT_SIDE, FINGERPRINT_SIDE), np.float32)
    (width, height), keep = image.size, window.keep
    cut_x, cut_y = (1 - keep) * window.x, (1 - keep) * window.y
    if window.kind == "whole":
        return fingerprint(image).reshape(FINGERPRINT_SIDE, FINGERPRINT_SIDE).astype(np.float32)
    if window.kind == "inner":
        left, top = cut_x * width, cut_y * height
        box = (left, top, min(left + keep * width, width), min(top + keep * height, height))
        (first, end), (upper, lower) = (0, FINGERPRINT_SIDE), (0, FINGERPRINT_SIDE)
    else:
        (first, end), (upper, lower) = _covered(keep, window.x), _covered(keep, window.y)
        # A cell of the other picture, as a share of the width or height of this one.
        cell, left, top = 1 / (keep * FINGERPRINT_SIDE), cut_x / keep, cut_y / keep
        box = (
            max(first * cell - left, 0.0) * width,
            max(upper * cell - top, 0.0) * height,
            min(end * cell - left, 1.0) * width,
            min(lower * cell - top, 1.0) * height,
        )
    small = image.resize((end - first, lower - upper), Image.Resampling.HAMMING, box=box, reducing_gap=4.0)
    cells[upper:lower, first:end] = np.asarray(small.convert("L"))
    return cells


def _unit(cells: F32, masks: F32) -> F32:
    """Rows less their mean under their masks, of length one (shorter below FLOOR), zero outside."""
    inside = cells * masks
    inside -= masks * (inside.sum(axis=1) / masks.sum(axis=1))[:, None]
    return np.asarray(inside / np.maximum(np.linalg.norm(inside, axis=1), FLOOR)[:, None], np.float32)


def version_scores(versions: F32, fingerprints: U8) -> F32:
    """Correlations float32 [p, V] of pairs: versions [p, V, 64] of one picture, fingerprints [p, 64] of the
    other."""
    values = fingerprints.astype(np.float32)
    scores = np.einsum("pvc,pc->pv", versions, values, optimize=True)
    return np.asarray(scores / np.stack([_lengths(values, mask) for mask in _MASKS], axis=1)[:, _MASK_OF], np.float32)


def _lengths(values: F32, mask: F32) -> F32:
    """Length of each fingerprint [m, FINGERPRINT_BYTES] less its mean under a mask, at least FLOOR."""
    total, squares = values @ mask, (values * values) @ mask
    return np.asarray(np.sqrt(np.maximum(squares - total * total / mask.sum(), FLOOR**2)), np.float32)


def placements(which: I64) -> F32:
    """Placements of versions by their numbers int64 [...], float32 [..., 4]."""
    return np.asarray(_PLACES[which], np.float32)


def turned(squares: U8, which: I64) -> U8:
    """Squares [n, side, side, c], each mirrored and flipped as version which[n] wants it."""
    result = squares.copy()
    mirror, flip = _MIRROR[which], _FLIP[which]
    result[mirror] = result[mirror][:, :, ::-1]
    result[flip] = result[flip][:, ::-1]
    return result


class Nearest:
    """The `k` best positions of each of n pictures so far, over blocks of fingerprints that are seen once; where fewer score more
    than `floor`, position -1 with the score `floor`."""

    def __init__(self, versions: F32, k: int, *, floor: float = -np.inf, group: int = 128) -> None:
        """`versions`: float32 [n, V, FINGERPRINT_BYTES] as `versions_of` gives them."""
        self.scores = np.full((len(versions), k), floor, np.float32)
        self.positions = np.full((len(versions), k), -1, np.int64)
        self._groups = [slice(start, start + group) for start in range(0, len(versions), group)]
        self._versions = versions

    def add(self, positions: I64, fingerprints: U8) -> None:
        """Compare a block: positions int64 [m], fingerprints uint8 [m, FINGERPRINT_BYTES]."""
        values = np.zeros((-(-len(fingerprints) // ROWS) * ROWS, FINGERPRINT_BYTES), np.float32)
        values[: len(fingerprints)] = fingerprints
        scaled = np.stack([values / _lengths(values, mask)[:, None] for mask in _MASKS])

        def compare(group: slice) -> F32:
            """Scores of a group of pictures, float32 [m, group]."""
            weights = np.ascontiguousarray(self._versions[group].transpose(1, 2, 0))  # [V, FINGERPRINT_BYTES, group]
            best = np.empty((len(values), weights.shape[2]), np.float32)
            product = np.empty((ROWS, weights.shape[2]), np.float32)
            # ROWS at a time: products of one shape alone, so that how blocks are cut does not decide which of two near equals is
            # better; and they stay in the processor's cache until all versions are compared.
            for first in range(0, len(values), ROWS):
                rows = slice(first, first + ROWS)
                np.matmul(scaled[_MASK_OF[0], rows], weights[0], out=best[rows])
                for version in range(1, len(weights)):
                    np.matmul(scaled[_MASK_OF[version], rows], weights[version], out=product)
                    np.maximum(best[rows], product, out=best[rows])
            return best[: len(fingerprints)]

        with one_thread(BLAS), ThreadPoolExecutor(cores()) as pool:
            for group, scores in zip(self._groups, pool.map(compare, self._groups), strict=True):
                self._keep(group.start, scores, positions)

    def _keep(self, start: int, scores: F32, positions: I64) -> None:
        k = self.scores.shape[1]
        for column in np.flatnonzero(
            np.round(scores.max(axis=0), _DIGITS) > self.scores[start:, -1][: scores.shape[1]]
        ):
            at, rounded = start + column, np.round(scores[:, column], _DIGITS)
            fresh = np.flatnonzero(rounded > self.scores[at, -1])
            all_scores = np.concatenate([self.scores[at], rounded[fresh]])
            all_positions = np.concatenate([self.positions[at], positions[fresh]])
            # Equal scores by position: the same candidates whatever the blocks were.
            order = np.lexsort((all_positions, -all_scores))[:k]
            self.scores[at], self.positions[at] = all_scores[order], all_positions[order]
