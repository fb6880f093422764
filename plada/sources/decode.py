"""Bytes to pixels: indexer and trainer decode images by one function, so that they see the same pixels.

Orientation: pixels stay in the order in which they are stored; an EXIF orientation is ignored, as torchvision and timm
ignore it, since networks were trained on such pixels. The one exception is TIFF, whose Orientation tag PIL itself
applies, there as here.

What else is done: the first frame of an animation, the first picture of several; transparency over white; of 16 bits
the upper 8; CMYK in a JPEG as PIL reads it (inverted, as Adobe writes it). Numbers without a stated white (float,
signed or 32-bit TIFF) are refused: any scale would be a guess. No checksum tells a damaged JPEG, GIF or TIFF from a
whole one if it still decodes; the manifest's hash does.

PIL and nothing faster: see docs/decisions.md for what another decoder would gain.
"""

import io
import logging
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError, features

from plada.common.arrays import U8, Bools
from plada.common.progress import Report, Tracker, silent
from plada.errors import RequestError, Unreadable
from plada.sources.tiff_errors import tiff_errors
from plada.sources.unsupported import unsupported_kind

MAX_PIXELS = 89_478_485  # PIL's own warning level; more is refused before anything is decoded
REMARK = "plada remark"  # in `info` of a decoded image: what a person should know of it
# Fewer where decoding takes more than 12 bytes a pixel, so that a picture takes 1 GB at most (docs/log.md, Inputs).
_LARGEST = {"WEBP": 60_000_000, "AVIF": 60_000_000, "CMYK": 80_000_000}
MAX_SIDE = 4096  # of the square that a network sees; what files ask for is bounded before anything is made
# Said to PIL: what it can open otherwise depends on what others registered, and EPS would start a program.
# AVIF where this PIL has it.
FORMATS = (
    *("JPEG", "PNG", "GIF", "WEBP", "BMP", "PPM", "TIFF"),
    *(["AVIF"] if "avif" in features.modules and features.check("avif") else []),
)
_BEGINNINGS = {
    b"\xff\xd8": "a JPEG",
    b"\x89PNG": "a PNG",
    b"GIF8": "a GIF",
    b"RIFF": "a WebP",
    b"BM": "a BMP",
    b"II*\0": "a TIFF",
    b"MM\0*": "a TIFF",
}
_WHOLE = 16  # views that a scaled image may be as large as; of a larger one only the part that is seen is made
_TALL = 16  # heights in widths from which an image is scaled in height first
_SIXTEEN_BIT = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})
_ALPHA = frozenset({"RGBA", "RGBa", "LA", "La", "PA"})
_STRIP = 1 << 20  # pixels that are converted at a time
# TIFF tags, and values of the second and the last
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT, _WHITE_IS_ZERO, _UNSIGNED = 258, 262, 339, 0, (1, 4)

# Python prints what has no handler; whoever has one still gets it.
logging.getLogger("PIL").addHandler(logging.NullHandler())


def decode(data: bytes) -> Image.Image:
    """Decode one stored image to RGB, 8 bits a channel, as the head of this module says. Raises Unreadable: not an
    image, truncated, or more than MAX_PIXELS pixels; the message is the reason. An image that is damaged in part and decodes
    all the same has `info[REMARK]`. RequestError: this process has PIL
    switched to another behaviour; no image is to blame."""
    with without_warnings():
        return decode_within(data)


def decode_within(data: bytes) -> Image.Image:
    """As `decode`, for callers that decode many images within one `without_warnings`."""
    _check_switches()
    said: list[str] = []
    try:
        with _listening(data) as said, Image.open(io.BytesIO(data), formats=FORMATS) as image:
            limit = min(_LARGEST.get(image.format or "", MAX_PIXELS), _LARGEST.get(image.mode, MAX_PIXELS))
            if image.width * image.height > limit:
                raise Unreadable(f"{image.width}x{image.height} is over {limit} pixels")
            if image.format == "PNG":
                _check_png(data)
            decoded = _to_rgb(image)
    except (Unreadable, MemoryError):
        raise
    except UnidentifiedImageError:
        raise Unreadable(_unidentified(data)) from None
    except Image.DecompressionBombError as err:
        if (Image.MAX_IMAGE_PIXELS or MAX_PIXELS) * 2 < MAX_PIXELS:
            raise RequestError(
                f"PIL.Image.MAX_IMAGE_PIXELS is {Image.MAX_IMAGE_PIXELS} in this process, and an image is larger than "
                f"PIL then opens: {err} Set it to {MAX_PIXELS // 2} or more; larger images are refused one by one"
            ) from err
        raise Unreadable(f"over {MAX_PIXELS} pixels: {err}") from err
    except Exception as err:  # PIL's plugins raise almost anything on broken input
        if data[:2] == b"\xff\xd8" and unsupported_kind(data):  # PIL opens frames that it cannot decode
            raise Unreadable(_unidentified(data)) from err
        if said:
            raise Unreadable(f"damaged TIFF ({said[0]})") from err
        raise Unreadable(f"{type(err).__name__}: {err}".splitlines()[0]) from err
    _check_switches()  # another thread may have switched while PIL was at work
    if said:
        decoded.info[REMARK] = f"read, though parts of the TIFF are damaged ({said[0]})"
    return decoded


