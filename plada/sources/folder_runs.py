"""Runs of positions whose images lie in one folder. In the order of the keys they are next to each other."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from plada.common.arrays import I64
from plada.sources.manifest import chunked


def folder_bounds(keys: Any) -> I64 | None:
    """Bounds int64 [runs + 1] of the runs of keys in one folder, rising from 0 to N; None where no key has a folder.

    `keys` are N > 0 sorted strings: a pyarrow array, chunked or not, or arrays one after another, so that millions of keys
    need not be in memory at once. The folder of a key is all before its last `/`.
    """
    chunks: Iterable[Any] = chunked(keys).chunks if isinstance(keys, pa.Array | pa.ChunkedArray) else keys
    starts, last, at, any_folder = [np.zeros(0, np.int64)], None, 0, False
    for chunk in chunks:
        if not len(chunk):
            continue
        folders = pc.replace_substring_regex(chunk, r"(^|/)[^/]*$", "")
        any_folder = any_folder or bool(pc.any(pc.not_equal(folders, "")).as_py())
        changes = pc.not_equal(folders.slice(1), folders.slice(0, len(folders) - 1)).to_numpy(zero_copy_only=False)
        if folders[0].as_py() != last:
            starts.append(np.array([at], np.int64))
        starts.append(np.flatnonzero(changes) + 1 + at)
        last, at = folders[len(folders) - 1].as_py(), at + len(chunk)
    return np.concatenate([*starts, [at]]).astype(np.int64) if any_folder else None
