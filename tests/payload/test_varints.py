"""Numbers of as few bytes as they need, in one way only."""

import pytest

from plada.errors import PayloadCorrupt
from plada.payload.varints import read_varint, varint


def test_numbers_come_back() -> None:
    for value in (0, 1, 127, 128, 300, 16_383, 16_384, 2**32, 2**35 - 1):
        assert read_varint(b"?" + varint(value) + b"\xff", 1) == (value, 1 + len(varint(value)))


def test_bytes_never_change() -> None:
    assert (varint(0), varint(127), varint(128), varint(300)) == (b"\0", b"\x7f", b"\x80\1", b"\xac\2")


@pytest.mark.parametrize("bad", [b"", b"\x80", b"\x80\x00", b"\xff\xff\xff\xff\xff\x01", b"\xff\xff\xff\xff\xff"])
def test_what_does_not_end_or_is_longer_than_needed_is_refused(bad: bytes) -> None:
    with pytest.raises(PayloadCorrupt, match="varint"):
        read_varint(bad, 0)
