"""Files of version 1 in the field: read for good, bad ones named."""

import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest

from plada.errors import PayloadCorrupt, PayloadError, PayloadTruncated, PayloadUnsupported
from plada.payload.coders.registry import encode_body
from plada.payload.frames import compress
from plada.payload.payload import parse_payload
from plada.payload.shared_context import SharedContext
from plada.payload.varints import varint
from plada.payload.version1 import read_version1
from tests.payload.payloads import CONTENT, KEY, made, same

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
LABELS, NAMES, NOTES = 0x01, 0x81, 0x82
BODY = encode_body(made().positions, made().labels, images=1000, classes=3, coder="gaps-zstd", side=SharedContext())


def file1(*sections: tuple[int, bytes], classes: int = 3, reference: int = 1000, count: int | None = None) -> bytes:
    """A file of version 1 whose checksums are right."""
    bodies = [bytes([kind]) + varint(len(body)) + body for kind, body in sections]
    total = 32 + sum(len(body) + 4 for body in bodies)
    number = len(sections) if count is None else count
    header = struct.pack("<4sBBIIH8s8s", b"\x89PLD", 1, number, total, reference, classes, KEY, CONTENT)
    return header + b"".join(body + struct.pack("<I", zlib.crc32(header + body)) for body in bodies)


SMALL = file1((LABELS, BODY), (NAMES, b"\0ant\0bee\0cat"), (NOTES, b'\0{"recipe": {"mirror": false}}'))


@pytest.mark.parametrize("coder", ["gaps-zstd", "bitmap-zstd"])
def test_files_in_the_field_stay_readable(coder: str) -> None:
    expected = np.load(GOLDEN / f"v1-{coder}.npz")
    file = parse_payload((GOLDEN / f"v1-{coder}.plada").read_bytes())
    assert (file.coder, file.payload.version, file.payload.serial) == (coder, 1, 0)
    assert np.array_equal(file.payload.positions, expected["positions"])
    assert np.array_equal(file.payload.labels, expected["labels"])
    assert file.payload.classes == tuple(str(c) for c in expected["classes"])
    assert file.payload.notes == {"target": "menu", "recipe": {"epochs": 10}}


def test_the_helper_makes_what_the_reader_accepts() -> None:
    file = parse_payload(SMALL)
    assert same(file.payload, made())
    assert sum(file.sections.values()) == file.bytes == len(SMALL)
    assert file.sections["labels"] == len(BODY)
    assert parse_payload(file1((LABELS, BODY))).payload.classes == ("0", "1", "2")
    packed = file1((LABELS, BODY), (NAMES, b"\1" + compress(b"ant\0bee\0cat")))
    assert parse_payload(packed).payload.classes == ("ant", "bee", "cat")


def test_every_truncation_is_named() -> None:
    for cut in range(len(SMALL)):
        with pytest.raises(PayloadTruncated):
            parse_payload(SMALL[:cut])


def test_every_flipped_bit_is_noticed() -> None:
    for bit in range(8 * len(SMALL)):
        bad = bytearray(SMALL)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PayloadError):
            parse_payload(bytes(bad))


def test_trailing_bytes_are_refused() -> None:
    with pytest.raises(PayloadCorrupt, match="2 stray bytes"):
        parse_payload(SMALL + b"\0\0")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (file1(), "names no section"),
        (file1((LABELS, BODY), classes=0), "names no section"),
        (file1((LABELS, BODY), reference=0), "names no section"),
        (SMALL[:6] + struct.pack("<I", (1 << 30) + 1) + SMALL[10:], "impossible length"),
        (file1((LABELS, BODY), count=2), "names 2 sections; there are 1"),
        (file1((LABELS, BODY), (NAMES, b"\0a\0b\0c"), count=1), "belong to no section"),
        (file1((LABELS, BODY), (LABELS, BODY)), "repeated or out of order"),
        (file1((NOTES, b"\0{}"), (LABELS, BODY)), "repeated or out of order"),
        (file1((NOTES, b"\0{}")), "no section of labels"),
        (file1((LABELS, b"\3" + BODY[1:])), "coder 3, which version 1 does not have"),
        (file1((LABELS, b"\1\0\0")), "no image is named"),
        (file1((LABELS, b"")), "empty"),
        (file1((LABELS, BODY), classes=1), "beyond|labels"),
        (file1((LABELS, BODY), reference=500), "beyond"),
        (file1((LABELS, BODY), reference=(1 << 32) - 1), "reference images"),
        (file1((LABELS, BODY), (NAMES, b"\0a\0b")), "class names"),
        (file1((LABELS, BODY), (NAMES, b"\0a\0b\0b")), "class names"),
        (file1((LABELS, BODY), (NOTES, b"\0[1]")), "not a JSON object"),
        (file1((LABELS, BODY), (NOTES, b"\0{")), "not JSON"),
        (file1((LABELS, BODY), (NOTES, b"")), "unknown kind"),
        (file1((LABELS, BODY), (NOTES, b"\2x")), "unknown kind"),
        (file1((LABELS, BODY), (NOTES, b"\1not zstd")), "decompress"),
        (file1((LABELS, BODY), (NOTES, b"\0\xff\xfe")), "not UTF-8"),
    ],
)
def test_anything_else_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(PayloadCorrupt, match=words):
        parse_payload(data)


def test_a_section_that_claims_more_than_the_file_is_refused() -> None:
    header = file1((LABELS, BODY))[:32]
    data = header + b"\1" + varint((4 << 30) - 1) + bytes(len(file1((LABELS, BODY))) - 38)
    with pytest.raises(PayloadCorrupt, match="claims 4294967295 bytes"):
        parse_payload(data)


def test_an_unknown_section_is_skipped_only_if_it_may_be() -> None:
    assert len(parse_payload(file1((LABELS, BODY), (0xF0, b"from the future"))).payload) == 60
    with pytest.raises(PayloadUnsupported, match="0x02"):
        parse_payload(file1((LABELS, BODY), (0x02, b"from the future")))
    assert read_version1(file1((LABELS, BODY), (0xF0, b"new"))).parts[-2].name == "section 0xf0"


def test_a_bomb_does_not_go_off() -> None:
    """Streams that would make 4 GB, and claims of a quarter of a billion images, cost next to nothing."""
    block = struct.pack("<I", (131_072 << 3) | 2)[:3] + b"\0"  # a zstd run-length block of 128 KiB
    frame = b"\x00\x88" + block * 40_000
    tracemalloc.start()
    for images in (1 << 28, 60):
        body = b"\x01" + varint(images) + varint(len(frame)) + frame
        with pytest.raises(PayloadCorrupt):
            parse_payload(file1((LABELS, body)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20
