"""Positions as gaps or as a bitmap, and labels as they are, each through zstd.

There are two zstd frames, since gaps and labels have other statistics. One frame for both, as in the paper's coder, costs 5
to 9 % more on the demo's payload. The models give fewer bytes, except for contents with a pattern that no model expects.
"""

from collections.abc import Callable

import numpy as np

from plada.common.arrays import I64
from plada.errors import PayloadCorrupt
from plada.payload.varints import read_varint, varint
from plada.payload.zstd_frames import compress, expand

_PIECE = 1 << 20


def encode_gaps(positions: I64, images: int) -> bytes:
    """Differences less one, all with the narrowest of 1, 2 or 4 bytes, little endian; `images` is not needed."""
    gaps = np.diff(positions, prepend=np.int64(-1)) - 1
    return gaps.astype(_narrowest(int(gaps.max(initial=0)))).tobytes()


def decode_gaps(raw: bytes, kept: int, images: int) -> I64:
    """Inverse of encode_gaps."""
    if len(raw) not in (kept, 2 * kept, 4 * kept):
        raise PayloadCorrupt(f"{len(raw)} bytes of gaps for {kept} images")
    return np.cumsum(np.frombuffer(raw, f"<u{len(raw) // kept}").astype(np.int64) + 1) - 1


def encode_bitmap(positions: I64, images: int) -> bytes:
    """One bit an image of the reference, first image in the highest bit."""
    mask = np.zeros(images, np.uint8)
    mask[positions] = 1
    return np.packbits(mask).tobytes()


def decode_bitmap(raw: bytes, kept: int, images: int) -> I64:
    """Inverse of encode_bitmap."""
    if len(raw) != (images + 7) // 8:
        raise PayloadCorrupt(f"a bitmap of {len(raw)} bytes for {images} images")
    packed = np.frombuffer(raw, np.uint8)
    found = []
    for at in range(0, len(packed), _PIECE):  # a bit takes a byte while it is looked at: not all at once
        bits = np.flatnonzero(np.unpackbits(packed[at : at + _PIECE]))
        found.append(bits + 8 * at)
        if sum(map(len, found)) > kept:
            raise PayloadCorrupt(f"the bitmap names more than the {kept} images it may")
    positions = np.concatenate(found).astype(np.int64)
    if len(positions) and positions[-1] >= images:
        raise PayloadCorrupt("the bitmap has bits behind the last image")
    return positions


def encode_zstd(
    positions: I64, labels: I64, *, images: int, classes: int, places: Callable[[I64, int], bytes], level: int = 19
) -> bytes:
    """What follows k in a body: the length of the compressed positions, these, the compressed labels."""
    where = compress(places(positions, images), level)
    names = compress(labels.astype(_narrowest(classes - 1)).tobytes(), level) if classes > 1 else b""
    return varint(len(where)) + where + names


def decode_zstd(
    coded: bytes, kept: int, *, images: int, classes: int, places: Callable[[bytes, int, int], I64]
) -> tuple[I64, I64]:
    """Inverse of encode_zstd, kept > 0.

    Raises:
        PayloadCorrupt: anything that contradicts the format, before memory for it is taken.
    """
    length, at = read_varint(coded, 0)
    if at + length > len(coded):
        raise PayloadCorrupt(f"a body claims {length} bytes of positions, {len(coded) - at} are there")
    width = np.dtype(_narrowest(classes - 1)).itemsize if classes > 1 or at + length < len(coded) else 0
    positions = places(expand(coded[at : at + length], max(4 * kept, images // 8 + 1)), kept, images)
    raw = expand(coded[at + length :], kept * width) if width else b""
    if len(positions) != kept or len(raw) != kept * width:
        raise PayloadCorrupt(
            f"{kept} images are named; {len(positions)} positions and {len(raw)} bytes of labels are there"
        )
    labels = np.frombuffer(raw, f"<u{width}").astype(np.int64) if width else np.zeros(kept, np.int64)
    if int(positions[-1]) >= images or int(labels.max()) >= classes:
        raise PayloadCorrupt("a position or a label is beyond the reference or the classes")
    return positions, labels


def _narrowest(largest: int) -> str:
    return "<u1" if largest < 1 << 8 else "<u2" if largest < 1 << 16 else "<u4"
