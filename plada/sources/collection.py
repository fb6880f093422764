"""What a collection of images is to everything downstream: keys in canonical order, bytes by position."""

import itertools
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from plada.errors import DataError

IMAGE_SUFFIXES = frozenset([".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"])


class Collection(Protocol):
    """Images in canonical order: position = rank of the key among all keys sorted by their UTF-8 bytes.

    Implementations hold plain data only, so that they can be sent to worker processes.
    """

    @property
    def location(self) -> str:
        """The path or name that opens this collection again."""
        ...

    @property
    def keys(self) -> Any:
        """pyarrow string array [N], sorted by UTF-8 bytes, without duplicates."""
        ...

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Bytes of each stored image, int64 [N]."""
        ...

    def __len__(self) -> int: ...

    def read(self, position: int) -> bytes:
        """The stored bytes of one image.

        Raises:
            DataError: the file or shard is gone, shorter than listed, or may not be read.
        """
        ...


def key_of(path: str) -> str:
    """The key of an image: its path below the root, `/` between parts, without the file extension."""
    pure = PurePosixPath(path)
    return str(pure.with_suffix("")) if pure.suffix else str(pure)


def is_image_name(name: str) -> bool:
    """Whether a file name looks like an image that counts: known extension, not hidden."""
    return not name.startswith(".") and PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def canonical_order(keys: list[str], places: Iterable[str], location: str) -> list[int]:
    """Indices that sort `keys` by their UTF-8 bytes.

    Code points and UTF-8 bytes sort alike, so Python's own order serves. `places` says where each key was found,
    for the message.

    Raises:
        DataError: no image at all, a key twice, or a name that is not UTF-8.
    """
    if not keys:
        raise DataError(
            f"{location}: no image found. Expected files ending in {' '.join(sorted(IMAGE_SUFFIXES))}, or tar files of such"
        )
    for key in keys:
        try:
            key.encode()
        except UnicodeEncodeError:
            raise DataError(
                f"{location}: the name {key!r} is not UTF-8. Rename it: keys must read alike everywhere"
            ) from None
    order = sorted(range(len(keys)), key=keys.__getitem__)
    for a, b in itertools.pairwise(order):
        if keys[a] == keys[b]:
            where = list(places)
            raise DataError(
                f"{location}: {where[a]} and {where[b]} have the same key '{keys[a]}' (a key leaves the file "
                "extension out). Remove or rename one of them"
            )
    return order
