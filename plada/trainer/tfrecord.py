"""TFRecord files of tf.train.Example, as TensorFlow reads them.

The package `tfrecord` is not used: it writes the features of an example in another order in every run, and cannot be loaded
beside TensorFlow (docs/decisions.md). The checksums are google-crc32c's.
"""

import struct
from collections.abc import Mapping


def record(data: bytes) -> bytes:
    """One record of a TFRecord file: length (uint64), its checksum, the data, their checksum."""
    length = struct.pack("<Q", len(data))
    return length + _masked_crc(length) + data + _masked_crc(data)


def example(features: Mapping[str, bytes | int]) -> bytes:
    """A serialised tf.train.Example: each feature a list of one value, bytes or int64, in order of their names."""
    entries = []
    for name, value in sorted(features.items()):
        # Feature: bytes_list is field 1, int64_list field 3; the values of a list are its field 1, integers packed.
        kind, values = (1, value) if isinstance(value, bytes) else (3, _varint(value))
        entries.append(_field(1, _field(1, name.encode()) + _field(2, _field(kind, _field(1, values)))))
    return _field(1, b"".join(entries))


def _masked_crc(data: bytes) -> bytes:
    """CRC-32C as TFRecords store it, rotated and shifted (tensorflow/core/lib/hash/crc32c.h)."""
    from google_crc32c import value

    crc = value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _field(number: int, data: bytes) -> bytes:
    """A length-delimited field of a protobuf message."""
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    """Groups of 7 bits, lowest first; a negative number as its 64-bit two's complement."""
    value &= (1 << 64) - 1
    groups = bytearray()
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    groups.append(value)
    return bytes(groups)
