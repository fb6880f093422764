"""From (positions, labels) to bytes and back. Plain so far: gaps or a bitmap, each stream through zstd.

Two zstd frames, since gaps and labels have other statistics: one frame for both, as the paper's coder has it, costs
5 to 9 % more on the demo's payload. Both forms are kept, the smaller is sent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import zstandard

from plada.errors import PayloadCorrupt
from plada.payload.container import read_varint, varint

Positions = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int64]
_LEVEL = 19
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"  # the same for every frame, so it is not sent
_STEP = 256  # a run-length block of 4 bytes makes at most 128 KiB: 8 MiB a step at worst
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


def encode_labels(positions: Positions, labels: Labels, *, reference: int, classes: int, coder: str) -> bytes:
    """Body of the section of labels; docs/payload-format.md section 3.

    positions: int64 [k], rising, below `reference`; labels: int64 [k], below `classes`.
    """
    places = compress(CODERS[coder].encode(positions, reference))
    names = compress(labels.astype(_narrowest(classes - 1)).tobytes())
    return bytes([CODERS[coder].code]) + varint(len(positions)) + varint(len(places)) + places + names


def decode_labels(body: bytes, *, reference: int, classes: int) -> tuple[Positions, Labels, str]:
    """(positions, labels, name of the coder) of a section of labels.

    Raises:
        PayloadCorrupt: anything that contradicts the format, before memory for it is taken.
    """
    name = _BY_CODE.get(body[0]) if body else None
    if name is None:
        raise PayloadCorrupt("the section of labels names no known coder")
    kept, at = read_varint(body, 1)
    length, at = read_varint(body, at)
    if not 0 < kept <= min(reference, MAX_IMAGES) or at + length > len(body):
        raise PayloadCorrupt(f"the section of labels claims {kept} of {reference} images in {length} bytes")
    width = np.dtype(_narrowest(classes - 1)).itemsize
    positions = CODERS[name].decode(expand(body[at : at + length], max(4 * kept, reference // 8 + 1)), kept, reference)
    raw = expand(body[at + length :], kept * width)
    if len(positions) != kept or len(raw) != kept * width:
        raise PayloadCorrupt(
            f"{kept} images are named; {len(positions)} positions and {len(raw) // width} labels are there"
        )
    labels = np.frombuffer(raw, f"<u{width}").astype(np.int64)
    if int(positions[-1]) >= reference or int(labels.max()) >= classes:
        raise PayloadCorrupt("a position or a label is beyond the reference or the classes")
    return positions, labels, name


def _narrowest(largest: int) -> str:
    return "<u1" if largest < 1 << 8 else "<u2" if largest < 1 << 16 else "<u4"


def compress(raw: bytes) -> bytes:
    """One zstd frame at the highest ordinary level, without its magic number, size or checksum."""
    frame = zstandard.ZstdCompressor(level=_LEVEL, write_content_size=False, write_checksum=False).compress(raw)
    return frame[len(_ZSTD_MAGIC) :]


def expand(frame: bytes, limit: int) -> bytes:
    """Undo compress, refusing to produce more than `limit` bytes; fed in small steps, so that no bomb gets far."""
    stream = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
    raw = bytearray()
    try:
        raw += stream.decompress(_ZSTD_MAGIC)
        for at in range(0, len(frame), _STEP):
            if stream.eof:
                raise PayloadCorrupt("bytes follow the end of a stream")
            raw += stream.decompress(frame[at : at + _STEP])
            if len(raw) > limit:
                raise PayloadCorrupt(f"a stream holds more than the {limit} bytes it may have")
    except zstandard.ZstdError as err:
        raise PayloadCorrupt(f"a stream does not decompress ({err})") from err
    if not stream.eof or stream.unused_data:
        raise PayloadCorrupt("a stream does not end where its section does")
    return bytes(raw)
