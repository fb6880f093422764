"""Small pictures that a page carries within itself, as data: URLs."""

import base64
import io
from collections.abc import Sequence

from PIL import Image, features

SIDE = 72  # pixels of the longer side
_QUALITY = 55  # of lossy WebP; a photograph takes about 1.2 kB
_DRAWN = 40  # a picture no larger than this is kept as it is, without loss: its pixels are what it shows


def thumbnail(image: Image.Image) -> tuple[str, int, int]:
    """(data: URL, width, height) of an RGB picture made to fit a square of SIDE pixels; small ones are not enlarged."""
    small = fit_square(image, SIDE)
    return _url(small, lossless=max(small.size) <= _DRAWN), small.width, small.height


def fit_square(image: Image.Image, side: int) -> Image.Image:
    """The RGB picture made to fit a square of `side` pixels; a small one is not enlarged."""
    small = image if max(image.size) <= side else image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return small


def encode_picture(image: Image.Image, *, quality: int = _QUALITY, lossless: bool | None = None) -> tuple[bytes, str]:
    """(bytes, media type) of a small picture; without loss where it is so small that its pixels are what it shows."""
    exact = max(image.size) <= _DRAWN if lossless is None else lossless
    buffer = io.BytesIO()
    if features.check("webp"):
        image.save(buffer, format="WEBP", quality=quality, method=4, lossless=exact)
        return buffer.getvalue(), "image/webp"
    # Pillow can be built without it
    image.save(buffer, format="PNG" if exact else "JPEG", **({} if exact else {"quality": quality}))
    return buffer.getvalue(), f"image/{'png' if exact else 'jpeg'}"


def matrix_picture(counts: Sequence[Sequence[int]]) -> str:
    """A data: URL of a square of shares of each row, dark for many: what is right on the diagonal, else off it."""
    pixels = bytearray()
    for row in counts:
        total = sum(row) or 1
        pixels += bytes(255 - round(255 * (count / total) ** 0.5) for count in row)
    square = Image.frombytes("L", (len(counts), len(counts)), bytes(pixels))
    side = len(counts) * max(1, 480 // len(counts))
    return _url(square.resize((side, side), Image.Resampling.NEAREST).convert("RGB"), lossless=True)


def _url(image: Image.Image, *, lossless: bool) -> str:
    data, kind = encode_picture(image, lossless=lossless)
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
