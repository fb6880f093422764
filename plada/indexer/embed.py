"""From a collection to rows: each image is read once, hashed, decoded and embedded."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from plada.errors import DataError, Unreadable
from plada.indexer.encoders import Encoder
from plada.progress import Tracker
from plada.sources.collection import Collection, changed_size
from plada.sources.decode import decode
from plada.sources.looks import LOOK_BYTES, look
from plada.sources.manifest import HASH_BYTES, content_hash

_LARGEST_HALF = 65504.0


@dataclass(frozen=True, slots=True)
class Rows:
    """Consecutive images from position `start`: vectors float16 [n, d] (zeros where `status` is not empty), hashes
    uint8 [n, 16], sizes int64 [n], width and height int32 [n] (0 where unknown), looks uint8 [n, LOOK_BYTES] (zeros where
    unreadable), status: why an image is unreadable."""

    start: int
    vectors: npt.NDArray[np.float16]
    hashes: npt.NDArray[np.uint8]
    sizes: npt.NDArray[np.int64]
    width: npt.NDArray[np.int32]
    height: npt.NDArray[np.int32]
    looks: npt.NDArray[np.uint8]
    status: list[str]


def embed_rows(
    collection: Collection, encoder: Encoder, start: int, stop: int, *, batch_size: int, workers: int, tracker: Tracker
) -> Rows:
    """Rows of positions start..stop-1. Threads read and decode the next batches while one is encoded.

    Raises:
        DataError: the encoder gave something that is not finite, or an image vanished since it was listed.
    """
    n = stop - start
    rows = Rows(
        start,
        np.zeros((n, encoder.config.dimension), np.float16),
        np.zeros((n, HASH_BYTES), np.uint8),
        np.zeros(n, np.int64),
        np.zeros(n, np.int32),
        np.zeros(n, np.int32),
        np.zeros((n, LOOK_BYTES), np.uint8),
        [""] * n,
    )

    listed = collection.sizes[start:stop]

    def prepare(row: int, data: bytes) -> npt.NDArray[np.uint8] | None:
        rows.hashes[row] = np.frombuffer(content_hash(data), np.uint8)
        rows.sizes[row] = len(data)
        if 0 <= listed[row] != len(data):
            raise changed_size(collection, start + row, len(data))
        try:
            image = decode(data)
        except Unreadable as err:
            rows.status[row] = str(err)
            return None
        rows.width[row], rows.height[row] = image.size
        rows.looks[row] = look(image)
        return encoder.view.of(image)

    stream = ((position - start, data) for position, data in collection.stream(start, stop))
    for batch in _ahead(stream, prepare, workers=workers, batch_size=batch_size):
        readable = [(row, pixels) for row, pixels in batch if pixels is not None]
        if readable:
            images = np.stack([pixels for _, pixels in readable])
            rows.vectors[[row for row, _ in readable]] = to_half(encoder.encode(images), encoder.config.name)
        tracker.advance(len(batch))
    return rows


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


Prepared = tuple[int, npt.NDArray[np.uint8] | None]


def _ahead(
    stream: Iterator[tuple[int, bytes]],
    prepare: Callable[[int, bytes], npt.NDArray[np.uint8] | None],
    *,
    workers: int,
    batch_size: int,
) -> Iterator[list[Prepared]]:
    """Prepared images batch by batch. One thread reads, others decode, two batches ahead of the consumer."""
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(workers) as pool:

        def read() -> list[Future[Prepared]]:
            return [pool.submit(lambda at: (at[0], prepare(*at)), at) for at in islice(stream, batch_size)]

        waiting = deque(reader.submit(read) for _ in range(3))
        while batch := waiting.popleft().result():
            waiting.append(reader.submit(read))
            yield [future.result() for future in batch]
