"""Payload files of version 1: still read, never written. docs/payload-format.md, appendix A."""

import struct
import zlib
from dataclasses import dataclass

from plada.errors import PayloadCorrupt, PayloadTruncated, PayloadUnsupported
from plada.payload.container import CHECK_BYTES, MAX_TOTAL, OPTIONAL, Header, Part
from plada.payload.frames import expand
from plada.payload.varints import read_varint

_HEADER = struct.Struct("<4sBBIIH8s8s")  # magic, version, sections, total bytes, images, classes, key id, content id
_CHECK = struct.Struct("<I")
_LABELS, _NAMES, _NOTES = 0x01, 0x81, 0x82
_NAMED = {_LABELS: "labels", _NAMES: "names", _NOTES: "notes"}
_MAX_TEXT = 1 << 20  # bytes of names or notes after decompression
_CODERS = (1, 2)


@dataclass(frozen=True, slots=True)
class File1:
    """A file of version 1 taken apart: the labels' body, and the texts of names and notes where they are there."""

    header: Header
    body: bytes
    names: str | None
    notes: str | None
    parts: tuple[Part, ...]


def read_version1(data: bytes) -> File1:
    """Take a file of version 1 apart; its magic number and version have been compared.

    Raises:
        PayloadTruncated: bytes are missing at the end.
        PayloadUnsupported: a section that must be understood and is not known.
        PayloadCorrupt: anything else that contradicts the format.
    """
    if len(data) < _HEADER.size:
        raise PayloadTruncated(f"payload is {len(data)} bytes; the header alone is {_HEADER.size}. Fetch it again")
    _, version, count, total, reference, classes, key_id, content_id = _HEADER.unpack_from(data)
    if not _HEADER.size <= total <= MAX_TOTAL or not count or not classes or not reference:
        raise PayloadCorrupt("the header names no section, no class, no image or an impossible length")
    if len(data) < total:
        raise PayloadTruncated(f"payload is {len(data)} of {total} bytes. Fetch it again")
    if len(data) > total:
        raise PayloadCorrupt(f"{len(data) - total} stray bytes after the end of the payload")
    sections, parts = _sections(data, count)
    body = sections[_LABELS]
    if body[:1] and body[0] not in _CODERS:
        raise PayloadCorrupt(f"the section of labels names coder {body[0]}, which version 1 does not have")
    names, notes = (_text(sections[kind]) if kind in sections else None for kind in (_NAMES, _NOTES))
    header = Header(reference, classes, key_id, content_id, total=total, version=version)
    return File1(header, body, names, notes, parts)


def _sections(data: bytes, count: int) -> tuple[dict[int, bytes], tuple[Part, ...]]:
    sections: dict[int, bytes] = {}
    parts = [Part("header", 0, _HEADER.size)]
    at = _HEADER.size
    for _ in range(count):
        start = at
        if at >= len(data):
            raise PayloadCorrupt(f"the header names {count} sections; there are {len(sections)}")
        kind = data[at]
        length, at = read_varint(data, at + 1)
        end = at + length
        if end + CHECK_BYTES > len(data):
            raise PayloadCorrupt(
                f"section {kind:#04x} claims {length} bytes; {max(0, len(data) - at - CHECK_BYTES)} are there"
            )
        if _CHECK.unpack_from(data, end)[0] != zlib.crc32(data[: _HEADER.size] + data[start:end]):
            raise PayloadCorrupt(f"section {kind:#04x} or the header is damaged (checksum). Fetch the payload again")
        if kind in sections or (sections and kind < max(sections)):
            raise PayloadCorrupt(f"section {kind:#04x} is repeated or out of order")
        if kind not in _NAMED and kind < OPTIONAL:
            raise PayloadUnsupported(f"section {kind:#04x} is not known to this plada. Install a newer plada")
        sections[kind] = data[at:end]
        name = _NAMED.get(kind, f"section {kind:#04x}")
        parts += [
            Part("framing", start, at - start),
            Part(name, at, length),
            Part("checksum", end, CHECK_BYTES),
        ]
        at = end + CHECK_BYTES
    if at != len(data):
        raise PayloadCorrupt(f"{len(data) - at} bytes belong to no section")
    if _LABELS not in sections:
        raise PayloadCorrupt("there is no section of labels")
    return sections, tuple(parts)


def _text(body: bytes) -> str:
    try:
        if body[:1] == b"\0":
            return body[1:].decode()
        if body[:1] == b"\1":
            return expand(body[1:], _MAX_TEXT).decode()
    except UnicodeDecodeError as err:
        raise PayloadCorrupt(f"names or notes are not UTF-8 ({err})") from err
    raise PayloadCorrupt("names or notes are of an unknown kind")
