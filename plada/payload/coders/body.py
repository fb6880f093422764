"""Contents as bytes: positions and labels as the body of one coder, with a checksum where that uses a pack.

A pack is mapped, not hashed, when a payload is read. A damaged one would give other labels, silently: so what was made
with a pack carries a checksum of its content. docs/payload-format.md section 5, docs/payload-coders.md section 1.
"""

import zlib

import numpy as np

from plada.common.arrays import I64
from plada.errors import PayloadCorrupt, PayloadUnsupported, RequestError, SideMissing, UnknownName
from plada.payload.coders.registry import CODERS, Shape, coders_for, missing_context
from plada.payload.coders.zstd_coder import encode_bitmap, encode_gaps, encode_zstd
from plada.payload.shared_context import SharedContext
from plada.payload.varints import read_varint, varint

CONTENT_CHECK = 4
MAX_KEPT = 1 << 24  # images that a body may name: arrays of these numbers are what a reader must have room for
# A file of few bytes can name many images, if all are alike, and a reader must go through them.
FREE_KEPT, KEPT_PER_BYTE = 1 << 16, 256
_SMALL = 1 << 16  # images kept, and 16 times as many in the reference, up to which every coder is tried in full
_QUICK = 3  # zstd's level for a first look
_HINTS = {
    "manifest": "the folders of its reference's keys, which are not at hand. Give the reference or its manifest",
    "pack": "a pack, which is not at hand. Install the pack that its header names (plada install-pack)",
}


def write_content(
    positions: I64, labels: I64, *, images: int, classes: int, coder: str, shared: SharedContext
) -> bytes:
    """A body of positions int64 [k] and labels int64 [k], checked where it needs a pack."""
    body = encode_body(positions, labels, images=images, classes=classes, coder=coder, shared=shared)
    body = body + content_check(positions, labels) if needs_pack(body) else body
    if len(positions) > max_kept(body):
        raise RequestError(
            f"payload: {len(positions)} images in {len(body)} bytes; readers take at most {max_kept(body)}. Keep fewer, or "
            "split the payload"
        )
    return body


def max_kept(body: bytes) -> int:
    """Images that a body of so many bytes may name."""
    return min(MAX_KEPT, FREE_KEPT + KEPT_PER_BYTE * len(body))


def read_content(body: bytes, *, images: int, classes: int, shared: SharedContext) -> tuple[I64, I64, str]:
    """(positions, labels, name of the coder).

    Raises:
        PayloadCorrupt, PayloadUnsupported, SideMissing: as decode_body.
    """
    if body and (claimed := read_varint(body, 1)[0]) > max_kept(body):
        raise PayloadCorrupt(f"a body of {len(body)} bytes claims {claimed} images; expected at most {max_kept(body)}")
    if not needs_pack(body):
        return decode_body(body, images=images, classes=classes, shared=shared)
    positions, labels, coder = decode_body(body[:-CONTENT_CHECK], images=images, classes=classes, shared=shared)
    if content_check(positions, labels) != body[-CONTENT_CHECK:]:
        raise PayloadCorrupt(
            "the labels are not those that were sent: the pack here is damaged. Install it again (plada install-pack)"
        )
    return positions, labels, coder


def needs_pack(body: bytes) -> bool:
    """Whether a body was made with a pack."""
    return bool(body) and any(coder.code == body[0] and "pack" in coder.needs for coder in CODERS.values())


def content_check(positions: I64, labels: I64) -> bytes:
    """CRC-32 of all positions as u32 and then all labels as u16, little endian; 4 bytes."""
    check = zlib.crc32(labels.astype("<u2").tobytes(), zlib.crc32(positions.astype("<u4").tobytes()))
    return check.to_bytes(CONTENT_CHECK, "little")