def rgb_of(image: Image.Image) -> Image.Image:
    """An image that is opened or in memory already, as `decode` gives those that are stored. Raises Unreadable: no value
    of its mode is white, or it is truncated."""
    _check_switches()
    try:
        with without_warnings():
            return _to_rgb(image)
    except (Unreadable, MemoryError):
        raise
    except Exception as err:  # as in `decode`
        raise Unreadable(f"{type(err).__name__}: {err}".splitlines()[0]) from err


def _listening(data: bytes) -> AbstractContextManager[list[str]]:
    return tiff_errors() if data[:2] in (b"II", b"MM") else nullcontext([])


_IGNORED = ("ignore", None, Warning, re.compile(r"PIL(\.|$)"), 0)  # an entry of warnings.filters
_guard, _inside = threading.Lock(), [0]  # how many threads decode at this moment


@contextmanager
def without_warnings() -> Iterator[None]:
    """Ignore PIL's warnings, whatever the process does with warnings: what they are about is refused, or harmless.

    `warnings.catch_warnings` puts back what another thread has set; here the first one in adds an entry, and the last one
    out takes it away.
    """
    filters: list[Any] = warnings.filters  # type: ignore[assignment]
    with _guard:
        _inside[0] += 1
        if _IGNORED not in filters[:1]:
            warnings.filterwarnings("ignore", module=_IGNORED[3].pattern)
    try:
        yield
    finally:
        with _guard:
            _inside[0] -= 1
            if not _inside[0] and _IGNORED in warnings.filters:
                warnings.filters.remove(_IGNORED)  # type: ignore[attr-defined]


def _check_switches() -> None:
    """Refuse to decode while PIL is told to fill truncated files with grey; the switch is not ours to put back."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise RequestError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on in this process, set by your code or a library: truncated images "
            "would turn grey without a word. Set it to False while plada reads images"
        )


def _check_png(data: bytes) -> None:
    """Compare the checksums of the pixel data, which PIL leaves out (it checks those of all other chunks)."""
    at = 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if kind == b"IEND" or end + 4 > len(data):
            return  # where bytes are missing PIL decides: a lost IEND alone does no harm
        if kind == b"IDAT" and zlib.crc32(memoryview(data)[at + 4 : end]) != int.from_bytes(data[end : end + 4]):
            raise Unreadable(f"damaged PNG: wrong checksum of the pixel data at byte {at}")
        at = end + 4


def _unidentified(data: bytes) -> str:
    if not data:
        return "empty: 0 bytes"
    kind = unsupported_kind(data)
    if kind in FORMATS:
        return f"begins like an {kind}, but its header is cut or damaged"
    if kind:
        return f"{kind}: not supported. Save it as an 8-bit PNG or JPEG"
    for beginning, name in _BEGINNINGS.items():
        if data.startswith(beginning):
            return f"begins like {name}, but its header is cut or damaged"
    return f"not an image of a known kind ({', '.join(FORMATS)}): begins with {data[:8]!r}"


def _to_rgb(image: Image.Image) -> Image.Image:
    """RGB pixels. What takes more than one step is done in strips: several wholes of a large picture fill the memory."""
    plain = image.mode == "RGB" and "transparency" not in image.info
    if not (plain and image.format == "JPEG") and _is_without_white(image):
        raise Unreadable(
            f"{image.format} of mode {image.mode}: no value is defined as white. Save it with 8 or 16 bits"
        )
    if plain:
        image.load()
        return image.copy() if image.readonly else image
    if image.mode in _SIXTEEN_BIT or image.mode == "I":
        return _in_strips(image, _upper_bits)
    if image.mode in _ALPHA or "transparency" in image.info:
        _scale_transparency(image)
        return _in_strips(image, _over_white)
    return image.convert("RGB")


def _is_without_white(image: Image.Image) -> bool:
    tags: Any = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    numbers = tags.get(_SAMPLE_FORMAT, (1,))
    signed = any(kind not in _UNSIGNED for kind in (numbers if isinstance(numbers, tuple) else (numbers,)))
    return signed or image.mode == "F" or (image.mode == "I" and image.format != "PPM")


def _in_strips(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    image.load()  # before the size is asked for: a TIFF may turn by it
    whole = Image.new("RGB", image.size)
    rows = max(1, _STRIP // image.width)
    bits = getattr(image, "tag_v2", None)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        if bits is not None:
            strip.info["tags"] = bits
        whole.paste(convert(strip), (0, top))
    return whole


def _over_white(strip: Image.Image) -> Image.Image:
    over = (strip.convert("LA") if strip.mode == "La" else strip).convert("RGBA")
    white = Image.new("RGBA", over.size, "white")
    return Image.alpha_composite(white, over).convert("RGB")


def _upper_bits(strip: Image.Image) -> Image.Image:
    """Upper 8 bits of a grey image of 9 to 16 bits; PIL's own conversion would clip all above 255 to white."""
    tags: Any = strip.info.get("tags", {})
    bits = int(tags.get(_BITS_PER_SAMPLE, (16,))[0])
    values = np.asarray(strip).astype(np.int64)
    grey = (values >> (bits - 8)).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    see_through = strip.info.get("transparency")
    grey = grey if see_through is None else np.where(values == see_through, np.uint8(255), grey)
    return Image.fromarray(grey).convert("RGB")


