"""The file: a fixed header, then sections. docs/payload-format.md is the authority; where they differ, this is wrong.

Everything is checked against the bytes really present before anything is allocated.
"""

import struct
import zlib
from dataclasses import dataclass

from plada.errors import PayloadCorrupt, PayloadTruncated, PayloadUnsupported

MAGIC = b"\x89PLD"
VERSION = 1
HEADER = struct.Struct("<4sBBIIH8s8s")  # magic, version, sections, total bytes, images, classes, key id, content id
_CHECK = struct.Struct("<I")
MAX_TOTAL = 1 << 30
OPTIONAL = 0x80  # section types from here on may be skipped by a reader that does not know them
LABELS, NAMES, NOTES = 0x01, 0x81, 0x82
SECTION_NAMES = {LABELS: "labels", NAMES: "names", NOTES: "notes"}


@dataclass(frozen=True, slots=True)
class Header:
    """`reference` images are in the reference; ids are the first 8 bytes of its key id and content id."""

    version: int
    sections: int
    total: int
    reference: int
    classes: int
    key_id: bytes
    content_id: bytes


def write_container(
    *, reference: int, classes: int, key_id: bytes, content_id: bytes, sections: dict[int, bytes]
) -> bytes:
    """The whole file from its sections, in rising order of type."""
    ordered = sorted(sections.items())
    prefixes = [bytes([kind]) + varint(len(body)) for kind, body in ordered]
    total = HEADER.size + sum(len(p) + len(body) + _CHECK.size for p, (_, body) in zip(prefixes, ordered, strict=True))
    header = HEADER.pack(MAGIC, VERSION, len(ordered), total, reference, classes, key_id[:8], content_id[:8])
    parts = [header]
    for prefix, (_, body) in zip(prefixes, ordered, strict=True):
        # The header goes into every section's checksum: it costs no bytes of its own and is still covered.
        parts += [prefix, body, _CHECK.pack(zlib.crc32(header + prefix + body))]
    return b"".join(parts)


def read_container(data: bytes) -> tuple[Header, dict[int, bytes]]:
    """Header and section bodies of a payload file.

    Raises:
        PayloadTruncated: bytes are missing at the end.
        PayloadUnsupported: a newer version, or a section that must be understood and is not known.
        PayloadCorrupt: anything else that contradicts the format.
    """
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise PayloadCorrupt("not a plada payload: it does not begin with 89 50 4C 44")
    if len(data) > len(MAGIC) and data[4] > VERSION:
        raise PayloadUnsupported(
            f"payload of version {data[4]}; this plada reads up to {VERSION}. Install a newer plada"
        )
    if len(data) < HEADER.size:
        raise PayloadTruncated(f"payload is {len(data)} bytes; the header alone is {HEADER.size}. Fetch it again")
    _, version, count, total, reference, classes, key_id, content_id = HEADER.unpack_from(data)
    header = Header(version, count, total, reference, classes, key_id, content_id)
    if version != VERSION or not HEADER.size <= total <= MAX_TOTAL or not count or not classes or not reference:
        raise PayloadCorrupt("the header names no version, no section, no class, no image or an impossible length")
    if len(data) < total:
        raise PayloadTruncated(f"payload is {len(data)} of {total} bytes. Fetch it again")
    if len(data) > total:
        raise PayloadCorrupt(f"{len(data) - total} stray bytes after the end of the payload")
    return header, _sections(data, count)


def _sections(data: bytes, count: int) -> dict[int, bytes]:
    sections: dict[int, bytes] = {}
    at = HEADER.size
    for _ in range(count):
        start = at
        if at >= len(data):
            raise PayloadCorrupt(f"the header names {count} sections; there are {len(sections)}")
        kind = data[at]
        length, at = read_varint(data, at + 1)
        end = at + length
        if end + _CHECK.size > len(data):
            raise PayloadCorrupt(
                f"section {kind:#04x} claims {length} bytes; {max(0, len(data) - at - _CHECK.size)} are there"
            )
        if _CHECK.unpack_from(data, end)[0] != zlib.crc32(data[: HEADER.size] + data[start:end]):
            raise PayloadCorrupt(f"section {kind:#04x} or the header is damaged (checksum). Fetch the payload again")
        if kind in sections or (sections and kind < max(sections)):
            raise PayloadCorrupt(f"section {kind:#04x} is repeated or out of order")
        if kind not in SECTION_NAMES and kind < OPTIONAL:
            raise PayloadUnsupported(f"section {kind:#04x} is not known to this plada. Install a newer plada")
        sections[kind] = data[at:end]
        at = end + _CHECK.size
    if at != len(data):
        raise PayloadCorrupt(f"{len(data) - at} bytes belong to no section")
    if LABELS not in sections:
        raise PayloadCorrupt("there is no section of labels")
    return sections


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
    for place in range(5):
        if at + place >= len(data):
            break
        byte = data[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            if byte == 0 and place:
                break
            return value, at + place + 1
    raise PayloadCorrupt("a length is not a valid varint")
