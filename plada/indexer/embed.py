"""From a collection to rows: each image is read once, hashed, decoded and embedded."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plada.errors import DataError, Unreadable
from plada.indexer.encoders import Encoder
from plada.progress import Tracker
from plada.sources.collection import Collection
from plada.sources.decode import decode
from plada.sources.manifest import HASH_BYTES, content_hash

_LARGEST_HALF = 65504.0


@dataclass(frozen=True, slots=True)
class Rows:
    """Consecutive images from position `start`: vectors float16 [n, d] (zeros where `status` is not empty), hashes
    uint8 [n, 16], sizes int64 [n], width and height int32 [n] (0 where unknown), status: why an image is unreadable."""

    start: int
    vectors: npt.NDArray[np.float16]
    hashes: npt.NDArray[np.uint8]
    sizes: npt.NDArray[np.int64]
    width: npt.NDArray[np.int32]
    height: npt.NDArray[np.int32]
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
        [""] * n,
    )

    def prepare(row: int) -> npt.NDArray[np.uint8] | None:
        data = collection.read(start + row)
        rows.hashes[row] = np.frombuffer(content_hash(data), np.uint8)
        rows.sizes[row] = len(data)
        try:
            image = decode(data)
        except Unreadable as err:
            rows.status[row] = str(err)
            return None
        rows.width[row], rows.height[row] = image.size
        return encoder.view.of(image)

    with ThreadPoolExecutor(workers) as pool:
        for first, images in _ahead(pool, prepare, n, batch_size):
            readable = [(first + place, pixels) for place, pixels in enumerate(images) if pixels is not None]
            if readable:
                batch = np.stack([pixels for _, pixels in readable])
                rows.vectors[[row for row, _ in readable]] = to_half(encoder.encode(batch), encoder.config.name)
            tracker.advance(len(images))
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


def _ahead(
    pool: ThreadPoolExecutor,
    prepare: Callable[[int], npt.NDArray[np.uint8] | None],
    n: int,
    batch_size: int,
) -> Iterator[tuple[int, list[npt.NDArray[np.uint8] | None]]]:
    """(first row, prepared images) batch by batch, two batches ahead of the consumer."""
    starts = range(0, n, batch_size)
    pending = [[pool.submit(prepare, row) for row in range(s, min(s + batch_size, n))] for s in starts[:2]]
    for number, first in enumerate(starts):
        if number + 2 < len(starts):
            later = starts[number + 2]
            pending.append([pool.submit(prepare, row) for row in range(later, min(later + batch_size, n))])
        futures = pending.pop(0)
        yield first, [future.result() for future in futures]
