"""TFRecord frames and protobuf fields, for any bytes and numbers; every damage is noticed."""

import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plada.errors import DataError
from plada.trainer.records import (
    _varint,
    crc32c,
    example,
    field_bytes,
    field_double,
    field_float,
    field_number,
    frame,
    masked,
    parse_example,
    read_frames,
    varint,
)

FEATURES = st.dictionaries(
    st.text(min_size=1, max_size=12), st.one_of(st.binary(max_size=300), st.integers(-(2**63), 2**63 - 1)), max_size=6
)


def slow_crc32c(data: bytes) -> int:
    """Bit by bit, as the polynomial says."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@given(st.binary(max_size=60))
def test_the_fast_crc_is_the_slow_one(data: bytes) -> None:
    assert crc32c(data) == slow_crc32c(data)


@pytest.mark.parametrize("size", [4095, 4096, 4097, 8193])
def test_the_fast_crc_over_its_blocks(size: int) -> None:
    data = bytes(number * 7 % 251 for number in range(size))
    assert crc32c(data) == slow_crc32c(data)


def test_the_crc_is_the_published_one() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C (iSCSI, RFC 3720)
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"") == 0


@given(st.integers(0, 2**64 - 1))
def test_numbers_come_back(value: int) -> None:
    data = varint(value)
    assert _varint(data, 0) == (value, len(data))
    assert len(data) == max(1, -(-value.bit_length() // 7))


def test_negative_numbers_are_twos_complements() -> None:
    assert varint(-1) == b"\xff" * 9 + b"\x01"
    assert varint(300) == b"\xac\x02"


@given(FEATURES)
def test_an_example_comes_back(features: dict[str, bytes | int]) -> None:
    assert parse_example(example(features)) == features
    assert example(dict(reversed(features.items()))) == example(features), "the order of names does not matter"


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_frames_come_back(records: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.tfrecord"
        path.write_bytes(b"".join(map(frame, records)))
        assert list(read_frames(path)) == records


@given(st.binary(min_size=1, max_size=40), st.data())
def test_every_wrong_byte_and_every_cut_is_noticed(record: bytes, data: st.DataObject) -> None:
    whole = frame(record)
    at = data.draw(st.integers(0, len(whole) - 1))
    bit = data.draw(st.integers(0, 7))
    wrong = whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]
    for damaged in (wrong, whole[: max(at, 1)]):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "x.tfrecord"
            path.write_bytes(damaged)
            with pytest.raises(DataError, match="cut or damaged"):
                list(read_frames(path))


def test_fields_are_those_of_protobuf() -> None:
    assert field_number(1, 150) == b"\x08\x96\x01"  # the example of protobuf's own documentation
    assert field_bytes(2, b"testing") == b"\x12\x07testing"
    assert field_double(1, 1.5) == b"\x09" + struct.pack("<d", 1.5)
    assert field_float(2, 1.5) == b"\x15" + struct.pack("<f", 1.5)


def test_a_stored_crc_is_turned_and_shifted() -> None:
    crc = crc32c(b"abc")
    (stored,) = struct.unpack("<I", masked(b"abc"))
    turned = (stored - 0xA282EAD8) & 0xFFFFFFFF
    assert ((turned >> 17) | (turned << 15)) & 0xFFFFFFFF == crc


@pytest.mark.parametrize("data", [b"\x08\x01", b"\x0a\x05abc", b"\x0a\x02\x08\x01"])
def test_what_is_no_example_is_refused(data: bytes) -> None:
    with pytest.raises(DataError, match="not an example that plada wrote"):
        parse_example(data)
