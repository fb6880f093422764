"""Width and height of an image from its header, without decoding. Manifests need them fast."""

import io
import struct

from PIL import Image

from plada.sources.decode import FORMATS, without_warnings

_SOF = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_JFIF, _TABLE = b"\xff\xe0\x00\x10", b"\xff\xdb\x00\x43"
_SPECIAL = _SOF | {0x01, 0xFF, *range(0xD0, 0xD9)}  # besides frames: fill bytes, and markers without a length


def size_from_header(data: bytes) -> tuple[int, int]:
    """(width, height) as the header says, before any EXIF orientation; (0, 0) where it cannot be told."""
    try:
        if data[:2] == b"\xff\xd8":
            return _jpeg(data)
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            width, height = struct.unpack_from(">II", data, 16)
            return int(width), int(height)
        return _other(data)
    except (struct.error, IndexError):
        return 0, 0


def _jpeg(data: bytes) -> tuple[int, int]:
    # What libjpeg writes unless told otherwise: a JFIF header of 18 bytes and two tables of 69, each of known length.
    at = 158 if data[20:24] == data[89:93] == _TABLE and data[2:6] == _JFIF else 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker not in _SPECIAL:
            at += 2 + (data[at + 2] << 8 | data[at + 3])
        elif marker in _SOF:
            return data[at + 7] << 8 | data[at + 8], data[at + 5] << 8 | data[at + 6]
        else:
            at += 1 if marker == 0xFF else 2
    return 0, 0


def _other(data: bytes) -> tuple[int, int]:
    """Everything else by Pillow, which reads a header only; slower, and rare."""
    try:
        with without_warnings(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return image.size
    except Exception:  # Pillow's plugins raise almost anything on what is no image
        return 0, 0
