"""The identity of a collection: every key, size and content hash, and the two ids that payloads carry.

Hash: BLAKE3 cut to 16 bytes. It is as fast as the non-cryptographic hashes on images of a hundred kilobytes, and
nobody can make another image with the same hash, which a payload's meaning hangs on (docs/decisions.md).
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3

from plada.errors import DataError
from plada.files import whole_file
from plada.progress import Report, Tracker, silent
from plada.sources.collection import Collection

HASH_BYTES = 16
_FORMAT = b"1"


def content_hash(data: bytes) -> bytes:
    """Hash of one image's stored bytes, 16 bytes."""
    return blake3(data).digest(HASH_BYTES)


def key_id(keys: Any) -> bytes:
    """16-byte hash over all keys in order: each as its length in UTF-8 bytes (uint32 LE) and the bytes themselves.

    `keys` is a pyarrow string array [N]; all lengths come first, then all bytes, so that both are hashed in one go.
    """
    binary = keys.cast(pa.large_binary())
    lengths = pa.compute.binary_length(binary).to_numpy(zero_copy_only=False).astype("<u4")
    first, last = (binary.buffers()[1], binary.buffers()[2])
    offsets = np.frombuffer(first, np.int64, len(binary) + 1, binary.offset * 8)
    hasher = blake3(b"plada key id 1\0")
    hasher.update(np.uint64(len(binary)).astype("<u8").tobytes())
    hasher.update(lengths.tobytes())
    if last is not None:
        hasher.update(memoryview(last)[int(offsets[0]) : int(offsets[-1])])
    return hasher.digest(16)


def content_id(hashes: npt.NDArray[np.uint8]) -> bytes:
    """16-byte hash over all content hashes in order; `hashes` is uint8 [N, 16]."""
    hasher = blake3(b"plada content id 1\0")
    hasher.update(np.ascontiguousarray(hashes).tobytes())
    return hasher.digest(16)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One row an image, in order of position.

    keys: pyarrow string array [N]; sizes: int64 [N] bytes; hashes: uint8 [N, 16].
    """

    keys: Any
    sizes: npt.NDArray[np.int64]
    hashes: npt.NDArray[np.uint8]
    key_id: bytes
    content_id: bytes

    def __len__(self) -> int:
        return len(self.keys)

    def save(self, path: Path) -> None:
        """Write as Parquet, whole or not at all."""
        columns = {
            "position": pa.array(np.arange(len(self), dtype=np.uint32)),
            "key": self.keys,
            "size": pa.array(self.sizes),
            "hash": pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(HASH_BYTES), len(self), [None, pa.py_buffer(np.ascontiguousarray(self.hashes))]
            ),
        }
        table = pa.table(columns).replace_schema_metadata(
            {
                b"plada.manifest": _FORMAT,
                b"key_id": self.key_id.hex().encode(),
                b"content_id": self.content_id.hex().encode(),
            }
        )
        with whole_file(path) as part:
            # Hashes do not compress and dictionaries of unique keys only cost; both are said to Parquet.
            pq.write_table(
                table,
                part,
                compression="zstd",
                use_dictionary=False,
                column_encoding={"key": "DELTA_BYTE_ARRAY"},
            )


def make_manifest(keys: Any, sizes: npt.NDArray[np.int64], hashes: npt.NDArray[np.uint8]) -> Manifest:
    """Put a manifest together and compute its ids; shapes as in Manifest."""
    return Manifest(keys=keys, sizes=sizes, hashes=hashes, key_id=key_id(keys), content_id=content_id(hashes))


def load_manifest(path: Path) -> Manifest:
    """Read a manifest that `Manifest.save` wrote, and check its ids against its rows.

    Raises:
        DataError: not a manifest, of a newer format, or damaged.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as err:
        raise DataError(f"{path}: not a readable manifest ({err}). Delete it; it is made again when needed") from err
    meta = table.schema.metadata or {}
    if meta.get(b"plada.manifest") != _FORMAT:
        raise DataError(f"{path}: not a manifest of format {_FORMAT.decode()}. Delete it; it is made again when needed")
    column = table.column("hash").combine_chunks()
    hashes = np.frombuffer(column.buffers()[1], np.uint8).reshape(-1, HASH_BYTES)[column.offset :][: len(column)]
    manifest = make_manifest(table.column("key").combine_chunks(), table.column("size").to_numpy(), hashes)
    if (manifest.key_id.hex().encode(), manifest.content_id.hex().encode()) != (
        meta[b"key_id"],
        meta[b"content_id"],
    ):
        raise DataError(
            f"{path}: its rows do not have the ids it names; it is damaged. Delete it; it is made again when needed"
        )
    return manifest


def scan_manifest(collection: Collection, *, report: Report = silent, workers: int = 4) -> Manifest:
    """Read and hash every image of a collection once.

    Raises:
        DataError: an image that was listed cannot be read.
    """
    hashes = np.empty((len(collection), HASH_BYTES), np.uint8)
    tracker = Tracker("hash", len(collection), report)

    def one(position: int) -> bytes:
        return content_hash(collection.read(position))

    with ThreadPoolExecutor(workers) as pool:
        for position, digest in enumerate(pool.map(one, range(len(collection)), chunksize=64)):
            hashes[position] = np.frombuffer(digest, np.uint8)
            tracker.advance()
    return make_manifest(collection.keys, collection.sizes, hashes)
