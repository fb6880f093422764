"""From a range of a collection to rows: each image is read once, hashed, decoded and embedded.

The same function does it in this process, in worker processes and on a cluster, in batches that begin at the same
positions. So the rows do not depend on where they were made, nor on the form in which the images are stored.
"""

import time
from dataclasses import dataclass, field, fields

import numpy as np

from plada.common.arrays import F16, F32, I32, I64, U8, Bools
from plada.common.failures import out_of_memory
from plada.encoders.encoder import Encoder
from plada.errors import DataError, ResourceError, Unreadable
from plada.networks.device import in_parts
from plada.sources.collection import Collection, changed_size
from plada.sources.decode import REMARK, View, decode
from plada.sources.leaks.fingerprints import FINGERPRINT_BYTES, fingerprint
from plada.sources.manifest import HASH_BYTES, content_hash

STAGES = ("read", "decode", "encode")
_LARGEST_HALF = 65504.0


@dataclass(frozen=True, slots=True)
class Task:
    """Images `start`, `start` + 1, ... of the reference. `images` holds these alone: its position 0 is `start`.

    `known` are the content hashes that are expected where an image was embedded before, uint8 [n, 16], zero where not:
    an image that still has its hash is not decoded again.
    """

    start: int
    images: Collection
    known: U8 | None = None


@dataclass(frozen=True, slots=True)
class EmbeddedRows:
    """Consecutive images from position `start`: vectors float16 [n, d] (zeros where `status` is not empty), hashes
    uint8 [n, 16], sizes int64 [n], width and height int32 [n] (0 where unknown), fingerprints uint8 [n, 64] (zeros where
    unreadable), status: why an image is unreadable."""

    start: int
    vectors: F16
    hashes: U8
    sizes: I64
    width: I32
    height: I32
    fingerprints: U8
    status: list[str]

    def __len__(self) -> int:
        return len(self.status)

    def put(self, other: "EmbeddedRows") -> None:
        """Copy the rows of a part to their place in this whole."""
        first, last = other.start - self.start, other.start - self.start + len(other)
        for column in fields(EmbeddedRows):
            if column.name != "start":
                getattr(self, column.name)[first:last] = getattr(other, column.name)


def empty_rows(start: int, images: int, dimension: int) -> EmbeddedRows:
    """Rows of `images` images with nothing in them yet."""
    return EmbeddedRows(
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
class TaskResult:
    """The rows of a task. `kept` bool [n]: images that still have the hash that was expected; their vectors are not set.

    `began`: when work on it began, by time.monotonic; `spent`: seconds of one process by stage (read, decode, encode);
    `batch_size`: images that the device took at a time (0: none were encoded); `note`: what the user should hear of;
    `remarks`: keys of images, and what a person should know of them.
    """

    rows: EmbeddedRows
    kept: Bools
    began: float
    spent: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    batch_size: int = 0
    note: str = ""
    remarks: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class PreparedTask:
    """A task before the encoder: `pixels` uint8 [m, size, size, 3] of the images at `places` int64 [m] of its rows."""

    result: TaskResult
    places: I64
    pixels: U8


def prepare(task: Task, view: View, dimension: int, pixels: U8 | None = None) -> PreparedTask:
    """Read, hash and decode the images of a task; into `pixels` uint8 [>= n, size, size, 3], if given.

    Raises:
        DataError: an image vanished or changed since it was listed.
    """
    images, n = task.images, len(task.images)
    began = time.monotonic()
    rows, kept = empty_rows(task.start, n, dimension), np.zeros(n, np.bool_)
    result = TaskResult(rows, kept, began)
    if pixels is None:
        pixels = np.empty((n, view.size, view.size, 3), np.uint8)
    readable = np.zeros(n, np.bool_)
    listed, stream, spent = images.sizes, iter(images.stream(0, n)), result.spent
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
                if remark := image.info.get(REMARK):
                    result.remarks.append((str(images.keys[row]), remark))
            except Unreadable as err:
                rows.status[row] = str(err)
        spent["decode"] += time.perf_counter() - arrived
    places = np.flatnonzero(readable)
    # In order of position, so that what is in a batch does not depend on the order in which a form is read.
    return PreparedTask(result, places, pixels[:n] if len(places) == n else pixels[places])


def encode_prepared(prepared: PreparedTask, encoder: Encoder, batch_size: int) -> TaskResult:
    """Embed what was prepared, `batch_size` images at a time, or fewer where the device has no memory for as many.

    Raises:
        DataError: the encoder gave something that is not finite. ResourceError: not even one image fits.
    """
    result, images, whole = prepared.result, len(prepared.places), batch_size
    start = time.perf_counter()
    parts = in_parts(images, whole, lambda some: encoder.encode(prepared.pixels[some]), encoder.where)
    try:
        for some, batch_size, vectors in parts:  # noqa: B007 - the last one counts
            result.rows.vectors[prepared.places[some]] = to_half(vectors, encoder.config.name)
    except (RuntimeError, MemoryError) as err:
        if not out_of_memory(err):
            raise
        raise ResourceError(
            f"encoder {encoder.config.name}: out of memory with a single image. Free the device, or --device cpu"
        ) from err
    if batch_size < whole:
        result.note = f"the device is out of memory: batches of {batch_size} images from here on"
    result.batch_size = batch_size
    result.spent["encode"] += time.perf_counter() - start
    return result


def embed(task: Task, encoder: Encoder, batch_size: int) -> TaskResult:
    """All of a task, here and now; raises what `prepare` and `encode_prepared` raise."""
    return encode_prepared(prepare(task, encoder.view, encoder.config.dimension), encoder, batch_size)


def to_half(vectors: F32, name: str) -> F16:
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
