"""The manifest of a collection: every image is read and hashed once, in parallel, and finished chunks are kept."""

import os
import shutil
from array import array
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from plada.common.files import one_writer, whole_file
from plada.common.progress import Report, Tracker, silent
from plada.errors import Interrupted
from plada.sources.collection import Collection, changed_size
from plada.sources.formats.folder import FolderCollection
from plada.sources.image_header import size_from_header
from plada.sources.manifest import (
    HASH_BYTES,
    Block,
    Manifest,
    ManifestWriter,
    binary_column,
    binary_rows,
    content_hash,
    key_id,
    load_manifest,
)
from plada.sources.parquet_files import PARQUET_ERRORS

CHUNK = 65_536  # images whose hashes are kept together: what an interruption can cost at most
_TASK, _TASK_BYTES = 2048, 8 << 20  # images of one task of a thread at most, and about how many bytes
_SMALL = 16_384  # bytes of a mean image


def scan_manifest(
    collection: Collection, path: Path, *, report: Report = silent, workers: int | None = None, chunk: int = CHUNK
) -> Manifest:
    """Read and hash every image of a collection, and write its manifest to `path`.

    Chunks that are done lie beside it until it is whole; a run that was stopped resumes behind them. Images are not
    decoded: their status is unknown, width and height are what the header says. `workers` threads read and hash; by
    default as many as there are processors, or one where images are small and lie in shards.

    Raises:
        DataError: an image that was listed cannot be read, or is not of the size that was listed.
        Interrupted: Ctrl-C; the same call resumes.
    """
    with one_writer(path) as made_meanwhile:
        return load_manifest(path) if made_meanwhile else _scan_all(collection, path, report, workers, chunk)


def _scan_all(collection: Collection, path: Path, report: Report, workers: int | None, chunk: int) -> Manifest:
    images, keys = len(collection), key_id(collection.keys)
    done = path.parent / f"{path.stem}-{keys.hex()[:16]}.part"
    tracker = Tracker("hash", images, report)
    if workers is None:
        # Small images out of one file are hashed faster than threads can hand them to each other.
        small = 0 <= float(np.mean(collection.sizes[:CHUNK])) < _SMALL and not isinstance(collection, FolderCollection)
        workers = 1 if small else min(os.cpu_count() or 1, 8)
    starts = range(0, images, chunk)
    try:
        with ThreadPoolExecutor(workers) as pool, ManifestWriter(path) as writer:
            for start in starts:
                stop = min(start + chunk, images)
                block = _load_chunk(done / f"{start}-{stop}.parquet", stop - start)
                if block is None:
                    block = _scan(collection, start, stop, pool, tracker)
                    if len(starts) > 1:
                        _save_chunk(done / f"{start}-{stop}.parquet", block)
                else:
                    tracker.advance(stop - start)
                writer.write(replace(block, keys=collection.keys[start:stop]))
            writer.finish(keys)
    except KeyboardInterrupt:
        raise Interrupted(
            f"{collection.location}: stopped with {tracker.done} of {images} images hashed and kept",
            resume="the same command",
        ) from None
    shutil.rmtree(done, ignore_errors=True)
    return load_manifest(path)


def _scan(collection: Collection, start: int, stop: int, pool: ThreadPoolExecutor, tracker: Tracker) -> Block:
    n = stop - start
    sizes, width, height = np.zeros(n, np.int64), np.zeros(n, np.int32), np.zeros(n, np.int32)
    hashes = np.zeros((n, HASH_BYTES), np.uint8)
    known = np.asarray(collection.sizes[start:stop])
    step = int(np.clip(_TASK_BYTES / max(float(known.mean()), 1.0), 16, _TASK))

    def task(first: int) -> int:
        last = min(first + step, stop)
        rows, digests, lengths, shapes = array("q"), [], array("q"), array("i")
        for position, data in collection.stream(first, last):
            rows.append(position)
            digests.append(content_hash(data))
            lengths.append(len(data))
            shapes.extend(size_from_header(data))
        into = np.frombuffer(rows, np.int64) - start
        hashes[into] = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, HASH_BYTES)
        sizes[into] = np.frombuffer(lengths, np.int64)
        width[into], height[into] = np.frombuffer(shapes, np.int32).reshape(-1, 2).T
        return last - first

    for count in pool.map(task, range(start, stop, step)):
        tracker.advance(count)
    wrong = np.flatnonzero((known >= 0) & (known != sizes))
    if len(wrong):
        row = int(wrong[0])
        raise changed_size(collection, start + row, int(sizes[row]))
    return Block(collection.keys[start:stop], sizes, hashes, width, height, [None] * n)


def _save_chunk(path: Path, block: Block) -> None:
    columns: dict[str, Any] = {
        "size": block.sizes,
        "hash": binary_column(block.hashes),
        "width": block.width,
        "height": block.height,
    }
    with whole_file(path) as part:
        pq.write_table(pa.table(columns), part, compression="none", write_page_checksum=True)


def _load_chunk(path: Path, rows: int) -> Block | None:
    if not path.exists():
        return None
    try:
        table = pq.read_table(path, page_checksum_verification=True)
    except PARQUET_ERRORS:
        return None  # it is made again
    if table.num_rows != rows:
        return None
    hashes = binary_rows(table["hash"])
    size, width, height = (table[name].to_numpy() for name in ("size", "width", "height"))
    return Block(pa.array([], pa.string()), size, hashes, width, height, [None] * rows)
