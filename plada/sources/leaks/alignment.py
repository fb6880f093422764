"""Whether two pictures are the same: align one with the other as well as possible, then compare.

Luma alone is no proof, as any two skies correlate. Edges of pictures that are merely alike do not fall on each other,
however they are laid; those of a copy do, to a fraction of a pixel, even re-encoded. Where edges are few, colour and
brightness tell apart what a single outline cannot.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from plada.common.arrays import F32, F64, I64, U8, Bools

SIDE = 32  # pixels of the squares that are compared: what survives strong re-encoding
_COARSE = (16, 6)  # pixels of the squares, and steps: from every start
_FINE = (32, 6)  # the same from the best of them
_HOPELESS = 0.55  # correlation of luma below which no finer fit is tried
_LEAST_OVERLAP = 0.55  # share of either picture that the other must cover
_MOST_STRETCH = 1.22  # of width against height
_SCALES = (0.7, 1.43)
_NOISE = 0.25  # levels squared: variation below this agrees with nothing
_EDGE_NOISE = 0.5  # the same for edges, in levels


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the second picture lies, float32 [n] each, in shares of width and height: what is at (x, y) in the first
    is at (scale_x x + left, scale_y y + top) in the second. Scale below one: the first is a crop of the second."""

    scale_x: F32
    scale_y: F32
    left: F32
    top: F32


def square(image: Image.Image) -> U8:
    """A decoded RGB image squashed to uint8 [SIDE, SIDE, 3]: luma and two colour differences."""
    small = image.resize((SIDE, SIDE), Image.Resampling.HAMMING, reducing_gap=3.0)
    return np.asarray(small.convert("YCbCr"))


@dataclass(frozen=True, slots=True)
class Agreement:
    """How pairs agree at best, float32 [n] each. `edges`: correlation of edges, strong ones weighing little more than
    weak ones; `luma`: correlation of luma; `shift`: typical difference of luma, `colour`: of colour, in levels.
    `start` int64 [n] says from which start, `place` where. All of a pair that overlaps too little is zero."""

    edges: F32
    luma: F32
    shift: F32
    colour: F32
    start: I64
    place: Placement


def agreement(first: U8, second: U8, starts: F32) -> Agreement:
    """Lay pairs over each other: first uint8 [n, s, SIDE, SIDE, 3] (as each start wants it: mirrored or not), second
    uint8 [n, SIDE, SIDE, 3], starts float32 [n, s, 4] as the fields of Placement."""
    n, tries = starts.shape[:2]
    rows = np.arange(n)
    luma = first[..., 0].astype(np.float32).reshape(n * tries, SIDE, SIDE)
    other = np.repeat(second[..., 0].astype(np.float32), tries, axis=0)
    side, steps = _COARSE
    given = starts.reshape(n * tries, 4).astype(np.float64)
    fitted, near = _fit(_shrunk(luma, side), _shrunk(other, side), given, steps)
    # Fine patterns are gone at the coarse size, and a fit to what is left may lead away from a good start.
    tried = np.stack([given, fitted])
    sharp = np.stack([_luma_at(luma, other, place) for place in tried]).reshape(2, n, tries)
    which, best = np.divmod(sharp.transpose(1, 0, 2).reshape(n, -1).argmax(axis=1), tries)
    place = tried.reshape(2, n, tries, 4)[which, rows, best]
    result = np.zeros((4, n), np.float32)
    go = np.flatnonzero(np.maximum(near.reshape(n, tries).max(axis=1), sharp.max(axis=(0, 2))) >= _HOPELESS)
    if len(go):
        a, b = first[go, best[go]].astype(np.float32), second[go].astype(np.float32)
        place[go], _ = _fit(a[..., 0], b[..., 0], place[go], _FINE[1])
        warped, inside = _sample(b, place[go])
        result[:, go] = _compare(a, warped, inside)
    at = Placement(*(place[:, i].astype(np.float32) for i in range(4)))
    return Agreement(result[0], result[1], result[2], result[3], best.astype(np.int64), at)


def _luma_at(first: F32, second: F32, place: F64) -> F32:
    """Correlation of luma [n] at a placement."""
    warped, inside = _sample(second[..., None], place)
    return _correlate(first, warped[..., 0], inside)[2]


def _fair(place: F64) -> Bools:
    """Whether the two have enough in common, and neither is squeezed much more one way than the other."""
    scale, shift = place[:, :2], place[:, 2:]
    common = np.clip(np.minimum(shift + scale, 1) - np.maximum(shift, 0), 0, 1)
    least = np.minimum(common.prod(axis=1), (common / scale).prod(axis=1))
    stretch = np.maximum(scale[:, 0], scale[:, 1]) / np.minimum(scale[:, 0], scale[:, 1])
    return np.asarray((least >= _LEAST_OVERLAP) & (stretch <= _MOST_STRETCH))


