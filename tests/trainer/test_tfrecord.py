"""TFRecords are those of the package `tfrecord`, for any bytes and numbers, in an order that is always the same."""

import struct

from hypothesis import given
from hypothesis import strategies as st
from tfrecord import TFRecordWriter
from tfrecord.example_pb2 import BytesList, Example, Feature, Features, Int64List

from plada.trainer.tfrecord import example, record

FEATURES = st.dictionaries(
    st.text(min_size=1, max_size=12), st.one_of(st.binary(max_size=300), st.integers(-(2**63), 2**63 - 1)), max_size=6
)


def feature(value: bytes | int) -> Feature:
    if isinstance(value, bytes):
        return Feature(bytes_list=BytesList(value=[value]))
    return Feature(int64_list=Int64List(value=[value]))


@given(FEATURES)
def test_an_example_is_protobufs(features: dict[str, bytes | int]) -> None:
    theirs = Example(features=Features(feature={name: feature(value) for name, value in features.items()}))
    assert Example.FromString(example(features)) == theirs
    assert example(dict(reversed(features.items()))) == example(features), "the order of names does not matter"


def test_an_example_is_as_published() -> None:
    # Example { features { feature { "image": bytes_list ["ab"], "label": int64_list [7] } } }, encoded by hand
    made = "0a21 0a0f 0a05 696d616765 1206 0a04 0a02 6162 0a0e 0a05 6c6162656c 1205 1a03 0a01 07"
    assert example({"label": 7, "image": b"ab"}) == bytes.fromhex(made)


@given(st.binary(max_size=200))
def test_a_record_has_the_packages_checksums(data: bytes) -> None:
    length = struct.pack("<Q", len(data))
    crc = TFRecordWriter.masked_crc
    assert record(data) == length + crc(length) + data + crc(data)
