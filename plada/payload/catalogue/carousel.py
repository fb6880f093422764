"""A carousel: files of a catalogue as frames of one size, to be sent again and again over a link without a way back.

The frames carry an erasure code, RaptorQ (RFC 6330): whichever of them arrive, about as many as the content needs are enough.
docs/catalogue-format.md has the bytes; where they differ, this is wrong.
"""

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plada.common.checksums import short_digest
from plada.common.failures import panics_as_errors
from plada.common.packages import require
from plada.errors import PayloadCorrupt, PayloadTruncated, PayloadUnsupported, RequestError

MAGIC = b"\x89PLF"
VERSION = 1
FRAME_BYTES = 256
MIN_FRAME, MAX_FRAME = 96, 32_768
MAX_CONTENT = 8 << 20  # bytes, for which RFC 6330 has one sub-block
MAX_SYMBOLS = 56_403  # of a source block, by RFC 6330
MAX_CAPTURE = 1 << 28  # bytes of a file of frames
FILES = "files/"  # before the names of files that are named by their content

_HEAD = struct.Struct(
    "<4sBHI8s"
)  # magic, version, frame bytes, content bytes, digest; then 4 bytes that number the symbol
_NUMBER, _CHECK = 4, 4
_ALIGN = 8  # bytes: symbols are a multiple of it
_SPARE = 8  # frames above a quarter more than the content needs
_PART = struct.Struct("<BI")  # bytes of a name and of a file


@dataclass(frozen=True, slots=True)
class CarouselFrames:
    """The frames of a carousel: `data`, `count` frames of `frame_bytes`; any `needed` of them, or two or three more, are enough."""

    data: bytes
    frame_bytes: int
    count: int
    needed: int