def encode_body(
    positions: I64, labels: I64, *, images: int, classes: int, coder: str = "auto", shared: SharedContext
) -> bytes:
    """The bytes of one content: positions int64 [k], rising, below `images`; labels int64 [k], below `classes`.

    `auto` is the smallest that readers who know `shared` can read, of equals the first in CODERS.

    Raises:
        UnknownName: no such coder. SideMissing: `shared` lacks what the coder needs.
    """
    shape = Shape(images, classes, shared)
    if coder == "auto":
        return min(_bodies(positions, labels, shape).values(), key=len)
    if coder not in CODERS:
        raise UnknownName("coder", coder, CODERS)
    _check_context(coder, shared)
    return _body(coder, positions, labels, shape)


def decode_body(body: bytes, *, images: int, classes: int, shared: SharedContext) -> tuple[I64, I64, str]:
    """(positions, labels, name of the coder) of a body.

    Raises:
        PayloadUnsupported: a coder of a newer plada.
        SideMissing: `shared` lacks the folders or the pack that it was made with.
        PayloadCorrupt: anything that contradicts the format, before memory for it is taken.
    """
    name, kept, at = read_start(body, images)
    if not kept:
        if body[at:] not in (b"", b"\0"):  # the format lets a length of no positions stand here
            raise PayloadCorrupt("bytes follow an empty content")
        return np.zeros(0, np.int64), np.zeros(0, np.int64), name
    _check_context(name, shared)
    positions, labels = CODERS[name].decode(body[at:], kept, Shape(images, classes, shared))
    return positions, labels, name


def read_start(body: bytes, images: int) -> tuple[str, int, int]:
    """(name of the coder, images named, bytes that say so) of a body; nothing beside it is needed.

    Raises:
        PayloadUnsupported: a coder of a newer plada. PayloadCorrupt: empty, or more images than there are.
    """
    if not body:
        raise PayloadCorrupt("a body is empty")
    name = next((name for name, coder in CODERS.items() if coder.code == body[0]), None)
    if name is None:
        raise PayloadUnsupported(f"coder {body[0]} is not known to this plada. Install a newer plada")
    kept, at = read_varint(body, 1)
    if kept > images:
        raise PayloadCorrupt(f"a body claims {kept} of {images} images")
    return name, kept, at


def encoded_size(
    positions: I64, labels: I64, *, images: int, classes: int, coder: str = "auto", shared: SharedContext
) -> int:
    """Bytes of encode_body, exactly."""
    return len(encode_body(positions, labels, images=images, classes=classes, coder=coder, shared=shared))


def body_sizes(positions: I64, labels: I64, *, images: int, classes: int, shared: SharedContext) -> dict[str, int]:
    """Bytes of a body under every coder that `shared` allows."""
    shape = Shape(images, classes, shared)
    return {name: len(_body(name, positions, labels, shape)) for name in coders_for(shape)}


def _check_context(name: str, shared: SharedContext) -> None:
    for needs in missing_context(name, shared):
        raise SideMissing(f"the payload's coder '{name}' needs {_HINTS[needs]}", needs=needs)


def _body(name: str, positions: I64, labels: I64, shape: Shape) -> bytes:
    head = bytes([CODERS[name].code]) + varint(len(positions))
    return head + CODERS[name].encode(positions, labels, shape) if len(positions) else head


def _bodies(positions: I64, labels: I64, shape: Shape) -> dict[str, bytes]:
    """Bodies of every coder worth trying: zstd's highest level takes seconds on large contents, so that is left out
    where a quick look says that it cannot come near."""
    if not len(positions):
        return {"gaps-zstd": _body("gaps-zstd", positions, labels, shape)}
    zstd = {"gaps-zstd": encode_gaps, "bitmap-zstd": encode_bitmap}
    bodies = {name: _body(name, positions, labels, shape) for name in coders_for(shape) if name not in zstd}
    small = len(positions) <= _SMALL and shape.images <= 16 * _SMALL
    for name, places in zstd.items():
        if not small:
            look = encode_zstd(
                positions, labels, images=shape.images, classes=shape.classes, places=places, level=_QUICK
            )
            if len(look) > 1.2 * min(map(len, bodies.values())):
                continue
        bodies[name] = _body(name, positions, labels, shape)
    return {name: bodies[name] for name in CODERS if name in bodies}
