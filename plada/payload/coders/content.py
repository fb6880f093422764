"""One content as a body: what a coder makes of it, and a check where a coder leans on a pack.

A pack is mapped, not hashed, when a payload is read. A damaged one would give other labels, silently: so what was made
with a pack carries a checksum of its content.
"""

import zlib

import numpy as np
import numpy.typing as npt

from plada.errors import PayloadCorrupt
from plada.payload.coders.registry import CODERS, decode_body, encode_body
from plada.payload.shared_context import SharedContext
from plada.payload.varints import read_varint

I64 = npt.NDArray[np.int64]
CONTENT_CHECK = 4
MAX_KEPT = 1 << 24  # images that a body may name: arrays of these numbers are what a reader must have room for


def needs_pack(body: bytes) -> bool:
    """Whether a body was made with a pack."""
    return bool(body) and any(coder.code == body[0] and "pack" in coder.needs for coder in CODERS.values())


def content_check(positions: I64, labels: I64) -> bytes:
    """CRC-32 of all positions as u32 and then all labels as u16, little endian; 4 bytes."""
    return zlib.crc32(labels.astype("<u2").tobytes(), zlib.crc32(positions.astype("<u4").tobytes())).to_bytes(
        4, "little"
    )


def write_content(positions: I64, labels: I64, *, images: int, classes: int, coder: str, side: SharedContext) -> bytes:
    """A body of positions int64 [k] and labels int64 [k], checked where it needs a pack."""
    body = encode_body(positions, labels, images=images, classes=classes, coder=coder, side=side)
    return body + content_check(positions, labels) if needs_pack(body) else body


def read_content(body: bytes, *, images: int, classes: int, side: SharedContext) -> tuple[I64, I64, str]:
    """(positions, labels, name of the coder).

    Raises:
        PayloadCorrupt, PayloadUnsupported, SideMissing: as decode_body.
    """
    if body and read_varint(body, 1)[0] > MAX_KEPT:
        raise PayloadCorrupt(f"a body claims {read_varint(body, 1)[0]} images; expected at most {MAX_KEPT}")
    if not needs_pack(body):
        return decode_body(body, images=images, classes=classes, side=side)
    positions, labels, coder = decode_body(body[:-CONTENT_CHECK], images=images, classes=classes, side=side)
    if content_check(positions, labels) != body[-CONTENT_CHECK:]:
        raise PayloadCorrupt(
            "the labels are not those that were sent: the pack here is damaged. Install it again (plada install-pack)"
        )
    return positions, labels, coder
