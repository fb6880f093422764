"""What a collection of images is to everything downstream: keys in canonical order, bytes by position."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from plada.common.arrays import I64
from plada.errors import DataError
from plada.sources.storage import suffix_of

_REQUESTS = 8  # that are under way together where each is answered over a network
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
        """pyarrow string array [N], chunked or not, sorted by UTF-8 bytes, without duplicates."""
        ...

    @property
    def sizes(self) -> I64:
        """Bytes of each stored image, int64 [N]; -1 where only reading tells (parquet, Lance)."""
        ...

    def __len__(self) -> int: ...

    def read(self, position: int) -> bytes:
        """The stored bytes of one image. Raises DataError: the file or shard is gone, shorter than listed, or may not
        be read."""
        ...

    def stream(self, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
        """(position, stored bytes) of the images start..stop-1, each once, in the order that is cheapest to read."""
        ...


@runtime_checkable
class Divisible(Protocol):
    """A collection that many processes can share the work on."""

    def part(self, start: int, stop: int) -> Collection:
        """The images start..stop-1 alone, counted from 0; cheap to send to another process."""
        ...


@dataclass(frozen=True, slots=True)
class CollectionSlice:
    """The images start..stop-1 of a collection that is sent as a whole, counted from 0."""

    whole: Collection
    start: int
    stop: int

    @property
    def location(self) -> str:
        return self.whole.location

    @property
    def keys(self) -> Any:
        return self.whole.keys.slice(self.start, len(self))

    @property
    def sizes(self) -> I64:
        return self.whole.sizes[self.start : self.stop]

    def __len__(self) -> int:
        return self.stop - self.start

    def read(self, position: int) -> bytes:
        return self.whole.read(self.start + position)

    def stream(self, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
        for position, data in self.whole.stream(self.start + start, self.start + stop):
            yield position - self.start, data


def part_of(collection: Collection, start: int, stop: int) -> Collection:
    """The images start..stop-1 of a collection as one of their own, counted from 0."""
    return (
        collection.part(start, stop) if isinstance(collection, Divisible) else CollectionSlice(collection, start, stop)
    )


@runtime_checkable
class Sparse(Protocol):
    """A collection that can be cut down to some of its images."""

    def take(self, positions: I64) -> Collection:
        """The images at `positions` alone, counted from 0 in that order; cheap to send to another process."""
        ...


@runtime_checkable
class Batched(Protocol):
    """A collection that reads several images for less than each alone."""

    def read_many(self, positions: Sequence[int]) -> list[bytes]:
        """The stored bytes of some images, in the order asked for; raises as `read` does."""
        ...


@dataclass(frozen=True, slots=True)
class CollectionRows:
    """Some images of a collection that is sent as a whole, counted from 0."""

    whole: Collection
    positions: I64

    @property
    def location(self) -> str:
        return self.whole.location

    @property
    def keys(self) -> Any:
        return self.whole.keys.take(self.positions)

    @property
    def sizes(self) -> I64:
        return self.whole.sizes[self.positions]

    def __len__(self) -> int:
        return len(self.positions)

    def read(self, position: int) -> bytes:
        return self.whole.read(int(self.positions[position]))

    def stream(self, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
        return stream_by_position(self, start, stop)


def take_from(collection: Collection, positions: I64) -> Collection:
    """The images at `positions` int64 [k] of a collection as one of their own, counted from 0 in that order."""
    return collection.take(positions) if isinstance(collection, Sparse) else CollectionRows(collection, positions)


def read_many(collection: Collection, positions: Sequence[int]) -> list[bytes]:
    """The stored bytes of some images, in the order asked for; requests over a network are made together. Raises as
    `read` does."""
    if isinstance(collection, Batched):
        return collection.read_many(positions)
    if len(positions) > 1 and getattr(getattr(collection, "files", None), "remote", False):
        with ThreadPoolExecutor(min(_REQUESTS, len(positions))) as pool:
            return list(pool.map(collection.read, positions))
    return [collection.read(position) for position in positions]


def stream_by_position(collection: Collection, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
    """`stream` for collections in which any order is as cheap as another."""
    for position in range(start, stop):
        yield position, collection.read(position)


def changed_size(collection: Collection, position: int, found: int) -> DataError:
    """What to say of an image that has other bytes than when it was listed."""
    return DataError(
        f"{collection.location}: {collection.keys[position]} had {collection.sizes[position]} bytes when it was listed and "
        f"has {found} now; the files are changing. Wait until they are whole, and run again"
    )


def first_at_least(keys: Any, key: str, low: int = 0) -> int:
    """The first position from `low` on whose key is not less than `key`; `keys` are sorted pyarrow strings [N]."""
    return bisect_left(range(len(keys)), key, low, key=lambda position: keys[position].as_py())


def key_of(path: str) -> str:
    """The key of an image: its path below the root, `/` between parts, without the file extension."""
    return path[: len(path) - len(suffix_of(path))]


def is_image_name(name: str) -> bool:
    """Whether a file name looks like an image that counts: known extension, not hidden."""
    return not name.startswith(".") and suffix_of(name).lower() in IMAGE_SUFFIXES
