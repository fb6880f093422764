"""zstd frames without their constant magic number, compressed, and expanded within limits."""

import zstandard

from plada.errors import PayloadCorrupt

LEVEL = 19
_MAGIC = b"\x28\xb5\x2f\xfd"  # the same for every frame, so it is not sent
_STEP = 256  # a run-length block of 4 bytes makes at most 128 KiB: 8 MiB a step at worst


def compress(raw: bytes, level: int = LEVEL) -> bytes:
    """One zstd frame, by default at the highest ordinary level, without its magic number, size or checksum."""
    frame = zstandard.ZstdCompressor(level=level, write_content_size=False, write_checksum=False).compress(raw)
    return frame[len(_MAGIC) :]


def expand(frame: bytes, limit: int) -> bytes:
    """Undo compress, refusing to produce more than `limit` bytes; fed in small steps, so that no bomb gets far.

    Raises:
        PayloadCorrupt: not one whole frame, or too much in it.
    """
    stream = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
    raw = bytearray()
    try:
        raw += stream.decompress(_MAGIC)
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
