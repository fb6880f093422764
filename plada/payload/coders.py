"""From (positions, labels) to bytes and back. Plain so far: gaps or a bitmap, each stream through zstd.

Two zstd frames, since gaps and labels have other statistics: one frame for both, as the paper's coder has it, costs
5 to 9 % more on the demo's payload. Both forms are kept, the smaller is sent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from plada.errors import PayloadCorrupt, PayloadUnsupported, UnknownName
from plada.payload.frames import compress, expand
from plada.payload.side import Side
from plada.payload.varints import read_varint, varint

Positions = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int64]
MAX_IMAGES = 1 << 28


@dataclass(frozen=True, slots=True)
class Coder:
    """`encode(positions, reference)` gives a byte string; `decode(bytes, kept, reference)` gives the positions back."""

    code: int
    encode: Callable[[Positions, int], bytes]
    decode: Callable[[bytes, int, int], Positions]


def encode_gaps(positions: Positions, reference: int) -> bytes:
    """Differences less one, all with the narrowest of 1, 2 or 4 bytes, little endian; `reference` is not needed."""
    gaps = np.diff(positions, prepend=np.int64(-1)) - 1
    return gaps.astype(_narrowest(int(gaps.max(initial=0)))).tobytes()


def decode_gaps(raw: bytes, kept: int, reference: int) -> Positions:
    """Inverse of encode_gaps."""
    if kept == 0 or len(raw) not in (kept, 2 * kept, 4 * kept):
        raise PayloadCorrupt(f"{len(raw)} bytes of gaps for {kept} images")
    return np.cumsum(np.frombuffer(raw, f"<u{len(raw) // kept}").astype(np.int64) + 1) - 1


def encode_bitmap(positions: Positions, reference: int) -> bytes:
    """One bit an image of the reference, first image in the highest bit."""
    mask = np.zeros(reference, np.uint8)
    mask[positions] = 1
    return np.packbits(mask).tobytes()


def decode_bitmap(raw: bytes, kept: int, reference: int) -> Positions:
    """Inverse of encode_bitmap."""
    if len(raw) != (reference + 7) // 8:
        raise PayloadCorrupt(f"a bitmap of {len(raw)} bytes for {reference} images")
    bits = np.unpackbits(np.frombuffer(raw, np.uint8))
    if bits[reference:].any():
        raise PayloadCorrupt("the bitmap has bits behind the last image")
    return np.flatnonzero(bits).astype(np.int64)


CODERS: Mapping[str, Coder] = MappingProxyType(
    {
        "gaps-zstd": Coder(1, encode_gaps, decode_gaps),
        "bitmap-zstd": Coder(2, encode_bitmap, decode_bitmap),
    }
)
_BY_CODE = {coder.code: name for name, coder in CODERS.items()}


def encode_body(
    positions: Positions, labels: Labels, *, images: int, classes: int, coder: str = "auto", side: Side
) -> bytes:
    """The bytes of one content: positions int64 [k], rising, below `images`; labels int64 [k], below `classes`.

    Raises:
        UnknownName: no such coder.
    """
    if coder == "auto":
        return min(
            (encode_body(positions, labels, images=images, classes=classes, coder=name, side=side) for name in CODERS),
            key=len,
        )
    if coder not in CODERS:
        raise UnknownName("coder", coder, CODERS)
    places = compress(CODERS[coder].encode(positions, images)) if len(positions) else b""
    names = compress(labels.astype(_narrowest(classes - 1)).tobytes()) if len(positions) and classes > 1 else b""
    return bytes([CODERS[coder].code]) + varint(len(positions)) + varint(len(places)) + places + names


def decode_body(body: bytes, *, images: int, classes: int, side: Side) -> tuple[Positions, Labels, str]:
    """(positions, labels, name of the coder) of a body.

    Raises:
        PayloadUnsupported: a coder of a newer plada.
        PayloadCorrupt: anything that contradicts the format, before memory for it is taken.
    """
    if not body:
        raise PayloadCorrupt("a body is empty")
    name = _BY_CODE.get(body[0])
    if name is None:
        raise PayloadUnsupported(f"coder {body[0]} is not known to this plada. Install a newer plada")
    kept, at = read_varint(body, 1)
    length, at = read_varint(body, at)
    if kept > min(images, MAX_IMAGES) or at + length > len(body):
        raise PayloadCorrupt(f"a body claims {kept} of {images} images in {length} bytes")
    if not kept:
        if at < len(body):
            raise PayloadCorrupt("bytes follow an empty content")
        return np.zeros(0, np.int64), np.zeros(0, np.int64), name
    width = np.dtype(_narrowest(classes - 1)).itemsize if classes > 1 or at + length < len(body) else 0
    positions = CODERS[name].decode(expand(body[at : at + length], max(4 * kept, images // 8 + 1)), kept, images)
    raw = expand(body[at + length :], kept * width) if width else b""
    if len(positions) != kept or len(raw) != kept * width:
        raise PayloadCorrupt(
            f"{kept} images are named; {len(positions)} positions and {len(raw)} bytes of labels are there"
        )
    labels = np.frombuffer(raw, f"<u{width}").astype(np.int64) if width else np.zeros(kept, np.int64)
    if int(positions[-1]) >= images or int(labels.max()) >= classes:
        raise PayloadCorrupt("a position or a label is beyond the reference or the classes")
    return positions, labels, name


def encoded_size(
    positions: Positions, labels: Labels, *, images: int, classes: int, coder: str = "auto", side: Side
) -> int:
    """Bytes of encode_body, exactly."""
    return len(encode_body(positions, labels, images=images, classes=classes, coder=coder, side=side))


def body_sizes(positions: Positions, labels: Labels, *, images: int, classes: int, side: Side) -> dict[str, int]:
    """Bytes of a body under every coder that `side` allows."""
    return {
        name: encoded_size(positions, labels, images=images, classes=classes, coder=name, side=side) for name in CODERS
    }


def _narrowest(largest: int) -> str:
    return "<u1" if largest < 1 << 8 else "<u2" if largest < 1 << 16 else "<u4"
