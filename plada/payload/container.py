"""The payload file: a header, sections, and segments behind a plan. docs/payload-format.md is the authority; where they
differ, this is wrong.

Everything is checked against the bytes really present before anything is allocated. What a section holds is not looked at
here.
"""

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from plada.errors import PayloadCorrupt, PayloadTruncated, PayloadUnsupported
from plada.payload.varints import MAX_BYTES, read_varint, varint

MAGIC = b"\x89PLD"
VERSION = 2
MAX_TOTAL = 1 << 30
MAX_IMAGES = 1 << 28
MAX_CLASSES = 0xFFFF
MAX_SERIAL = (1 << 32) - 1
ID_BYTES = 8
CHECK_BYTES = 4

LABELS, PLAN, DIFF = 0x01, 0x02, 0x03
OPTIONAL = 0x80  # types from here on may be skipped by a reader that does not know them
ABOUT, SIGNATURE = 0x81, 0xFF
CONTENTS = frozenset({LABELS, PLAN, DIFF})
SECTION_NAMES = {LABELS: "labels", PLAN: "plan", DIFF: "diff", ABOUT: "about", SIGNATURE: "signature"}

HAS_PACK, HAS_SERIAL = 1, 2

SIGNATURE_BYTES = 64
FINGERPRINT_BYTES = 4
_ED25519 = 1
_SIGNED = b"plada signature 1\0"


