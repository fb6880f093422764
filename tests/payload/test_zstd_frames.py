"""zstd frames without their magic number: what is made comes back, and nothing grows past its limit."""

import struct
import tracemalloc

import pytest

from plada.errors import PayloadCorrupt
from plada.payload.zstd_frames import compress, expand


@pytest.mark.parametrize("raw", [b"", b"x", b"abc" * 5000, bytes(range(256)) * 40])
def test_a_frame_comes_back(raw: bytes) -> None:
    assert expand(compress(raw), len(raw)) == raw


def test_more_than_the_limit_is_refused() -> None:
    with pytest.raises(PayloadCorrupt, match="more than the 99 bytes"):
        expand(compress(bytes(100)), 99)


def test_a_bomb_does_not_go_off() -> None:
    block = struct.pack("<I", (131_072 << 3) | 2)[:3] + b"\0"  # a run-length block of 128 KiB
    tracemalloc.start()
    with pytest.raises(PayloadCorrupt, match="more than"):
        expand(b"\x00\x88" + block * 40_000, 1 << 20)
    assert tracemalloc.get_traced_memory()[1] < 32 << 20
    tracemalloc.stop()


def test_a_frame_ends_where_its_field_does() -> None:
    frame = compress(b"abc" * 5000)
    for bad in (frame[:-1], b"", frame + b"\0", frame + bytes(1000), b"not zstd at all, but long enough"):
        with pytest.raises(PayloadCorrupt):
            expand(bad, 1 << 20)
