"""Fingerprints: 64 bytes an image by which near copies are found.

A fingerprint is the image's luma, reduced to 8 x 8 whatever its shape. Re-encoding and resizing hardly change it, mirroring
permutes it, and a crop of a tenth moves it by less than a cell, so that the crop of a fingerprint can be compared with the
cells it covers (plada/sources/leaks/matching.py). It is computed in integers: the same bytes on every machine.
"""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from blake3 import blake3
from PIL import Image

from plada.common.arrays import I64, U8, Bools
from plada.common.checksums import append_digest, ends_with_digest
from plada.common.files import one_writer
from plada.common.progress import Report, Tracker, silent
from plada.errors import DataError, Interrupted, Unreadable
from plada.sources.collection import Collection
from plada.sources.decode import decode
from plada.sources.manifest import HASH_BYTES, content_hash

FINGERPRINT_SIDE = 8
FINGERPRINT_BYTES = FINGERPRINT_SIDE * FINGERPRINT_SIDE
_TASK = 64  # images of one task of a thread
_CHUNK = 65_536  # images whose fingerprints are written together: what an interruption can cost


def fingerprint(image: Image.Image) -> U8:
    """The fingerprint of a decoded RGB image, uint8 [FINGERPRINT_BYTES]: luma of 8 x 8 cells, row by row."""
    # PIL's box filter takes whole pixels only, which is far off where a cell is no whole number of them; Hamming is
    # nearly as sharp. Reducing to 32 pixels by whole factors first costs a quarter and changes next to nothing.
    cells = image.resize((FINGERPRINT_SIDE, FINGERPRINT_SIDE), Image.Resampling.HAMMING, reducing_gap=4.0)
    return np.frombuffer(cells.convert("L").tobytes(), np.uint8)


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """Some images: positions int64 [n], content hashes uint8 [n, 16], fingerprints uint8 [n, FINGERPRINT_BYTES].

    The fingerprint of an image that cannot be decoded is black: it has no contrast and resembles nothing.
    """

    positions: I64
    hashes: U8
    fingerprints: U8


def scan_fingerprints(
    collection: Collection, positions: Iterable[int], *, stage: str = "looks", report: Report = silent, workers: int = 4
) -> tuple[Fingerprints, Bools]:
    """Read, hash and decode some images with threads: their fingerprints in the order asked for, and readable bool [n].

    The hash of an image whose bytes cannot be had is zero.
    """
    wanted = np.fromiter(positions, np.int64)
    found = Fingerprints(
        wanted, np.zeros((len(wanted), HASH_BYTES), np.uint8), np.zeros((len(wanted), FINGERPRINT_BYTES), np.uint8)
    )
    readable = np.zeros(len(wanted), np.bool_)
    tracker = Tracker(stage, len(wanted), report)

    def task(start: int) -> int:
        rows = range(start, min(start + _TASK, len(wanted)))
        for row in rows:
            try:
                data = collection.read(int(wanted[row]))
                found.hashes[row] = np.frombuffer(content_hash(data), np.uint8)
                found.fingerprints[row] = fingerprint(decode(data))
                readable[row] = True
            except (Unreadable, DataError):
                continue
        return len(rows)

    with ThreadPoolExecutor(workers) as pool:
        for done in pool.map(task, range(0, len(wanted), _TASK)):
            tracker.advance(done)
    return found, readable


def collection_fingerprints(
    collection: Collection, path: Path, *, report: Report = silent, workers: int | None = None, chunk: int = _CHUNK
) -> U8:
    """The fingerprints of a whole collection, uint8 [N, FINGERPRINT_BYTES], mapped from `path`, which is written first if
    it is not there.

    `path` must name the content of the collection; its last 32 bytes are a checksum, which is compared. A run that was stopped
    resumes behind the last chunk that is whole and has its digest.

    Raises:
        Interrupted: Ctrl-C; the same call goes on.
    """
    images = len(collection)
    if not ends_with_digest(path, images * FINGERPRINT_BYTES):
        with one_writer(path) as made_meanwhile:
            if not made_meanwhile:
                if path.exists():
                    words = f"{path}: its checksum is wrong; the fingerprints are made again"
                    Tracker("looks", images, report).say(words)
                _write_fingerprints(collection, path, report, workers or min(os.cpu_count() or 1, 8), chunk)
    return np.memmap(path, np.uint8, "r", shape=(images, FINGERPRINT_BYTES))


def _write_fingerprints(collection: Collection, path: Path, report: Report, workers: int, chunk: int) -> None:
    images = len(collection)
    part, sums = (path.with_name(f"{path.name}.{name}") for name in ("part", "part-sums"))
    path.parent.mkdir(parents=True, exist_ok=True)
    digests = _whole_chunks(part, sums, chunk * FINGERPRINT_BYTES)
    done = len(digests) * chunk
    tracker = Tracker("looks", images, report)
    tracker.advance(done)
    with ThreadPoolExecutor(workers) as pool, part.open("r+b" if part.exists() else "wb") as file:
        file.truncate(done * FINGERPRINT_BYTES)
        file.seek(done * FINGERPRINT_BYTES)
        try:
            for start in range(done, images, chunk):
                stop = min(start + chunk, images)
                tasks = ((first, min(first + _TASK, stop)) for first in range(start, stop, _TASK))
                parts = []
                for fingerprints in pool.map(lambda task: _fingerprints_of(collection, *task), tasks):
                    parts.append(fingerprints.tobytes())
                    tracker.advance(len(fingerprints))
                data = b"".join(parts)
                file.write(data)
                file.flush()
                digests.append(blake3(data).digest())
                sums.write_bytes(b"".join(digests))
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise Interrupted(
                f"{collection.location}: stopped with the fingerprints of {tracker.done} of {images} images",
                resume="the same command",
            ) from None
    append_digest(part)
    with part.open("rb+") as written:
        os.fsync(written.fileno())
    part.replace(path)
    sums.unlink(missing_ok=True)


def _whole_chunks(part: Path, sums: Path, size: int) -> list[bytes]:
    """Digests of the chunks, of `size` bytes each, at the beginning of an unfinished file that are as they were written."""
    kept: list[bytes] = []
    if not part.exists() or not sums.exists():
        return kept
    wanted = sums.read_bytes()
    with part.open("rb") as file:
        while len(data := file.read(size)) == size:
            digest = blake3(data).digest()
            if wanted[len(kept) * len(digest) :][: len(digest)] != digest:
                break
            kept.append(digest)
    return kept


def _fingerprints_of(collection: Collection, start: int, stop: int) -> U8:
    fingerprints = np.zeros((stop - start, FINGERPRINT_BYTES), np.uint8)
    for position, data in _stream(collection, start, stop):
        try:
            fingerprints[position - start] = fingerprint(decode(data))
        except Unreadable:
            continue
    return fingerprints


def _stream(collection: Collection, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
    """The images of a range; one that cannot be read is left out and does not take the others with it."""
    try:
        yield from collection.stream(start, stop)
        return
    except DataError:
        pass
    for position in range(start, stop):
        try:
            yield position, collection.read(position)
        except DataError:
            continue
