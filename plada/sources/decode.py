"""Bytes to pixels: the one function by which indexer and trainer see images, so that they see the same.

PIL and nothing faster: its pixels are the yardstick (libraries.md section 5 lists how other decoders differ). EXIF
orientation is ignored, as torchvision and timm do: the stored pixel order is what everybody's networks were trained on.
"""

import io
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, UnidentifiedImageError

from plada.errors import RequestError, Unreadable
from plada.progress import Report, Tracker, silent

MAX_PIXELS = 89_478_485  # PIL's own warning level; more is refused before anything is decoded
_SIXTEEN_BIT = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})


def decode(data: bytes) -> Image.Image:
    """Decode one stored image to RGB, 8 bits a channel; transparency over white, 16 bits scaled, first frame.

    Raises:
        Unreadable: not an image, truncated, or more than MAX_PIXELS pixels; the message is the reason.
    """
    # Other libraries set this process-wide switch; with it a truncated file turns into grey pixels without a word.
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Unreadable(f"{image.width}x{image.height} is over {MAX_PIXELS} pixels")
            return _to_rgb(image)
    except Unreadable:
        raise
    except UnidentifiedImageError:
        raise Unreadable("not an image that can be identified") from None
    except Exception as err:  # PIL's plugins raise almost anything on broken input
        raise Unreadable(f"{type(err).__name__}: {err}".splitlines()[0]) from err


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        image.load()
        return image.copy() if image.readonly else image
    if image.mode in _SIXTEEN_BIT:
        # convert("RGB") would clip everything above 255 to white.
        return image.convert("I").point(lambda value: value * (1 / 257)).convert("L").convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        over = image.convert("RGBA")
        white = Image.new("RGBA", over.size, "white")
        return Image.alpha_composite(white, over).convert("RGB")
    return image.convert("RGB")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How a network wants to see an image: size x size RGB pixels, with PIL's antialiased interpolation.

    `squash` ignores the aspect ratio; `crop` scales the short side to size / crop and takes the centre, as timm's
    evaluation transform does.
    """

    size: int
    mode: str = "crop"
    crop: float = 1.0
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        known = (self.mode in ("crop", "squash"), self.interpolation.upper() in Image.Resampling.__members__)
        if self.size < 1 or not 0 < self.crop <= 1 or not all(known):
            raise RequestError(
                f"{self}: expected size >= 1, mode crop or squash, 0 < crop <= 1, an interpolation of PIL's"
            )

    def of(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """Pixels of an RGB image, uint8 [size, size, 3]."""
        how = Image.Resampling[self.interpolation.upper()]
        if self.mode == "squash":
            seen = image.resize((self.size, self.size), how)
        else:
            scaled = int(self.size / self.crop)
            short = min(image.size)
            width, height = (max(self.size, round(side * scaled / short)) for side in image.size)
            left, top = round((width - self.size) / 2), round((height - self.size) / 2)
            whole = image.resize((width, height), how)
            seen = whole.crop((left, top, left + self.size, top + self.size))
        return np.asarray(seen)


def load_pixels(
    read: Callable[[int], bytes],
    positions: Iterable[int],
    view: View,
    *,
    stage: str,
    report: Report = silent,
    workers: int = 4,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Read, decode and resize many images with threads (PIL releases the interpreter while it works).

    Returns pixels uint8 [n, size, size, 3] and readable bool [n]; an unreadable image keeps its place, in black.
    """
    wanted = [int(position) for position in positions]
    pixels = np.zeros((len(wanted), view.size, view.size, 3), np.uint8)
    readable = np.ones(len(wanted), np.bool_)
    tracker = Tracker(stage, len(wanted), report)

    def one(row: int) -> None:
        try:
            pixels[row] = view.of(decode(read(wanted[row])))
        except Unreadable:
            readable[row] = False

    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(one, range(len(wanted))):
            tracker.advance()
    return pixels, readable