def _scale_transparency(image: Image.Image) -> None:
    """PIL gives a PNG's transparent colour in the bits of the file, but pixels in 8: bring the colour to 8 bits too."""
    tile = getattr(image, "tile", None)
    colour, stored = image.info.get("transparency"), tile[0][3] if tile else None
    if stored in ("L;2", "L;4") and isinstance(colour, int):
        image.info["transparency"] = colour * (85 if stored == "L;2" else 17)
    elif stored == "RGB;16B" and isinstance(colour, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in colour)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How a network wants to see an image: size x size RGB pixels, with PIL's antialiased interpolation.

    `squash` ignores the aspect ratio; `crop` scales the short side to size / crop and takes the centre, as timm's
    evaluation transform does. Work and memory are bounded by the size of the view, whatever the shape of the image.
    """

    size: int
    mode: str = "crop"
    crop: float = 1.0
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        known = (self.mode in ("crop", "squash"), self.interpolation.upper() in Image.Resampling.__members__)
        if not 1 <= self.size <= MAX_SIDE or not 0 < self.crop <= 1 or not all(known):
            raise RequestError(
                f"{self}: expected a size of 1 to {MAX_SIDE}, mode crop or squash, 0 < crop <= 1, an interpolation of PIL's"
            )

    def of(self, image: Image.Image) -> U8:
        """Pixels of an RGB image, uint8 [size, size, 3]."""
        how = Image.Resampling[self.interpolation.upper()]
        if self.mode == "squash":
            if image.height > _TALL * image.width:
                # PIL scales the width first, for every row that there is.
                image = image.resize((image.width, self.size), how)
            return np.asarray(image.resize((self.size, self.size), how))
        scaled = int(self.size / self.crop)
        short = min(image.size)
        width, height = (max(self.size, round(side * scaled / short)) for side in image.size)
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        if width * height > _WHOLE * self.size**2:
            return np.asarray(_resize_part(image, (width, height), (left, top), self.size, how))
        seen = image.resize((width, height), how)
        if seen.size != (self.size, self.size):
            seen = seen.crop((left, top, left + self.size, top + self.size))
        return np.asarray(seen)


def _resize_part(
    image: Image.Image, whole: tuple[int, int], corner: tuple[int, int], size: int, how: Image.Resampling
) -> Image.Image:
    """The square of `size` at `corner` of an image that would be scaled to `whole`, without the rest of it."""
    region, box = [], []
    for side, scaled, begin in zip(image.size, whole, corner, strict=True):
        scale = side / scaled
        first, last = begin * scale, (begin + size) * scale
        margin = 4 * max(scale, 1.0)  # the widest filter of PIL's reaches three pixels
        start, stop = max(0, int(first - margin)), min(side, int(last + margin) + 1)
        region.append((start, stop))
        # PIL has the box in 32 bits, which hold no fraction of a pixel far from the origin: hence the crop.
        box.append((first - start, min(last, side) - start))
    (left, right), (top, bottom) = region
    (x0, x1), (y0, y1) = box
    return image.crop((left, top, right, bottom)).resize((size, size), how, box=(x0, y0, x1, y1))


def load_pixels(
    read: Callable[[int], bytes],
    positions: Iterable[int],
    view: View,
    *,
    stage: str,
    report: Report = silent,
    workers: int = 4,
) -> tuple[U8, Bools]:
    """Read, decode and resize many images with threads (PIL releases the interpreter while it works).

    Returns pixels uint8 [n, size, size, 3] and readable bool [n]; an unreadable image keeps its place, in black.
    """
    wanted = [int(position) for position in positions]
    pixels = np.zeros((len(wanted), view.size, view.size, 3), np.uint8)
    readable = np.ones(len(wanted), np.bool_)
    tracker = Tracker(stage, len(wanted), report)

    def load(row: int) -> None:
        try:
            pixels[row] = view.of(decode(read(wanted[row])))
        except Unreadable:
            readable[row] = False

    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(load, range(len(wanted))):
            tracker.advance()
    return pixels, readable