def _shrunk(squares: F32, side: int) -> F32:
    n, old, _ = squares.shape
    return np.asarray(squares.reshape(n, side, old // side, side, old // side).mean(axis=(2, 4)))


def _fit(first: F32, second: F32, place: F64, steps: int) -> tuple[F64, F32]:
    """Gauss-Newton steps on the placement, brightness and contrast: the best placement met [n, 4], and the correlation
    of luma there [n]."""
    n, side, _ = first.shape
    grid = ((np.arange(side) + 0.5) / side).astype(np.float32)
    best, kept = place.copy(), np.full(n, -2.0, np.float32)
    for step in range(steps + 1):
        warped, inside = _sample(second[..., None], place)
        warped = warped[..., 0]
        a, b, correlation = _correlate(first, warped, inside)
        better = (correlation > kept) & _fair(place)
        best[better], kept[better] = place[better], correlation[better]
        if step == steps:
            break
        gain = ((a * b).sum((1, 2)) / ((b * b).sum((1, 2)) + 1e-6)).astype(np.float32)
        slope_y, slope_x = np.gradient(warped, axis=(1, 2))
        # Slopes are in pixels of the first; one step in the second moves them by 1 / scale.
        slope_x = slope_x * inside * (side * gain / place[:, 0].astype(np.float32))[:, None, None]
        slope_y = slope_y * inside * (side * gain / place[:, 1].astype(np.float32))[:, None, None]
        columns = (slope_x * grid[:, None].T, slope_y * grid[:, None], slope_x, slope_y, b, inside)
        design = np.stack([column.reshape(n, -1) for column in columns], axis=1)
        wanted = (a - gain[:, None, None] * b).reshape(n, -1, 1)
        normal = (design @ design.transpose(0, 2, 1)).astype(np.float64)
        weight = np.array([1, 1, 1, 1, 1e-2, 1e-2]) * 1e-3 / 6
        normal += np.eye(6) * (np.trace(normal, axis1=1, axis2=2)[:, None, None] * weight + 1e-6)
        move = np.linalg.solve(normal, (design @ wanted).astype(np.float64))[:, :4, 0]
        place = place + np.clip(move, -1.5 / side, 1.5 / side)
        place[:, :2] = np.clip(place[:, :2], *_SCALES)
    return best, kept


def _correlate(first: F32, second: F32, inside: F32) -> tuple[F32, F32, F32]:
    """(first, second, each less its mean where both are) and their correlation [n]."""
    count = np.maximum(inside.sum((1, 2)), 1)
    a = (first - ((first * inside).sum((1, 2)) / count)[:, None, None]) * inside
    b = (second - ((second * inside).sum((1, 2)) / count)[:, None, None]) * inside
    lengths = ((a * a).sum((1, 2)) + _NOISE * count) * ((b * b).sum((1, 2)) + _NOISE * count)
    return a, b, np.asarray((a * b).sum((1, 2)) / np.sqrt(lengths), np.float32)


def _sample(squares: F32, place: F64) -> tuple[F32, F32]:
    """Squares [n, s, s, c] seen through their placement, bilinear, and where that lies inside them: 1.0 or 0.0."""
    n, side = squares.shape[:2]
    grid = (np.arange(side) + 0.5) / side
    rows = np.arange(n)[:, None, None]

    def taps(scale: F64, shift: F64) -> tuple[I64, F32, Bools]:
        at = (scale[:, None] * grid + shift[:, None]) * side - 0.5
        inside = (at > -0.75) & (at < side - 0.25)
        at = np.clip(at, 0, side - 1)
        low = np.minimum(at.astype(np.int64), side - 2)
        return low, (at - low).astype(np.float32), inside

    x, across, in_x = taps(place[:, 0], place[:, 2])
    y, down, in_y = taps(place[:, 1], place[:, 3])
    x, y = x[:, None, :], y[:, :, None]
    across, down = across[:, None, :, None], down[:, :, None, None]
    upper = squares[rows, y, x] * (1 - across) + squares[rows, y, x + 1] * across
    lower = squares[rows, y + 1, x] * (1 - across) + squares[rows, y + 1, x + 1] * across
    inside = (in_y[:, :, None] & in_x[:, None, :]).astype(np.float32)
    return (upper * (1 - down) + lower * down).astype(np.float32, copy=False), inside


def _compare(first: F32, second: F32, inside: F32) -> F32:
    """(edges, luma, shift, colour) of aligned pairs [n, SIDE, SIDE, 3], float32 [4, n]."""
    edges = _edges_agree(first[..., 0], second[..., 0], inside)
    _, _, luma = _correlate(first[..., 0], second[..., 0], inside)
    cells = 4  # what re-encoding moves in single pixels it leaves alone in their means
    blocks = (len(first), SIDE // cells, cells, SIDE // cells, cells)
    count = inside.reshape(blocks).sum((2, 4))
    full = (count >= cells * cells / 2).astype(np.float32)
    gap = ((first - second) * inside[..., None]).reshape(*blocks, 3).sum((2, 4)) / np.maximum(count, 1)[..., None]
    mean = np.sqrt((gap**2 * full[..., None]).sum((1, 2)) / np.maximum(full.sum((1, 2)), 1)[:, None])
    return np.stack([edges, luma, mean[:, 0], np.hypot(mean[:, 1], mean[:, 2])]).astype(np.float32)


def _edges_agree(first: F32, second: F32, inside: F32) -> F32:
    """Correlation of the signed roots of differences between neighbours that are both inside."""
    product, one, two, count = (np.zeros(len(first), np.float32) for _ in range(4))
    for axis in (1, 2):
        a, b = (np.diff(luma, axis=axis) for luma in (first, second))
        a, b = np.sign(a) * np.sqrt(np.abs(a)), np.sign(b) * np.sqrt(np.abs(b))
        both = np.minimum(np.delete(inside, 0, axis), np.delete(inside, -1, axis))
        product += (a * b * both).sum((1, 2))
        one += (a * a * both).sum((1, 2))
        two += (b * b * both).sum((1, 2))
        count += both.sum((1, 2))
    noise = _EDGE_NOISE * count + 1e-6
    return np.asarray(product / np.sqrt((one + noise) * (two + noise)), np.float32)
