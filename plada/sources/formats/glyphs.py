"""The built-in reference `glyphs`: characters drawn with the fonts that matplotlib ships.

Every image is a pure function of (seed, position, VERSION): it has its own random stream, so images can be drawn in
any order and do not depend on how many there are. Strokes are light on a dark ground. The pixels besides depend on
the installed Pillow (its FreeType and its resampling) and on matplotlib's font files: another release may move a grey
value by a little. Keys stay, the content id then says so.
"""

from functools import lru_cache
from math import cos, radians, sin
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from plada.common.arrays import U8

VERSION = 1
SIZE = 32

# Digits, letters and a few signs: in six of seven images the character is no digit.
CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz?&+#@%$"

# Named one by one, never listed from a folder: the order must not depend on a machine. Only fonts that have all of
# the characters, in upright, slanted, bold, typewriter and serif cuts.
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

# The ranges that uniforms are stretched to. A change of any is a new VERSION.
SMEAR = (1.0, 3.5)  # blur of the master, in its pixels, before it is cut at a level
LEVEL = (0.12, 0.42)  # where it is cut: low for thick strokes, high for thin ones
LONGER = (26.0, 34.0)  # the character's longer side in the image, in pixels
NARROW = (-0.9, 0.2)  # width in octaves: from about half to a seventh more
SLANT = (-0.35, 0.35)
TURN = (-15.0, 15.0)  # degrees
SHIFT = (-2.0, 2.0)  # pixels
BEND = (-6.0, 6.0)  # pixels of the master, by which each of nine nodes moves
BLUR = (0.4, 1.4)  # pixels
INK = (0.8, 1.15)

_MASTER = 64  # masters are drawn larger than the images, so that warping them loses nothing
_BOX = 44.0  # the longer side of a character in its master; the rest is room for thicker strokes
_DRAWS = 32  # uniforms of one image, more than are used


def _uniforms(position: int, seed: int) -> list[float]:
    """Uniforms in [0, 1) from raw Philox integers: raw streams are stable over numpy releases, distributions not."""
    if not 0 <= position < 2**56 or not 0 <= seed < 2**64:
        raise ValueError(f"position {position} or seed {seed} is out of range")
    key = np.array([seed, position + (VERSION << 56)], dtype=np.uint64)
    raw = np.random.Philox(key=key).random_raw(_DRAWS)
    return [float(x) for x in (raw >> np.uint64(11)) * 2.0**-53]


def _between(bounds: tuple[float, float], uniform: float) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * uniform


@lru_cache(maxsize=4096)
def _master(font_name: str, character: str) -> Image.Image:
    """A character, centred on a dark square of _MASTER pixels, its longer side _BOX pixels."""
    import matplotlib

    path = Path(matplotlib.get_data_path(), "fonts", "ttf", font_name)
    font = ImageFont.truetype(path, 96, layout_engine=ImageFont.Layout.BASIC)
    left, top, right, bottom = (float(v) for v in font.getbbox(character))
    # Measured, then drawn at its final size: an outline is cleaner than a resized bitmap.
    font = font.font_variant(size=96.0 * _BOX / max(right - left, bottom - top))
    left, top, right, bottom = (float(v) for v in font.getbbox(character))
    image = Image.new("L", (_MASTER, _MASTER), 0)
    origin = ((_MASTER - left - right) / 2, (_MASTER - top - bottom) / 2)
    ImageDraw.Draw(image).text(origin, character, fill=255, font=font)
    return image


def _ramp(level: float, softness: float = 0.16) -> list[int]:
    """A lookup table from a blurred mask to a stroke whose edge lies where the mask was `level`."""
    low = level - softness / 2
    return [int(255.0 * min(1.0, max(0.0, (v / 255.0 - low) / softness)) + 0.5) for v in range(256)]


def render(position: int, *, seed: int) -> U8:
    """Image `position` of the collection: uint8 [SIZE, SIZE]."""
    u = _uniforms(position, seed)
    master = _master(FONTS[int(u[1] * len(FONTS))], CHARACTERS[int(u[0] * len(CHARACTERS))])

    # Stroke weight without any outline: blur, then cut at a level. The blur rounds corners and serifs off as a pen
    # does.
    smeared = master.filter(ImageFilter.GaussianBlur(_between(SMEAR, u[2])))
    stroke = smeared.point(_ramp(_between(LEVEL, u[3])))

    # Scale, slant and turn as a matrix; resampling wants its inverse, from image to master.
    scale_y = _between(LONGER, u[4]) / (_BOX + 4.0)
    scale_x = scale_y * 2.0 ** _between(NARROW, u[5])
    slant = _between(SLANT, u[6])
    angle = radians(_between(TURN, u[7]))
    c, s = cos(angle), sin(angle)
    m00, m01 = c * scale_x, (c * slant - s) * scale_y
    m10, m11 = s * scale_x, (s * slant + c) * scale_y
    determinant = m00 * m11 - m01 * m10
    i00, i01, i10, i11 = m11 / determinant, -m01 / determinant, -m10 / determinant, m00 / determinant
    middle_x, middle_y = SIZE / 2 + _between(SHIFT, u[8]), SIZE / 2 + _between(SHIFT, u[9])

    # Nine nodes of a 2 x 2 mesh move a little besides: strokes bend, as no affine map bends them.
    step = SIZE // 2
    nodes: list[tuple[float, float]] = []
    for node in range(9):
        dx, dy = step * (node % 3) - middle_x, step * (node // 3) - middle_y
        x = _MASTER / 2 + i00 * dx + i01 * dy + _between(BEND, u[10 + 2 * node])
        y = _MASTER / 2 + i10 * dx + i11 * dy + _between(BEND, u[11 + 2 * node])
        nodes.append((x, y))
    mesh = []
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        box = (step * column, step * row, step * (column + 1), step * (row + 1))
        first = 3 * row + column
        # Pillow's order: upper left, lower left, lower right, upper right.
        mesh.append((box, (*nodes[first], *nodes[first + 3], *nodes[first + 4], *nodes[first + 1])))
    image = stroke.transform((SIZE, SIZE), Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)
    image = image.filter(ImageFilter.GaussianBlur(_between(BLUR, u[28])))
    pixels = np.asarray(image, dtype=np.float64)
    # Pens differ in how much ink they leave.
    return np.minimum(pixels * _between(INK, u[29]) + 0.5, 255.0).astype(np.uint8)
