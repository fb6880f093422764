"""TFRecord frames and the few kinds of protobuf fields that tf.train.Example and TensorBoard's events need.

A frame is: length (uint64 LE), masked CRC-32C of the length, the bytes, their masked CRC-32C (tensorflow/core/lib/io/
record_writer.h). CRC-32C is Castagnoli's polynomial, which zlib's crc32 is not.
"""

import functools
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from plada.errors import DataError

_CASTAGNOLI = 0x82F63B78  # bits reversed
_BLOCK = 4096  # bytes that are taken at a time


@functools.cache
def _tables() -> npt.NDArray[np.uint32]:
    """uint32 [_BLOCK * 256]: at place * 256 + b, what byte b at that place of a block adds to the block's CRC."""
    row = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        row = np.where(row & 1, (row >> 1) ^ np.uint32(_CASTAGNOLI), row >> 1)
    first, tables = row, np.empty((_BLOCK, 256), np.uint32)
    for place in range(_BLOCK - 1, -1, -1):
        tables[place] = row
        row = first[row & 0xFF] ^ (row >> 8)  # followed by one more zero byte
    return tables.reshape(-1)


def crc32c(data: bytes) -> int:
    """CRC-32C of bytes. It is linear: each byte's share is looked up by its place, and all are added (a hundred times as
    fast as byte after byte in Python)."""
    tables, crc = _tables(), 0xFFFFFFFF
    places = np.arange(0, _BLOCK * 256, 256)
    for start in range(0, len(data), _BLOCK):
        block = np.zeros(max(len(data[start : start + _BLOCK]), 4), np.uint8)
        size = min(len(data) - start, _BLOCK)
        block[:size] = np.frombuffer(data, np.uint8, size, start)
        if size < 4:  # the state reaches beyond the data
            for byte in block[:size].tolist():
                crc = int(tables[(_BLOCK - 1) * 256 + ((crc ^ byte) & 255)]) ^ (crc >> 8)
            break
        block[:4] ^= np.frombuffer(struct.pack("<I", crc), np.uint8)
        crc = int(np.bitwise_xor.reduce(tables[places[_BLOCK - size :] + block]))
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    """The CRC as TFRecords store it: rotated and shifted, so that a CRC of stored CRCs is no trouble."""
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def frame(data: bytes) -> bytes:
    """One record of a TFRecord file."""
    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def read_frames(path: Path) -> Iterator[bytes]:
    """The records of a TFRecord file, both checksums compared.

    Raises:
        DataError: cut, or damaged.
    """
    with path.open("rb") as file:
        while head := file.read(12):
            if len(head) < 12 or masked(head[:8]) != head[8:]:
                raise DataError(f"{path}: a record's length is cut or damaged. Export again")
            (length,) = struct.unpack("<Q", head[:8])
            data, check = file.read(length), file.read(4)
            if len(data) < length or masked(data) != check:
                raise DataError(f"{path}: a record is cut or damaged. Export again")
            yield data


def varint(value: int) -> bytes:
    """Base 128, low groups first; negative numbers as their 64-bit two's complement."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def field_number(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def field_double(number: int, value: float) -> bytes:
    return varint(number << 3 | 1) + struct.pack("<d", value)


def field_bytes(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def field_float(number: int, value: float) -> bytes:
    return varint(number << 3 | 5) + struct.pack("<f", value)


def example(features: Mapping[str, bytes | int]) -> bytes:
    """A tf.train.Example: each feature a list of one value, bytes or int64, in order of name."""
    entries = []
    for name in sorted(features):
        value = features[name]
        # Feature: bytes_list = 1, int64_list = 3 (packed), each with its values as field 1
        kind, body = (1, value) if isinstance(value, bytes) else (3, varint(value))
        feature = field_bytes(kind, field_bytes(1, body))
        entries.append(field_bytes(1, field_bytes(1, name.encode()) + field_bytes(2, feature)))
    return field_bytes(1, b"".join(entries))


def parse_example(data: bytes) -> dict[str, bytes | int]:
    """What `example` made; for readers without TensorFlow, and the tests."""
    found: dict[str, bytes | int] = {}
    ((_, features),) = _fields(data)
    for _, entry in _fields(features):
        (_, name), (_, feature) = _fields(entry)
        ((kind, values),) = _fields(feature)
        ((_, value),) = _fields(values)
        found[name.decode()] = value if kind == 1 else _signed(value)
    return found


def _fields(data: bytes) -> Iterable[tuple[int, bytes]]:
    """(number, bytes) of the length-delimited fields of a message."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        length, at = _varint(data, at)
        if tag & 7 != 2 or at + length > len(data):
            raise DataError("a record is not an example that plada wrote")
        yield tag >> 3, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 128:
            return value, at


def _signed(data: bytes) -> int:
    value, _ = _varint(data, 0)
    return value - (1 << 64) if value >> 63 else value
