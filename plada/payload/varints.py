"""Whole numbers in as few bytes as they need: LEB128, as docs/payload-format.md section 2 has it."""

from plada.errors import PayloadCorrupt

MAX_BYTES = 5


def varint(value: int) -> bytes:
    """LEB128 of a whole number, at most 5 bytes for what the format holds."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """(value, position behind it); at most 5 bytes, no needless zero byte at the end.

    Raises:
        PayloadCorrupt: it does not end, or is longer than needed.
    """
    value = 0
    for place in range(MAX_BYTES):
        if at + place >= len(data):
            break
        byte = data[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            if byte == 0 and place:
                break
            return value, at + place + 1
    raise PayloadCorrupt("a number is not a valid varint")