@dataclass(frozen=True, slots=True)
class Header:
    """`reference` images are in the reference; ids are the first 8 bytes of its key id and content id. `pack_id`: the
    first 8 bytes of the pack's, or b"". `serial` 0: none. `total`: bytes of the file it was read from."""

    reference: int
    classes: int
    key_id: bytes
    content_id: bytes
    pack_id: bytes = b""
    serial: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Some bytes of a file and what they are."""

    name: str
    offset: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Signature:
    """An Ed25519 signature (64 bytes) of `message`; `fingerprint`: first 4 bytes of SHA-256 of the public key."""

    message: bytes
    fingerprint: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Signer:
    """`sign(message)` gives 64 bytes; `fingerprint` as in Signature."""

    fingerprint: bytes
    sign: Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Container:
    """A file taken apart: bodies of sections by type; `segments` in order, None where one is damaged or not there;
    `parts` are all bytes that are there, in order."""

    header: Header
    sections: Mapping[int, bytes]
    segments: tuple[bytes | None, ...]
    parts: tuple[ByteRange, ...]
    signature: Signature | None


def write_container(
    header: Header, sections: Mapping[int, bytes], segments: Sequence[bytes] = (), signer: Signer | None = None
) -> bytes:
    """The whole file. `sections` hold about first, if there, then the content; `segments` go behind the plan."""
    rest = sum(_section_bytes(body) for body in sections.values())
    rest += sum(len(segment) + CHECK_BYTES for segment in segments)
    if signer is not None:
        rest += _section_bytes(bytes(1 + FINGERPRINT_BYTES + SIGNATURE_BYTES))
    head = _header(header, rest)
    parts = [head, *(_section(head, kind, body) for kind, body in sections.items())]
    parts += [segment + _check(head, varint(index), segment) for index, segment in enumerate(segments)]
    if signer is not None:
        known = bytes([_ED25519]) + signer.fingerprint
        prefix = bytes([SIGNATURE]) + varint(len(known) + SIGNATURE_BYTES)
        signature = signer.sign(_SIGNED + b"".join(parts) + prefix + known)
        parts.append(_section(head, SIGNATURE, known + signature))
    return b"".join(parts)


def file_size(header: Header, sections: Iterable[int], *, signed: bool = False) -> int:
    """Bytes of a file with section bodies of these lengths and no segments, without making it."""
    rest = sum(1 + len(varint(length)) + length + CHECK_BYTES for length in sections)
    if signed:
        rest += _section_bytes(bytes(1 + FINGERPRINT_BYTES + SIGNATURE_BYTES))
    return len(_header(header, rest)) + rest


def with_signature(data: bytes, signer: Signer) -> bytes:
    """The same file with a signature in place of any that it has; raises as read_container does."""
    found = read_container(data)
    sections = {kind: body for kind, body in found.sections.items() if kind != SIGNATURE}
    segments = [segment for segment in found.segments if segment is not None]
    return write_container(found.header, sections, segments, signer)


def read_container(data: bytes, *, partial: bool = False) -> Container:
    """Take a file apart, all checksums compared.

    `partial`: a file with segments may be cut off behind its plan and segments may be damaged; what follows the segments
    is then not looked at.

    Raises:
        PayloadTruncated: bytes are missing at the end.
        PayloadUnsupported: another version, or something that must be understood and is not known.
        PayloadCorrupt: anything else that contradicts the format.
    """
    header, at = read_header(data)
    if len(data) > header.total:
        raise PayloadCorrupt(f"{len(data) - header.total} stray bytes after the end of the payload")
    if len(data) < header.total and not partial:
        raise PayloadTruncated(
            f"payload is {len(data)} of {header.total} bytes. Fetch it again; of a progressive file, training and export "
            "take what is whole: --partial"
        )
    head = data[:at]
    sections: dict[int, bytes] = {}
    segments: tuple[bytes | None, ...] = ()
    signature: Signature | None = None
    parts = [ByteRange("header", 0, at)]
    while at < header.total:
        start = at
        kind, body, at = _read_section(data, start, head, header.total)
        _check_order(sections, kind)
        sections[kind] = body
        name = SECTION_NAMES.get(kind, f"section {kind:#04x}")
        parts += _parts_of([("framing", at - start - len(body) - CHECK_BYTES), (name, len(body))], start)
        if kind == SIGNATURE:
            signature = _read_signature(data[: at - CHECK_BYTES], body)
        if kind == PLAN:
            _, lengths = read_plan(body)
            if at + sum(lengths) + CHECK_BYTES * len(lengths) > header.total:
                raise PayloadCorrupt(f"the plan names {sum(lengths)} bytes of segments; the file is of {header.total}")
            parts += _parts_of([(f"segment {index}", length) for index, length in enumerate(lengths)], at)
            segments, at = _read_segments(data, at, head, lengths, partial=partial)
            if partial:
                break
    if not sections.keys() & CONTENTS:
        raise PayloadCorrupt("there is no section of labels, of segments or of changes")
    return Container(header, sections, segments, tuple(parts), signature)


def read_header(data: bytes) -> tuple[Header, int]:
    """The header of a file and the bytes that it takes; raises as read_container does."""
    _check_magic(data)
    truncated = PayloadTruncated(f"payload is {len(data)} bytes, less than its header. Fetch it again")
    if len(data) < 6:
        raise truncated
    flags, at = data[5], 6
    if flags & ~(HAS_PACK | HAS_SERIAL):
        raise PayloadUnsupported(f"payload with flags {flags:#04x}, not all known to this plada. Install a newer plada")

    def number() -> int:
        nonlocal at
        if all(byte >= 0x80 for byte in data[at : at + MAX_BYTES]) and len(data) < at + MAX_BYTES:
            raise truncated
        value, at = read_varint(data, at)
        return value

    def identity() -> bytes:
        nonlocal at
        at += ID_BYTES
        if len(data) < at:
            raise truncated
        return data[at - ID_BYTES : at]

    total, reference, classes = number(), number(), number()
    key_id, content_id = identity(), identity()
    pack_id = identity() if flags & HAS_PACK else b""
    serial = number() if flags & HAS_SERIAL else 0
    if not at < total <= MAX_TOTAL or not 0 < reference <= MAX_IMAGES or not 0 < classes <= MAX_CLASSES:
        raise PayloadCorrupt(
            f"the header names {total} bytes, {reference} images of the reference and {classes} classes, which cannot be"
        )
    if flags & HAS_SERIAL and not 0 < serial <= MAX_SERIAL:
        raise PayloadCorrupt(f"the header names the serial number {serial}; expected 1 to {MAX_SERIAL}")
    return Header(reference, classes, key_id, content_id, pack_id, serial, total), at


def _check_magic(data: bytes) -> None:
    """Refuse what is no payload, or is of another version."""
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise PayloadCorrupt("not a plada payload: it does not begin with 89 50 4C 44")
    if len(data) > len(MAGIC) and data[4] != VERSION:
        remedy = "Install a newer plada" if data[4] > VERSION else "Ask the sender to write it again"
        raise PayloadUnsupported(f"payload of version {data[4]}; this plada reads version {VERSION}. {remedy}")


def write_plan(kind: int, lengths: Sequence[int]) -> bytes:
    """Body of the plan: what the segments are, and how long each is."""
    return bytes([kind]) + varint(len(lengths)) + b"".join(map(varint, lengths))


def read_plan(body: bytes) -> tuple[int, list[int]]:
    """(kind, lengths of the segments) of a plan.

    Raises:
        PayloadCorrupt: another number of lengths than it says.
    """
    if not body:
        raise PayloadCorrupt("the plan of the segments is empty")
    count, at = read_varint(body, 1)
    lengths = []
    while at < len(body):
        length, at = read_varint(body, at)
        lengths.append(length)
    if len(lengths) != count or not count:
        raise PayloadCorrupt(
            f"the plan names {count} segments and {len(lengths)} lengths; expected as many, at least one"
        )
    return body[0], lengths


def bytes_by_kind(parts: tuple[ByteRange, ...]) -> dict[str, int]:
    """Bytes of each kind of part."""
    sizes: dict[str, int] = {}
    for part in parts:
        name = "segments" if part.name.startswith("segment ") else part.name
        sizes[name] = sizes.get(name, 0) + part.bytes
    return sizes


def _read_section(data: bytes, start: int, head: bytes, total: int) -> tuple[int, bytes, int]:
    """(type, body, position behind the checksum)."""
    truncated = PayloadTruncated(
        f"payload is {len(data)} of {total} bytes: no part of it can be used yet. Fetch it again"
    )
    if len(data) < start + 1 + MAX_BYTES and len(data) < total:
        raise truncated
    length, at = read_varint(data, start + 1)
    end = at + length
    if end + CHECK_BYTES > total:
        raise PayloadCorrupt(
            f"section {data[start]:#04x} claims {length} bytes; {max(0, total - at - CHECK_BYTES)} are there"
        )
    if end + CHECK_BYTES > len(data):
        raise truncated
    if data[end : end + CHECK_BYTES] != _check(head, data[start:end]):
        raise PayloadCorrupt(f"section {data[start]:#04x} or the header is damaged (checksum). Fetch the payload again")
    return data[start], data[at:end], end + CHECK_BYTES


def _check_order(sections: Mapping[int, bytes], kind: int) -> None:
    if kind not in SECTION_NAMES and kind < OPTIONAL:
        raise PayloadUnsupported(f"section {kind:#04x} is not known to this plada. Install a newer plada")
    if kind in sections or SIGNATURE in sections or (kind == ABOUT and sections):
        raise PayloadCorrupt(f"section {kind:#04x} is repeated or out of order")
    if kind in CONTENTS and sections.keys() & CONTENTS:
        raise PayloadCorrupt(f"section {kind:#04x} is a second content")


def _read_segments(
    data: bytes, at: int, head: bytes, lengths: Sequence[int], *, partial: bool
) -> tuple[tuple[bytes | None, ...], int]:
    """(segments, None for one that is not whole; position behind them)."""
    segments: list[bytes | None] = []
    for index, length in enumerate(lengths):
        body, check = data[at : at + length], data[at + length : at + length + CHECK_BYTES]
        whole = check == _check(head, varint(index), body)
        if not whole and not partial:
            raise PayloadCorrupt(
                f"segment {index} is damaged (checksum). Fetch the payload again, or take what is whole: --partial"
            )
        segments.append(body if whole else None)
        at += length + CHECK_BYTES
    return tuple(segments), at


def _read_signature(data: bytes, body: bytes) -> Signature:
    """`data` ends where the signature does."""
    if len(body) != 1 + FINGERPRINT_BYTES + SIGNATURE_BYTES or body[0] != _ED25519:
        raise PayloadUnsupported("the signature is of a kind that is not known to this plada. Install a newer plada")
    return Signature(_SIGNED + data[:-SIGNATURE_BYTES], body[1 : 1 + FINGERPRINT_BYTES], body[-SIGNATURE_BYTES:])


def _parts_of(named: Iterable[tuple[str, int]], at: int) -> list[ByteRange]:
    """Each with the checksum that follows a section's body or a segment."""
    parts = []
    for name, length in named:
        parts.append(ByteRange(name, at, length))
        at += length
        if name != "framing":
            parts.append(ByteRange("checksum", at, CHECK_BYTES))
            at += CHECK_BYTES
    return parts


