"""Images whose bytes are no longer those that were embedded."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from plada.common.arrays import I64
from plada.common.machine import cores
from plada.common.progress import Report, Tracker, silent
from plada.errors import DataError
from plada.indexer.store import Store
from plada.sources.collection import Collection
from plada.sources.compare import sample_positions
from plada.sources.manifest import binary_rows, content_hash

SAMPLE = 65_536  # images that are hashed to see whether any has changed: seconds to a minute
_TASK = 256


@dataclass(frozen=True, slots=True)
class ChangedImages:
    """Positions int64 [k] of the images that have other bytes than when they were embedded, rising; how many were hashed, of
    how many."""

    positions: I64
    hashed: int
    images: int

    def note(self, name: str) -> str:
        """What to say where not all images were hashed."""
        if self.hashed + len(self.positions) >= self.images:
            return ""
        return (
            f"index '{name}': of {self.images} images that were embedded before, all sizes and the content of {self.hashed} "
            "were compared; --check --full compares all"
        )


def changed_images(
    store: Store, collection: Collection, *, first: int = 0, sample: int | None = SAMPLE, report: Report = silent
) -> ChangedImages:
    """Compare the rows of a store, which begin at position `first`, with the images of the same keys.

    Sizes of all images are compared, and the hashes of a seeded sample; of all where `sample` is None.

    Raises:
        DataError: an image cannot be read.
    """
    rows = store.rows()
    picks = sample_positions(rows, rows if sample is None else sample, 0) + first
    tracker, hashed, at = Tracker("compare", len(picks), report), 0, first
    found: list[int] = []
    with ThreadPoolExecutor(cores()) as pool:
        for batch in store.batches(["size", "hash"]) if rows else ():
            stop = at + batch.num_rows
            listed, sizes = np.asarray(collection.sizes[at:stop]), batch.column("size").to_numpy()
            resized = np.flatnonzero((listed >= 0) & (listed != sizes)) + at
            chosen = np.setdiff1d(picks[(picks >= at) & (picks < stop)], resized)
            hashes, begin = binary_rows(batch.column("hash")), at
            tasks = [chosen[start : start + _TASK] for start in range(0, len(chosen), _TASK)]
            for pairs in pool.map(lambda task: list(_hashes(collection, task)), tasks):
                found += [position for position, digest in pairs if digest != hashes[position - begin].tobytes()]
                tracker.advance(len(pairs))
            found += resized.tolist()
            hashed, at = hashed + len(chosen), stop
    return ChangedImages(np.asarray(sorted(found), np.int64), hashed, rows)


def _hashes(collection: Collection, positions: I64) -> Iterator[tuple[int, bytes]]:
    if len(positions) and len(positions) == positions[-1] + 1 - positions[0]:
        for position, data in collection.stream(int(positions[0]), int(positions[-1]) + 1):
            yield position, content_hash(data)
        return
    for position in positions.tolist():
        yield position, content_hash(collection.read(position))


def resume(store: Store, collection: Collection, *, first: int, shard: int, report: Report = silent) -> tuple[int, str]:
    """Rows of an unfinished table to go on from, and what to say: shards from the first changed image on are dropped."""
    rows = store.rows()
    if not rows:
        return 0, ""
    if rows > len(collection) - first:
        raise DataError(f"{store.table_path}: more rows than images. Run again with --restart")
    changed = changed_images(store, collection, first=first, report=report)
    if not len(changed.positions):
        return rows, changed.note(store.folder.name)
    kept = (int(changed.positions[0]) - first) // shard * shard
    store.cut(kept)
    return kept, (
        f"{len(changed.positions)} images changed since they were embedded, the first is "
        f"{collection.keys[int(changed.positions[0])]}: embedded again from image {first + kept} on"
    )
