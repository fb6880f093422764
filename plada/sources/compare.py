"""A collection compared with a manifest, image by image, and the first difference."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from plada.common.arrays import I64
from plada.common.progress import Report, Tracker, silent
from plada.errors import DataError
from plada.sources.collection import Collection, first_at_least
from plada.sources.manifest import Manifest, content_hash
from plada.sources.unreadable import UnreadableTally

SAMPLE = 1000  # images hashed by a quick check
_TASK = 2048


@dataclass(slots=True)
class Differences:
    """How a collection differs from a manifest, in numbers of images: `missing` here, `added` here, of another size, of other
    bytes (in those `hashed`; an image of another size counts as such only), `gone`: listed but unreadable."""

    missing: int = 0
    added: int = 0
    other_size: int = 0
    other_bytes: int = 0
    gone: int = 0
    hashed: int = 0
    first: str | None = None
    unreadable: UnreadableTally = field(default_factory=UnreadableTally, repr=False)  # why those that are gone are
    _first_key: str | None = field(default=None, repr=False)

    def __bool__(self) -> bool:
        return bool(self.missing or self.added or self.other_size or self.other_bytes or self.gone)

    def note(self, key: str, what: str) -> None:
        """Remember what is different at `key` if no smaller key differs."""
        if self._first_key is None or key < self._first_key:
            self._first_key, self.first = key, f"{key}: {what}"


def compare(
    collection: Collection,
    manifest: Manifest,
    *,
    sample: int | None,
    seed: int = 0,
    report: Report = silent,
    workers: int = 8,
) -> Differences:
    """Compare keys and sizes of all images, and the hashes of a seeded `sample` of them, or of all where it is None.

    Memory does not grow with the number of images. A quick check reads no image but the sample.
    """
    found = Differences()
    n = len(manifest)
    picks = None if sample is None else sample_positions(n, sample, seed)
    tracker = Tracker("verify", n if picks is None else len(picks), report)
    keys = collection.keys
    at, seen = 0, 0
    with ThreadPoolExecutor(workers) as pool:
        for table in manifest.blocks(["position", "key", "size", "hash"]):
            theirs = table.column("key").combine_chunks()
            low = first_at_least(keys, theirs[0].as_py(), seen)
            high = first_at_least(keys, theirs[len(theirs) - 1].as_py() + "\0", low)
            _added(found, keys, range(seen, low))
            pairs = _match(found, keys, low, high, theirs)
            seen = high
            rows = table.append_column("place", pa.array(pairs))
            _check_sizes(found, collection, rows)
            known = rows.filter(pc.greater_equal(rows.column("place"), 0))
            if picks is None:
                tasks = [known.slice(first, _TASK) for first in range(0, known.num_rows, _TASK)]
                results = pool.map(lambda task: _hash(collection, task, whole=True), tasks)
            else:
                inside = picks[(picks >= at) & (picks < at + table.num_rows)]
                chosen = known.filter(pc.is_in(known.column("position"), value_set=pa.array(inside.astype(np.uint32))))
                results = pool.map(lambda row: _hash(collection, row, whole=False), _rows(chosen))
            for result in results:
                _count(found, result)
                tracker.advance(len(result))
            at += table.num_rows
    _added(found, keys, range(seen, len(keys)))
    return found


def sample_positions(images: int, count: int, seed: int) -> I64:
    """A seeded choice of at most `count` of the positions 0 .. images - 1, rising."""
    chosen = np.random.default_rng(seed).choice(images, min(count, images), replace=False)
    return np.sort(chosen).astype(np.int64)


def _rows(table: Any) -> Iterator[Any]:
    return (table.slice(row, 1) for row in range(table.num_rows))


def _added(found: Differences, keys: Any, rows: range) -> None:
    found.added += len(rows)
    if rows:
        found.note(keys[rows[0]].as_py(), "is here and not in the manifest")


def _match(found: Differences, keys: Any, low: int, high: int, theirs: Any) -> I64:
    """For each of their keys its position here, -1 where it is missing; the range low..high-1 covers them."""
    ours = keys.slice(low, high - low)
    ours = pa.concat_arrays(ours.chunks) if isinstance(ours, pa.ChunkedArray) and ours.chunks else ours
    if ours.equals(theirs):
        return np.arange(low, high, dtype=np.int64)
    if not len(ours):
        places = np.full(len(theirs), -1, np.int64)
    else:
        index = pc.fill_null(pc.index_in(theirs, value_set=ours), -1).to_numpy(zero_copy_only=False).astype(np.int64)
        places = np.where(index >= 0, index + low, -1)
    missing = np.flatnonzero(places < 0)
    found.missing += len(missing)
    if len(missing):
        found.note(theirs[int(missing[0])].as_py(), "is in the manifest and not here")
    extra = np.setdiff1d(np.arange(low, high), places)
    found.added += len(extra)
    if len(extra):
        found.note(keys[int(extra[0])].as_py(), "is here and not in the manifest")
    return places


def _check_sizes(found: Differences, collection: Collection, rows: Any) -> None:
    places, wanted = rows.column("place").to_numpy(), rows.column("size").to_numpy()
    here = np.where(places >= 0, np.asarray(collection.sizes)[np.maximum(places, 0)], -1)
    other = np.flatnonzero((here >= 0) & (here != wanted))
    found.other_size += len(other)
    if len(other):
        row = int(other[0])
        found.note(rows.column("key")[row].as_py(), f"has {here[row]} bytes, {wanted[row]} were expected")


def _hash(collection: Collection, rows: Any, *, whole: bool) -> list[tuple[str, str]]:
    """(key, what is wrong or empty) of each row whose hash was compared."""
    places = rows.column("place").to_numpy()
    keys, sizes = rows.column("key").to_pylist(), rows.column("size").to_pylist()
    wanted = dict(zip(places.tolist(), zip(keys, sizes, rows.column("hash").to_pylist(), strict=True), strict=True))
    found: list[tuple[str, str]] = []
    stream = _readable(collection, places, whole)
    for place, data in stream:
        if place not in wanted:
            continue
        key, size, digest = wanted.pop(place)
        if isinstance(data, DataError):
            found.append((key, f"gone:{data}"))
        elif content_hash(data) != digest:
            # Another size was said already.
            what = (
                f"bytes:has hash {content_hash(data).hex()}, {digest.hex()} was expected" if len(data) == size else ""
            )
            found.append((key, what or f"size:has {len(data)} bytes, {size} were expected"))
        else:
            found.append((key, ""))
    return found


def _readable(collection: Collection, places: I64, whole: bool) -> Iterator[tuple[int, bytes | DataError]]:
    """Images at `places`, streamed where most of a range is wanted; one that cannot be read comes with the reason."""
    if not len(places):
        return
    done: set[int] = set()
    if whole:
        try:
            for place, data in collection.stream(int(places[0]), int(places[-1]) + 1):
                done.add(place)
                yield place, data
            return
        except DataError:
            pass  # one by one, to see which
    for place in places.tolist():
        if place not in done:
            try:
                yield place, collection.read(place)
            except DataError as err:
                yield place, err


def _count(found: Differences, result: list[tuple[str, str]]) -> None:
    found.hashed += len(result)
    for key, what in result:
        kind, _, text = what.partition(":")
        if kind == "gone":
            found.gone += 1
            found.unreadable.add(key, text)
        elif kind == "bytes":
            found.other_bytes += 1
        elif kind == "size":
            continue
        if kind:
            found.note(key, text)
