"""What an index keeps of its images beside their embeddings: content hashes and fingerprints."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from plada.common.arrays import I64
from plada.sources.leaks.fingerprints import FINGERPRINT_BYTES, Fingerprints
from plada.sources.manifest import HASH_BYTES, binary_rows

_BLOCK = 65_536  # images that are read at a time
_SPARSE = 32  # a share of fewer images than one in so many is taken row by row, a larger one from a pass over the table


def stored_fingerprints(
    positions: I64,
    images: int,
    batches: Callable[[list[str], int], Iterator[Any]],
    take: Callable[[I64, list[str]], Any],
) -> Fingerprints:
    """Hashes and fingerprints of the images at rising positions int64 [k], of a table of `images` rows.

    `batches` gives columns of all rows in order, `take` those of some rows, as pyarrow record batches.
    """
    hashes = np.zeros((len(positions), HASH_BYTES), np.uint8)
    fingerprints = np.zeros((len(positions), FINGERPRINT_BYTES), np.uint8)

    def fill(into: slice, batch: Any, rows: I64 | slice) -> None:
        hashes[into] = binary_rows(batch.column("hash"))[rows]
        fingerprints[into] = binary_rows(batch.column("look"))[rows]

    if len(positions) * _SPARSE > images:
        at = 0
        for batch in batches(["hash", "look"], _BLOCK):
            first, last = np.searchsorted(positions, [at, at + batch.num_rows]).tolist()
            fill(slice(first, last), batch, positions[first:last] - at)
            at += batch.num_rows
    else:
        for start in range(0, len(positions), _BLOCK):
            some = slice(start, start + _BLOCK)
            fill(some, take(positions[some], ["position", "hash", "look"]), slice(None))
    return Fingerprints(positions, hashes, fingerprints)
