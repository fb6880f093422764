"""Runs of positions that belong together, as the keys of a collection tell: images of one folder lie side by side."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


def block_bounds(keys: Any) -> npt.NDArray[np.int64] | None:
    """Bounds int64 [B+1] of the runs of keys (a sorted pyarrow string array [N], N > 0) in one folder: rising from 0 to N.

    The folder of a key is all before its last `/`. None where no key has one.
    """
    whole = keys.combine_chunks() if isinstance(keys, pa.ChunkedArray) else keys
    folders = pc.replace_substring_regex(whole, r"(^|/)[^/]*$", "")
    if not pc.any(pc.not_equal(folders, "")).as_py():
        return None
    changes = pc.not_equal(folders.slice(1), folders.slice(0, len(folders) - 1)).to_numpy(zero_copy_only=False)
    return np.concatenate([[0], np.flatnonzero(changes) + 1, [len(folders)]]).astype(np.int64)
