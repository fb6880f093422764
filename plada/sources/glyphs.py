"""The built-in reference `glyphs`: characters drawn with the fonts that matplotlib ships.

Every image is a pure function of (seed, position, VERSION): it has its own random stream, so images can be
drawn in any order and do not depend on how many there are. Strokes are light on a dark ground.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

VERSION = 1
SIZE = 32

# Digits, letters, some signs and Greek: a generic collection in which most images are of no class of the target.
CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz?&+#@%$"

# Named one by one, never listed from a folder: the order must not depend on a machine. Fonts without some of the
# characters (the mathematical ones) are left out; the cm fonts draw Greek at other code points.
FONTS = (
    "DejaVuSans.ttf",
    "DejaVuSans-Oblique.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSerif-Italic.ttf",
    "STIXGeneral.ttf",
    "STIXGeneralItalic.ttf",
    "STIXGeneralBol.ttf",
    "STIXGeneralBolIta.ttf",
    "cmr10.ttf",
    "cmss10.ttf",
    "cmtt10.ttf",
    "cmti10.ttf",
)
ASCII_ONLY = frozenset({"cmr10.ttf", "cmss10.ttf", "cmtt10.ttf", "cmti10.ttf"})

_MASTER = 64  # masters are drawn larger than the images, so that warping them loses nothing
_BOX = 44.0  # the longer side of a character in its master; the rest is room for thicker strokes
_DRAWS = 32


def _uniforms(position: int, seed: int) -> list[float]:
    """Uniforms in [0, 1) from raw Philox integers: raw streams are stable over numpy versions, distributions not."""
    if position < 0 or not 0 <= seed < 2**64:
        raise ValueError(f"position {position} or seed {seed} is out of range")
    key = np.array([seed, position + (VERSION << 56)], dtype=np.uint64)
    raw = np.random.Philox(key=key).random_raw(_DRAWS)
    return [float(x) for x in (raw >> np.uint64(11)) * 2.0**-53]


@lru_cache(maxsize=4096)
def _master(font_name: str, character: str) -> Image.Image:
    """A character, centred on a dark square of _MASTER pixels, its longer side _BOX pixels."""
    import os

    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    path = os.path.join(matplotlib.get_data_path(), "fonts", "ttf", font_name)
    font = ImageFont.truetype(path, 96, layout_engine=ImageFont.Layout.BASIC)
    left, top, right, bottom = (float(v) for v in font.getbbox(character))
    scale = 96.0 * _BOX / max(right - left, bottom - top)
    # Drawn twice: a scalable outline at its final size is cleaner than a resized bitmap.
    font = font.font_variant(size=scale)
    left, top, right, bottom = (float(v) for v in font.getbbox(character))
    image = Image.new("L", (_MASTER, _MASTER), 0)
    origin = ((_MASTER - left - right) / 2, (_MASTER - top - bottom) / 2)
    ImageDraw.Draw(image).text(origin, character, fill=255, font=font)
    return image


def _ramp(threshold: float, softness: float) -> list[int]:
    """A lookup table that maps a blurred mask to a stroke whose edge lies where the mask was `threshold`."""
    low = threshold - softness / 2
    return [int(255.0 * min(1.0, max(0.0, (v / 255.0 - low) / softness)) + 0.5) for v in range(256)]


def render(position: int, *, seed: int) -> np.ndarray:
    """Image `position` of the collection: uint8 [SIZE, SIZE]."""
    from math import cos, radians, sin

    from PIL import Image, ImageFilter

    u = _uniforms(position, seed)
    character = CHARACTERS[int(u[0] * len(CHARACTERS))]
    fonts = FONTS if character.isascii() else tuple(f for f in FONTS if f not in ASCII_ONLY)
    master = _master(fonts[int(u[1] * len(fonts))], character)

    # Stroke weight: blur, then cut at a level. A low level thickens the stroke, a high one thins it, and the blur
    # rounds serifs and corners off as a pen does.
    spread = SPREAD[0] + (SPREAD[1] - SPREAD[0]) * u[2]
    level = LEVEL[0] + (LEVEL[1] - LEVEL[0]) * u[3]
    stroke = master.filter(ImageFilter.GaussianBlur(spread)).point(_ramp(level, 0.16))

    # The inverse of: scale, slant, turn, shift. Longer side 20 to 31 pixels.
    longer = LONG[0] + (LONG[1] - LONG[0]) * u[4]
    sy = longer / (_BOX + 4.0)
    sx = sy * 2.0 ** (NARROW[0] + (NARROW[1] - NARROW[0]) * u[5])
    slant = 0.7 * (u[6] - 0.5)
    angle = radians(30.0 * (u[7] - 0.5))
    c, s = cos(angle), sin(angle)
    m00, m01 = c * sx, c * slant * sy - s * sy
    m10, m11 = s * sx, s * slant * sy + c * sy
    det = m00 * m11 - m01 * m10
    i00, i01, i10, i11 = m11 / det, -m01 / det, -m10 / det, m00 / det
    tx, ty = SIZE / 2 + 4.0 * (u[8] - 0.5), SIZE / 2 + 4.0 * (u[9] - 0.5)
    half = _MASTER / 2

    def source(x: float, y: float) -> tuple[float, float]:
        dx, dy = x - tx, y - ty
        return half + i00 * dx + i01 * dy, half + i10 * dx + i11 * dy

    # The corners of a 2 x 2 mesh are moved a little besides: strokes bend, as no affine map bends them.
    bend = BEND
    step = SIZE // 2
    nodes: list[list[tuple[float, float]]] = []
    for row in range(3):
        nodes.append([])
        for column in range(3):
            n = 10 + 2 * (3 * row + column)
            x, y = source(float(step * column), float(step * row))
            nodes[row].append((x + bend * (u[n] - 0.5), y + bend * (u[n + 1] - 0.5)))
    mesh = [
        (
            (step * q, step * r, step * (q + 1), step * (r + 1)),
            (*nodes[r][q], *nodes[r + 1][q], *nodes[r + 1][q + 1], *nodes[r][q + 1]),
        )
        for r in range(2)
        for q in range(2)
    ]
    image = stroke.transform((SIZE, SIZE), Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)
    image = image.filter(ImageFilter.GaussianBlur(0.4 + 1.0 * u[28]))
    pixels = np.asarray(image, dtype=np.float64)
    # Pens differ in how much ink they leave.
    return np.minimum(pixels * (0.8 + 0.35 * u[29]) + 0.5, 255.0).astype(np.uint8)


def render_many(start: int, stop: int, *, seed: int) -> np.ndarray:
    """Images start .. stop - 1: uint8 [stop - start, SIZE, SIZE]."""
    images = np.empty((stop - start, SIZE, SIZE), np.uint8)
    for row, position in enumerate(range(start, stop)):
        images[row] = render(position, seed=seed)
    return images


BEND = 12.0

LONG = (25.0, 33.0)
SPREAD = (1.0, 3.5)
LEVEL = (0.12, 0.42)
NARROW = (-0.9, 0.2)
