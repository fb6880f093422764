"""Pictures to predict, from wherever they come: files, folders, wildcards and URLs, PIL images, arrays and tensors.

They are named one after another and read when they are looked at, so that a million of them take no more memory than a few.
"""

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
from PIL import Image

from plada.common.files import local_place
from plada.errors import DataError, RequestError, Unreadable
from plada.sources.collection import IMAGE_SUFFIXES, is_image_name
from plada.sources.decode import decode, rgb_of
from plada.sources.storage import open_files, walk

_STREAMS = (("/", "dev"), ("/", "proc"))  # where a shell names the pipes that it opened itself
_WILD = "*?["
_LARGEST = 256 << 20  # bytes of a picture that is fetched
_TIMEOUT = 60  # seconds without an answer
_EXPECTED = "expected uint8 [height, width, 3], [height, width], [n, height, width, 3], or of a tensor [3, height, width] or [n, 3, height, width]"


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture that is not read yet; `load` gives it in RGB, or raises Unreadable."""

    name: str
    load: Callable[[], Image.Image]


def is_one(images: Any) -> bool:
    """Whether `images` is one picture, not several: an image, an array of one, or the place of one file."""
    if isinstance(images, (str, Path)):
        text = local_place(images)
        if "://" in text:
            return is_image_name(text.rpartition("/")[2]) and not _is_wild(text)
        return not Path(text).is_dir() and (Path(text).exists() or not _is_wild(text)) and not text.endswith("/")
    return isinstance(images, Image.Image) or (_is_array(images) and len(_shape(images)) < 4)


def pictures_of(images: Any) -> Iterator[Picture]:
    """The pictures of a place (file, folder, wildcard or URL), an image, an array, or of each of several such, in order.

    Of a folder those with the extension of an image, at any depth, by name. Raises RequestError: no such file, a folder or a
    wildcard without pictures, an array that is no picture.
    """
    for number, picture in enumerate(_each(images)):
        yield picture if picture.name else Picture(f"image {number}", picture.load)


def _each(images: Any) -> Iterator[Picture]:
    if isinstance(images, (str, Path)):
        yield from _at(images)
    elif isinstance(images, Image.Image):
        yield Picture(str(getattr(images, "filename", "")), lambda: rgb_of(images))
    elif _is_array(images):
        yield from _in_array(images)
    elif isinstance(images, Iterable):
        for image in images:
            yield from _each(image)
    else:
        raise RequestError(
            f"predict: a {type(images).__name__} is no picture; expected a path, a PIL image or an array"
        )


def _at(place: str | Path) -> Iterator[Picture]:
    text = local_place(place)
    if "://" in text:
        yield from _at_url(text)
        return
    path = Path(text)
    if path.is_dir():
        yield from _some(_in_folder(path), text)
    elif path.exists() or not _is_wild(text):
        if not path.exists():
            raise RequestError(f"{path}: no such picture")
        yield _file(path)
    else:
        found = sorted(glob.glob(text, recursive=True))  # noqa: PTH207 - a pattern may begin at the root
        yield from _some((picture for each in map(Path, found) for picture in _in_folder_or_file(each)), text)


def _some(pictures: Iterator[Picture], place: str) -> Iterator[Picture]:
    """`pictures`, of which there must be one."""
    first = next(pictures, None)
    if first is None:
        raise RequestError(
            f"{place}: no picture was named, or the folder has none. Expected files ending in {' '.join(sorted(IMAGE_SUFFIXES))}"
        )
    yield first
    yield from pictures


def _in_folder_or_file(path: Path) -> Iterator[Picture]:
    return _in_folder(path) if path.is_dir() else iter((_file(path),))


def _in_folder(folder: Path) -> Iterator[Picture]:
    with os.scandir(folder) as found:
        entries = sorted((entry.name, entry.is_dir(follow_symlinks=False), entry.is_file()) for entry in found)
    for name, is_folder, is_file in entries:
        if is_folder:
            yield from _in_folder(folder / name)
        elif is_file and is_image_name(name):
            yield _file(folder / name)


def _file(path: Path) -> Picture:
    def load() -> Image.Image:
        if path.is_fifo() and path.parts[:2] not in _STREAMS:
            raise Unreadable("a pipe, which may have no end; expected a file")
        try:
            return decode(path.read_bytes())
        except OSError as err:
            raise Unreadable(str(err.strerror)) from err

    return Picture(str(path), load)


def _at_url(url: str) -> Iterator[Picture]:
    if url.startswith(("http://", "https://")) and not _is_wild(url):
        yield Picture(url, lambda: decode(_fetch(url)))
        return
    files, name = open_files(url)

    def picture(path: str, shown: str) -> Picture:
        def load() -> Image.Image:
            try:
                return decode(files.read(path))
            except Unreadable:
                raise
            except DataError as err:
                raise Unreadable(str(err)) from err

        return Picture(shown, load)

    if name:
        yield picture(name, url)
    else:
        found = (path for path, entry in walk(files) if not entry.is_folder and is_image_name(entry.name))
        yield from _some((picture(path, files.show(path)) for path in found), url)


def _fetch(url: str) -> bytes:
    """With the standard library: fsspec would want two more packages for it."""
    try:
        with urlopen(url, timeout=_TIMEOUT) as response:
            data = bytes(response.read(_LARGEST + 1))
    except (OSError, HTTPException, ValueError) as err:
        raise Unreadable(f"cannot be fetched ({err})") from err
    if len(data) > _LARGEST:
        raise Unreadable(f"over {_LARGEST} bytes")
    return data


def _is_wild(text: str) -> bool:
    return any(sign in text for sign in _WILD)


def _is_array(images: Any) -> bool:
    """Whether it is an array of NumPy's, or a tensor, which need not be imported for it."""
    return isinstance(images, np.ndarray) or (hasattr(images, "__array__") and hasattr(images, "shape"))


def _shape(images: Any) -> tuple[int, ...]:
    return tuple(map(int, images.shape))


def _in_array(images: Any) -> Iterator[Picture]:
    shape, kind = _shape(images), str(images.dtype).removeprefix("torch.")
    if kind != "uint8" or 0 in shape or len(shape) not in (2, 3, 4):
        raise RequestError(f"predict: an array of {kind} {list(shape)}; {_EXPECTED}")
    if not isinstance(images, np.ndarray):
        images = np.asarray(images.cpu() if hasattr(images, "cpu") else images)
    if len(shape) > 2 and shape[-1] != 3:
        if shape[-3] != 3:
            raise RequestError(f"predict: an array of {kind} {list(shape)}; {_EXPECTED}")
        images = np.moveaxis(images, -3, -1)
    for pixels in images if len(shape) == 4 else [images]:
        yield Picture("", lambda pixels=pixels: Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB"))  # type: ignore[misc]
