"""What both ends of a payload know beside it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False)
class SharedContext:
    """What sender and receiver both know: `blocks` int64 [B+1], rising from 0 to N, bounds of runs of positions that
    belong together (the folder part of keys), or None; `features` int8 [N, d] of a pack, or None; `pack_id` its 16
    bytes or b""."""

    blocks: npt.NDArray[np.int64] | None = None
    features: npt.NDArray[np.int8] | None = None
    pack_id: bytes = b""


NOTHING_SHARED = SharedContext()
