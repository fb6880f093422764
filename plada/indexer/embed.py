"""From a stretch of a collection to rows: each image is read once, hashed, decoded and embedded.

The same function does it in this process, in worker processes and on a cluster, in batches that begin at the same
positions: the rows are the same wherever they were made, and whichever way the images are stored.
"""

import time
from dataclasses import dataclass, field, fields

import numpy as np
import numpy.typing as npt

from plada.common.failures import out_of_memory
from plada.encoders.encoder import Encoder
from plada.errors import DataError, ResourceError, Unreadable
from plada.sources.collection import Collection, changed_size
from plada.sources.decode import View, decode
from plada.sources.leaks.fingerprints import FINGERPRINT_BYTES, fingerprint
from plada.sources.manifest import HASH_BYTES, content_hash

_LARGEST_HALF = 65504.0


@dataclass(frozen=True, slots=True)
class Task:
    """Images `start`, `start` + 1, ... of the reference. `images` holds these alone: its position 0 is `start`.

    `known` are the content hashes that are expected where an image was embedded before, uint8 [n, 16], zero where not:
    an image that still has its hash is not decoded again.
    """

    start: int
    images: Collection
    known: npt.NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True)
class Rows:
    """Consecutive images from position `start`: vectors float16 [n, d] (zeros where `status` is not empty), hashes
    uint8 [n, 16], sizes int64 [n], width and height int32 [n] (0 where unknown), fingerprints uint8 [n, FINGERPRINT_BYTES] (zeros where
    unreadable), status: why an image is unreadable."""

    start: int
    vectors: npt.NDArray[np.float16]
    hashes: npt.NDArray[np.uint8]
    sizes: npt.NDArray[np.int64]
    width: npt.NDArray[np.int32]
    height: npt.NDArray[np.int32]
    fingerprints: npt.NDArray[np.uint8]
    status: list[str]

    def __len__(self) -> int:
        return len(self.status)

    def put(self, other: "Rows") -> None:
        """Copy the rows of a part to their place in this whole."""
        first, last = other.start - self.start, other.start - self.start + len(other)
        for column in fields(Rows):
            if column.name != "start":
                getattr(self, column.name)[first:last] = getattr(other, column.name)


def empty_rows(start: int, images: int, dimension: int) -> Rows:
    """Rows of `images` images with nothing in them yet."""
    return Rows(
        start,
        np.zeros((images, dimension), np.float16),
        np.zeros((images, HASH_BYTES), np.uint8),
        np.zeros(images, np.int64),
        np.zeros(images, np.int32),
        np.zeros(images, np.int32),
        np.zeros((images, FINGERPRINT_BYTES), np.uint8),
        [""] * images,
    )


@dataclass(slots=True)
class Made:
    """What became of a task. `kept` bool [n]: images that are as they were known, their vectors left to whoever knew them.

    `began`: when work on it began, by time.monotonic; `spent`: seconds of one process by stage (read, decode, encode);
    `batch_size`: images that the device took at a time (0: none were encoded); `note`: what the user should hear of.
    """

    rows: Rows
    kept: npt.NDArray[np.bool_]
    began: float
    spent: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("read", "decode", "encode"), 0.0))
    batch_size: int = 0
    note: str = ""


@dataclass(slots=True)
class Prepared:
    """A task before the encoder: `pixels` uint8 [m, size, size, 3] of the images at `places` int64 [m] of its rows."""

    made: Made
    places: npt.NDArray[np.int64]
    pixels: npt.NDArray[np.uint8]


def prepare(task: Task, view: View, dimension: int, pixels: npt.NDArray[np.uint8] | None = None) -> Prepared:
    """Read, hash and decode the images of a task; into `pixels` uint8 [>= n, size, size, 3], if given.

    Raises:
        DataError: an image vanished or changed since it was listed.
    """
    images, n = task.images, len(task.images)
    began = time.monotonic()
    rows, kept = empty_rows(task.start, n, dimension), np.zeros(n, np.bool_)
    made = Made(rows, kept, began)
    if pixels is None:
        pixels = np.empty((n, view.size, view.size, 3), np.uint8)
    readable = np.zeros(n, np.bool_)
    listed, stream, spent = images.sizes, iter(images.stream(0, n)), made.spent
    while True:
        before = time.perf_counter()
        entry = next(stream, None)
        arrived = time.perf_counter()
        spent["read"] += arrived - before
        if entry is None:
            break
        row, data = entry
        rows.hashes[row] = np.frombuffer(content_hash(data), np.uint8)
        rows.sizes[row] = len(data)
        if 0 <= listed[row] != len(data):
            raise changed_size(images, row, len(data))
        if task.known is not None and np.array_equal(task.known[row], rows.hashes[row]):
            kept[row] = True
        else:
            try:
                image = decode(data)
                pixels[row], rows.fingerprints[row] = view.of(image), fingerprint(image)
                rows.width[row], rows.height[row] = image.size
                readable[row] = True
            except Unreadable as err:
                rows.status[row] = str(err)
        spent["decode"] += time.perf_counter() - arrived
    places = np.flatnonzero(readable)
    # In order of position, so that what is in a batch does not depend on the order in which a form is read.
    return Prepared(made, places, pixels[:n] if len(places) == n else pixels[places])


def encode_prepared(prepared: Prepared, encoder: Encoder, batch_size: int) -> Made:
    """Embed what was prepared, `batch_size` images at a time, or fewer where the device has no memory for as many.

    Raises:
        DataError: the encoder gave something that is not finite. ResourceError: not even one image fits.
    """
    made, at = prepared.made, 0
    start = time.perf_counter()
    while at < len(prepared.places):
        batch = prepared.pixels[at : at + batch_size]
        try:
            vectors = encoder.encode(batch)
        except RuntimeError as err:
            if not out_of_memory(err):
                raise
            if len(batch) == 1:
                raise ResourceError(
                    f"encoder {encoder.config.name}: out of memory with a single image. Free the device, or --device cpu"
                ) from err
            batch_size = max(1, len(batch) // 2)
            made.note = f"the device is out of memory: batches of {batch_size} images from here on"
            continue
        made.rows.vectors[prepared.places[at : at + len(batch)]] = to_half(vectors, encoder.config.name)
        at += len(batch)
    made.batch_size = batch_size
    made.spent["encode"] += time.perf_counter() - start
    return made


def embed(task: Task, encoder: Encoder, batch_size: int) -> Made:
    """All of a task, here and now; raises what `prepare` and `encode_prepared` raise."""
    return encode_prepared(prepare(task, encoder.view, encoder.config.dimension), encoder, batch_size)


def to_half(vectors: npt.NDArray[np.float32], name: str) -> npt.NDArray[np.float16]:
    """float16 of unit vectors, refusing what the store would keep but never find.

    Raises:
        DataError: NaN, infinity, zero or a length that is not one.
    """
    lengths = np.linalg.norm(vectors.astype(np.float32), axis=1)
    if (
        not np.isfinite(vectors).all()
        or np.abs(vectors).max(initial=0) > _LARGEST_HALF
        or (abs(lengths - 1) > 0.01).any()
    ):
        raise DataError(f"encoder {name}: gave an embedding that is not finite or not of length one. Check its weights")
    return vectors.astype(np.float16)