def _header(header: Header, rest: int) -> bytes:
    """The header of a file with `rest` bytes behind it; its own length is in the number of bytes that it names."""
    flags = HAS_PACK * bool(header.pack_id) | HAS_SERIAL * bool(header.serial)
    start = MAGIC + bytes([VERSION, flags])
    end = varint(header.reference) + varint(header.classes) + header.key_id[:ID_BYTES] + header.content_id[:ID_BYTES]
    end += header.pack_id[:ID_BYTES] + (varint(header.serial) if header.serial else b"")
    total = b""
    while len(total) < (length := len(varint(len(start) + len(total) + len(end) + rest))):
        total = bytes(length)
    total = varint(len(start) + len(total) + len(end) + rest)
    return start + total + end


def _section(head: bytes, kind: int, body: bytes) -> bytes:
    # The header goes into every checksum: it costs no bytes of its own and is still covered.
    prefix = bytes([kind]) + varint(len(body))
    return prefix + body + _check(head, prefix, body)


def _section_bytes(body: bytes) -> int:
    return 1 + len(varint(len(body))) + len(body) + CHECK_BYTES


def _check(*pieces: bytes) -> bytes:
    value = 0
    for piece in pieces:
        value = zlib.crc32(piece, value)
    return value.to_bytes(CHECK_BYTES, "little")
