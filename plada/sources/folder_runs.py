"""Runs of positions that belong together, as the keys of a collection tell: images of one folder lie side by side."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


def block_bounds(keys: Any) -> npt.NDArray[np.int64] | None:
    """Bounds int64 [B+1] of the runs of keys (a sorted pyarrow string array [N], N > 0, chunked or not) in one folder:
    rising from 0 to N.

    The folder of a key is all before its last `/`. None where no key has one.
    """
    return bounds_of(keys.chunks if isinstance(keys, pa.ChunkedArray) else [keys])


def bounds_of(chunks: Iterable[Any]) -> npt.NDArray[np.int64] | None:
    """The same of keys that come piece by piece, so that millions need not be in memory at once."""
    found, last, start, named = [np.zeros(0, np.int64)], None, 0, False
    for chunk in chunks:
        if not len(chunk):
            continue
        folders = pc.replace_substring_regex(chunk, r"(^|/)[^/]*$", "")
        named = named or bool(pc.any(pc.not_equal(folders, "")).as_py())
        changes = pc.not_equal(folders.slice(1), folders.slice(0, len(folders) - 1)).to_numpy(zero_copy_only=False)
        if folders[0].as_py() != last:
            found.append(np.array([start], np.int64))
        found.append(np.flatnonzero(changes) + 1 + start)
        last, start = folders[len(folders) - 1].as_py(), start + len(chunk)
    return np.concatenate([*found, [start]]).astype(np.int64) if named else None