@dataclass(slots=True)
class _Heard:
    """Frames of one carousel: symbols by their number, in the order in which they came."""

    frame_bytes: int
    size: int
    digest: bytes
    symbols: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def needed(self) -> int:
        return -(-self.size // _symbol_bytes(self.frame_bytes))


def write_carousel(files: Mapping[str, bytes], frame_bytes: int = FRAME_BYTES) -> CarouselFrames:
    """The frames of files, by name: one turn of the carousel, a quarter more of them than are needed. The same input gives the same
    bytes.

    Raises:
        RequestError: frames of that size cannot carry it. MissingExtra: no raptorq.
    """
    require("raptorq", extra="carousel", purpose="a carousel")
    import raptorq

    if not MIN_FRAME <= frame_bytes <= MAX_FRAME:
        raise RequestError(f"frames of {frame_bytes} bytes: expected {MIN_FRAME} to {MAX_FRAME}")
    content = _join(files)
    if len(content) > MAX_CONTENT:
        raise RequestError(f"a carousel of {len(content)} bytes: at most {MAX_CONTENT} are sent. Name fewer tasks")
    size = _symbol_bytes(frame_bytes)
    needed = -(-len(content) // size)
    packets = (
        raptorq.Encoder.with_defaults(content, size).get_encoded_packets(-(-needed // 4) + _SPARE)
        if needed <= MAX_SYMBOLS
        else []
    )
    if not packets or any(packet[0] for packet in packets):  # of another source block
        raise RequestError(
            f"a carousel of {len(content)} bytes in frames of {frame_bytes}: these are too many frames. Make them larger"
        )
    head = _HEAD.pack(MAGIC, VERSION, frame_bytes, len(content), _digest(content))
    data = b"".join(_checked((head + packet).ljust(frame_bytes - _CHECK, b"\0")) for packet in packets)
    return CarouselFrames(data, frame_bytes, len(packets), needed)


def read_carousel(path: Path) -> dict[str, bytes]:
    """The files of the carousel whose frames came last. Frames that are damaged, doubled, or of another carousel do no harm, nor
    does what lies between them.

    Raises:
        RequestError: it cannot be read, or is too long. PayloadTruncated: too few frames came. PayloadCorrupt: no frame, or the
            content is not what it is to be. PayloadUnsupported: of a newer format. MissingExtra: no raptorq.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CAPTURE + 1)
    except OSError as err:
        raise RequestError(f"{path}: cannot be read ({err.strerror})") from err
    if len(data) > MAX_CAPTURE:
        raise RequestError(
            f"{path}: over {MAX_CAPTURE} bytes. Keep the last part of it: a turn of the carousel is enough"
        )
    heard = _listen(data, path)
    if not heard:
        raise PayloadCorrupt(
            f"{path}: is a file, and has no whole frame of a carousel; expected frames, or the folder or address of a catalogue. Receive "
            "it again, or name the catalogue"
        )
    for each in heard:
        content = _decode(each)
        if content is not None:
            return _split(content, path)
    best = max(heard, key=lambda each: len(each.symbols) / each.needed)
    if len(best.symbols) > best.needed + _SPARE:
        raise PayloadCorrupt(
            f"{path}: {len(best.symbols)} frames came, and do not make what they promise: somebody has sent wrong ones among them. "
            "Receive it again"
        )
    raise PayloadTruncated(
        f"{path}: {len(best.symbols)} different frames came; {best.needed} or a few more are needed. Receive more of them, from any "
        "turn, into the same file"
    )


def _symbol_bytes(frame_bytes: int) -> int:
    return (frame_bytes - _HEAD.size - _NUMBER - _CHECK) // _ALIGN * _ALIGN


def _digest(content: bytes) -> bytes:
    return bytes.fromhex(short_digest(content))[:8]


def _checked(frame: bytes) -> bytes:
    return frame + zlib.crc32(frame).to_bytes(_CHECK, "little")


def _listen(data: bytes, path: Path) -> list[_Heard]:
    """What came of each carousel, the one that was heard last first."""
    heard: dict[bytes, _Heard] = {}
    for frame in _frames(data, path):
        _, _, frame_bytes, size, digest = _HEAD.unpack_from(frame)
        name = frame[: _HEAD.size]
        one = heard.pop(name, None) or _Heard(frame_bytes, size, digest)
        heard[name] = one  # now the last
        body = frame[_HEAD.size : _HEAD.size + _NUMBER + _symbol_bytes(frame_bytes)]
        one.symbols.setdefault(body[:_NUMBER], body)
    return list(reversed(heard.values()))


def _frames(data: bytes, path: Path) -> Iterator[bytes]:
    """The frames that are whole. Raises PayloadUnsupported: they are of a newer format."""
    at = data.find(MAGIC)
    while 0 <= at <= len(data) - _HEAD.size:
        _, version, frame_bytes, size, _ = _HEAD.unpack_from(data, at)
        frame = data[at : at + frame_bytes]
        right = MIN_FRAME <= frame_bytes == len(frame) and frame == _checked(frame[:-_CHECK])
        if right and version > VERSION:
            raise PayloadUnsupported(
                f"{path}: frames of version {version}; this plada reads {VERSION}. Install a newer plada"
            )
        # The one source block has the number 0.
        right = (
            right
            and version == VERSION
            and frame_bytes <= MAX_FRAME
            and 0 < size <= MAX_CONTENT
            and not frame[_HEAD.size]
        )
        if right:
            yield frame
        at = data.find(MAGIC, at + (frame_bytes if right else 1))


def _decode(heard: _Heard) -> bytes | None:
    """The content; None where too few frames came, or wrong ones. Memory is taken for no more than came."""
    if len(heard.symbols) < heard.needed:
        return None
    require("raptorq", extra="carousel", purpose="a carousel")
    import raptorq

    try:
        with panics_as_errors():
            decoder: Any = raptorq.Decoder.with_defaults(heard.size, _symbol_bytes(heard.frame_bytes))
            for packet in heard.symbols.values():
                content: bytes | None = decoder.decode(packet)
                if content is not None:
                    return content if _digest(content) == heard.digest else None
    except RuntimeError:  # of frames that somebody made up
        pass
    return None


def _join(files: Mapping[str, bytes]) -> bytes:
    """Files one after another: what is named by its content needs no name."""
    parts = []
    for name, data in files.items():
        short = b"" if name == FILES + short_digest(data) else name.encode()
        parts += [_PART.pack(len(short), len(data)), short, data]
    return b"".join(parts)


def _split(content: bytes, path: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    at = 0
    while at < len(content):
        try:
            letters, size = _PART.unpack_from(content, at)
            name = content[at + _PART.size : at + _PART.size + letters].decode("ascii")
        except (struct.error, UnicodeDecodeError) as err:
            raise PayloadCorrupt(f"{path}: what its frames carry is no list of files. Ask its sender") from err
        at += _PART.size + letters
        data = content[at : at + size]
        at += size
        if at > len(content):
            raise PayloadCorrupt(f"{path}: what its frames carry ends within a file. Ask its sender")
        files[name or FILES + short_digest(data)] = data
    return files
