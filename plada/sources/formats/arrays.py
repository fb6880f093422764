"""Images that are published as arrays of pixels. Reading one encodes it as PGM (grey) or PPM (colour)."""

import threading
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from plada.common.arrays import I64, U8
from plada.errors import DataError
from plada.sources.collection import stream_by_position


def netpbm(pixels: U8) -> bytes:
    """Pixels [height, width] as PGM or [height, width, 3] as PPM: the same bytes with every library version."""
    height, width = pixels.shape[:2]
    magic = b"P5" if pixels.ndim == 2 else b"P6"
    return magic + b"\n%d %d\n255\n" % (width, height) + pixels.tobytes()


class Pixels(Protocol):
    """Images of one size. `shape` is [images, height, width] or [images, height, width, 3]."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def read(self, row: int) -> U8:
        """One image, uint8 [height, width] or [height, width, 3]. Raises DataError: the file is gone, shorter than
        listed, or may not be read."""
        ...


@dataclass(frozen=True, slots=True)
class RecordFiles:
    """Files of records of fixed length, in order: `skip` bytes of labels, then one image stored as `stored` (any order
    of axes); `axes` brings it to [height, width, 3]."""

    paths: tuple[Path, ...]
    counts: tuple[int, ...]
    skip: int
    stored: tuple[int, int, int]
    axes: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(self.counts), *(self.stored[axis] for axis in self.axes))

    def read(self, row: int) -> U8:
        ends = np.cumsum(self.counts)
        number = int(np.searchsorted(ends, row, side="right"))
        first = int(ends[number]) - self.counts[number]
        size = int(np.prod(self.stored))
        path = self.paths[number]
        try:
            with path.open("rb") as file:
                file.seek((row - first) * (self.skip + size) + self.skip)
                data = file.read(size)
        except OSError as err:
            raise DataError(f"{path}: listed but cannot be read ({err.strerror}). Restore it") from err
        if len(data) != size:
            raise DataError(
                f"{path}: ends inside image {row - first}; it is shorter than when listed. Restore the file"
            )
        return np.ascontiguousarray(np.frombuffer(data, np.uint8).reshape(self.stored).transpose(self.axes))


def check_there(path: Path) -> None:
    """Refuse a published set of which a file is missing. Raises DataError: it is, or it is a pipe, a folder or a device."""
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: expected a file, found a pipe, a folder or a device. Put the file in its place")
    if not path.is_file():
        raise DataError(f"{path}: missing, but a part of this set as published. Unpack the archive again")


def open_records(
    paths: Sequence[Path], *, skip: int, stored: tuple[int, int, int], axes: tuple[int, int, int]
) -> RecordFiles:
    """Files of whole records. Raises DataError: a file is missing, empty, or not a whole number of records long."""
    record = skip + int(np.prod(stored))
    counts = []
    for path in paths:
        check_there(path)
        count, rest = divmod(path.stat().st_size, record)
        if rest or not count:
            raise DataError(
                f"{path}: {path.stat().st_size} bytes are not a whole number of records of {record} bytes; it is cut or "
                "something else. Unpack the archive again"
            )
        counts.append(count)
    return RecordFiles(tuple(paths), tuple(counts), skip, stored, axes)


@dataclass(frozen=True, slots=True)
class PixelsInMemory:
    """Pixels in memory, uint8 [images, height, width] or [images, height, width, 3]."""

    pixels: U8

    @property
    def shape(self) -> tuple[int, ...]:
        return self.pixels.shape

    def read(self, row: int) -> U8:
        return np.ascontiguousarray(self.pixels[row])


class NpzPixels:
    """One array of an .npz archive, unpacked into memory when first read and kept; a copy sent elsewhere reads anew.

    The archive is compressed as a whole array, so a single image cannot be had for less.
    """

    def __init__(self, path: Path, member: str) -> None:
        self.path, self.member = path, member
        self._header = _header(path, member)
        self._held: U8 | None = None
        self._lock = threading.Lock()

    @property
    def shape(self) -> tuple[int, ...]:
        return self._header

    def read(self, row: int) -> U8:
        with self._lock:
            if self._held is None:
                self._held = load_member(self.path, self.member)
        return np.ascontiguousarray(self._held[row])

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "member": self.member, "_header": self._header}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _held=None, _lock=threading.Lock())


def load_member(path: Path, member: str) -> Any:
    """One array of an .npz archive; nothing pickled is ever read. Raises DataError: no such array, a damaged archive,
    or objects in place of numbers."""
    check_there(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            return archive[member]
    except KeyError as err:
        raise DataError(f"{path}: holds no array '{member}'. Fetch the file again") from err
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as err:
        raise DataError(f"{path}: '{member}' cannot be read ({err}). Fetch the file again") from err


def _header(path: Path, member: str) -> tuple[int, ...]:
    check_there(path)
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{member}.npy") as file:
            version = np.lib.format.read_magic(file)
            read: Any = (
                np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            )
            shape, fortran, dtype = read(file)
    except KeyError as err:
        raise DataError(f"{path}: holds no array '{member}'. Fetch the file again") from err
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as err:
        raise DataError(f"{path}: not a whole .npz archive ({err}). Fetch the file again") from err
    colour = len(shape) == 4 and shape[3] == 3
    if dtype != np.uint8 or fortran or not (len(shape) == 3 or colour):
        raise DataError(
            f"{path}: '{member}' is {dtype} {list(shape)}; expected uint8 [images, height, width] or [..., 3]. "
            "Volumes are not read"
        )
    return tuple(int(side) for side in shape)


@dataclass(frozen=True, slots=True)
class ArrayCollection:
    """Parts of a set, one after another in the order of their names; the key is PART/NUMBER, seven digits."""

    location: str
    names: tuple[str, ...]
    keys: Any
    sizes: I64
    parts: tuple[Pixels, ...]
    starts: I64 = field(repr=False)  # [parts + 1], first position of each part

    def __len__(self) -> int:
        return int(self.starts[-1])

    def read(self, position: int) -> bytes:
        part = int(np.searchsorted(self.starts, position, side="right")) - 1
        return netpbm(self.parts[part].read(int(position - self.starts[part])))

    def stream(self, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
        return stream_by_position(self, start, stop)

    def rows(self, part: str) -> I64:
        """Positions of all images of one part, int64 [n]."""
        number = self.names.index(part)
        return np.arange(self.starts[number], self.starts[number + 1], dtype=np.int64)


def array_collection(location: str, parts: Mapping[str, Pixels]) -> ArrayCollection:
    """A collection of named parts, such as train and test."""
    names = sorted(parts)
    ordered = tuple(parts[name] for name in names)
    counts = [part.shape[0] for part in ordered]
    keys = [f"{name}/{row:07d}" for name, count in zip(names, counts, strict=True) for row in range(count)]
    sizes = [len(netpbm(np.zeros(part.shape[1:], np.uint8))) for part in ordered]
    return ArrayCollection(
        location=location,
        names=tuple(names),
        keys=pa.array(keys, pa.string()),
        sizes=np.repeat(np.asarray(sizes, np.int64), counts),
        parts=ordered,
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
    )
