"""The container: every byte belongs to something, and nothing is believed before it is checked."""

import zlib

import pytest

from plada.errors import PayloadCorrupt, PayloadError, PayloadTruncated, PayloadUnsupported
from plada.payload.container import (
    ABOUT,
    DIFF,
    LABELS,
    MAX_IMAGES,
    PLAN,
    SIGNATURE,
    Header,
    Signer,
    bytes_by_kind,
    file_size,
    read_container,
    read_header,
    read_plan,
    with_signature,
    write_container,
    write_plan,
)
from plada.payload.varints import varint
from tests.payload.payloads import CONTENT, KEY

HEADER = Header(1000, 3, KEY, CONTENT)
FULL = Header(1000, 3, KEY, CONTENT, bytes(range(16, 24)), 7)
SIGNER = Signer(b"abcd", lambda message: zlib.crc32(message).to_bytes(64, "big"))
SMALL = write_container(HEADER, {LABELS: b"labels"})
LARGE = write_container(FULL, {ABOUT: b"about", PLAN: write_plan(0, [5, 0, 7])}, [b"first", b"", b"seventh"], SIGNER)


def sealed(head: bytes, *sections: tuple[int, bytes]) -> bytes:
    """A file of a header without its number of bytes (one byte at offset 6) and sections, all checksums right."""
    total = len(head) + 1 + sum(len(body) + 6 for _, body in sections)
    head = head[:6] + bytes([total]) + head[6:]
    return head + b"".join(
        (prefix := bytes([kind, len(body)]) + body) + zlib.crc32(head + prefix).to_bytes(4, "little")
        for kind, body in sections
    )


HEAD = b"\x89PLD\2\0" + varint(1000) + b"\3" + KEY + CONTENT


def test_bytes_never_change() -> None:
    head = b"\x89PLD\2\0" + bytes([len(SMALL)]) + b"\xe8\7\3" + KEY + CONTENT
    body = b"\1\6labels"
    assert head + body + zlib.crc32(head + body).to_bytes(4, "little") == SMALL == sealed(HEAD, (LABELS, b"labels"))
    head = b"\x89PLD\2\3" + varint(len(LARGE)) + b"\xe8\7\3" + KEY + CONTENT + bytes(range(16, 24)) + b"\7"
    assert LARGE.startswith(head + b"\x81\5about")
    plan = b"\2\5\0\3\5\0\7"
    segments = [varint(i) + body for i, body in enumerate((b"first", b"", b"seventh"))]
    after = plan + zlib.crc32(head + plan).to_bytes(4, "little")
    after += b"".join(s[1:] + zlib.crc32(head + s).to_bytes(4, "little") for s in segments)
    signed = LARGE[: LARGE.index(after) + len(after)] + b"\xff\x45\1abcd"
    assert LARGE[: len(signed)] == signed
    assert LARGE[len(signed) : -4] == zlib.crc32(b"plada signature 1\0" + signed).to_bytes(64, "big")


def test_a_container_comes_back() -> None:
    found = read_container(LARGE)
    assert found.header == Header(1000, 3, KEY, CONTENT, bytes(range(16, 24)), 7, len(LARGE))
    assert found.sections[ABOUT] == b"about"
    assert found.segments == (b"first", b"", b"seventh")
    assert found.signature is not None
    assert SIGNER.sign(found.signature.message) == found.signature.signature
    assert found.signature.fingerprint == b"abcd"
    assert read_container(SMALL).signature is None


def test_every_byte_belongs_to_one_part() -> None:
    for data in (SMALL, LARGE, sealed(HEAD, (0xF0, b"new"), (LABELS, b""))):
        parts = read_container(data).parts
        assert [part.offset for part in parts] == [sum(p.bytes for p in parts[:n]) for n in range(len(parts))]
        assert sum(bytes_by_kind(parts).values()) == len(data)
    assert bytes_by_kind(read_container(LARGE).parts)["segments"] == 12


@pytest.mark.parametrize("length", [0, 1, 80, 90, 91, 92, 93, 94, 100, 127, 128, 16_000, 16_250, 16_384, 3_000_000])
@pytest.mark.parametrize("header", [HEADER, FULL])
def test_the_length_is_that_of_the_file_and_known_without_it(length: int, header: Header) -> None:
    data = write_container(header, {ABOUT: b"x", LABELS: bytes(length)})
    assert read_container(data).header.total == len(data) == file_size(header, [1, length])
    signed = write_container(header, {LABELS: bytes(length)}, signer=SIGNER)
    assert len(signed) == file_size(header, [length], signed=True)


def test_signing_again_replaces_a_signature_and_keeps_the_rest() -> None:
    other = Signer(b"efgh", lambda message: bytes(64))
    found = read_container(with_signature(LARGE, other))
    assert (found.sections[ABOUT], found.segments) == (b"about", (b"first", b"", b"seventh"))
    assert found.signature is not None
    assert found.signature.fingerprint == b"efgh"
    assert with_signature(with_signature(LARGE, other), SIGNER) == LARGE
    assert with_signature(SMALL, SIGNER) == write_container(HEADER, {LABELS: b"labels"}, signer=SIGNER)


@pytest.mark.parametrize("data", [SMALL, LARGE])
def test_every_truncation_is_named(data: bytes) -> None:
    for cut in range(len(data)):
        with pytest.raises(PayloadTruncated):
            read_container(data[:cut])


@pytest.mark.parametrize("data", [SMALL, LARGE])
def test_every_flipped_bit_is_noticed(data: bytes) -> None:
    for bit in range(8 * len(data)):
        bad = bytearray(data)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PayloadError):
            read_container(bytes(bad))


def test_a_part_of_a_file_with_segments_is_worth_something() -> None:
    begin = LARGE.index(b"first")
    for cut in range(len(LARGE)):
        if cut < begin:
            with pytest.raises(PayloadTruncated):
                read_container(LARGE[:cut], partial=True)
        else:
            found = read_container(LARGE[:cut], partial=True).segments
            whole = (cut >= begin + 9) + (cut >= begin + 13) + (cut >= begin + 24)
            assert found == (b"first", b"", b"seventh")[:whole] + (None,) * (3 - whole)


def test_a_damaged_segment_costs_itself_alone() -> None:
    begin = LARGE.index(b"first")
    for place in range(begin, len(LARGE)):
        bad = bytearray(LARGE)
        bad[place] ^= 0x55
        found = read_container(bytes(bad), partial=True).segments
        lost = 0 if place < begin + 9 else 1 if place < begin + 13 else 2 if place < begin + 24 else None
        assert found == tuple(None if n == lost else s for n, s in enumerate((b"first", b"", b"seventh")))
        with pytest.raises(PayloadCorrupt):
            read_container(bytes(bad))


def test_segments_that_changed_places_are_noticed() -> None:
    data = write_container(HEADER, {PLAN: write_plan(0, [2, 2])}, [b"ab", b"cd"])
    at = data.index(b"ab")
    swapped = data[:at] + data[at + 6 : at + 12] + data[at : at + 6]
    assert read_container(swapped, partial=True).segments == (None, None)


def test_without_segments_a_part_is_worth_nothing() -> None:
    for cut in range(len(SMALL)):
        with pytest.raises(PayloadTruncated):
            read_container(SMALL[:cut], partial=True)
    assert read_container(SMALL, partial=True) == read_container(SMALL)


def test_trailing_bytes_are_refused() -> None:
    for partial in (False, True):
        with pytest.raises(PayloadCorrupt, match="2 stray bytes"):
            read_container(SMALL + b"\0\0", partial=partial)


def test_other_files_are_not_payloads() -> None:
    for data in (b"PK\x03\x04" + bytes(100), b"\x89PNG\r\n\x1a\n" + bytes(100), b"P"):
        with pytest.raises(PayloadCorrupt, match="not a plada payload"):
            read_container(data)


@pytest.mark.parametrize(("version", "remedy"), [(3, "Install a newer"), (1, "write it again"), (0, "write it again")])
def test_another_version_is_told_apart_from_damage(version: int, remedy: str) -> None:
    with pytest.raises(PayloadUnsupported, match=f"payload of version {version}; this plada reads version 2.*{remedy}"):
        read_container(SMALL[:4] + bytes([version]) + SMALL[5:])


def test_unknown_flags_are_told_apart_from_damage() -> None:
    with pytest.raises(PayloadUnsupported, match="flags 0x04"):
        read_container(SMALL[:5] + b"\4" + SMALL[6:])


@pytest.mark.parametrize(
    "head",
    [
        b"\x89PLD\2\0" + varint(0) + b"\3" + KEY + CONTENT,  # no image
        b"\x89PLD\2\0" + varint(MAX_IMAGES + 1) + b"\3" + KEY + CONTENT,
        b"\x89PLD\2\0" + varint(1000) + b"\0" + KEY + CONTENT,  # no class
        b"\x89PLD\2\0" + varint(1000) + varint(65_536) + KEY + CONTENT,
        b"\x89PLD\2\2" + varint(1000) + b"\3" + KEY + CONTENT + b"\0",  # serial number 0
        b"\x89PLD\2\2" + varint(1000) + b"\3" + KEY + CONTENT + varint(1 << 32),
        b"\x89PLD\2\0" + b"\x80\0" + b"\3" + KEY + CONTENT,  # a number longer than needed
        b"\x89PLD\2\0" + b"\xff" * 5 + b"\3" + KEY + CONTENT,  # and one that does not end
    ],
)
def test_an_impossible_header_is_refused(head: bytes) -> None:
    with pytest.raises(PayloadCorrupt):
        read_container(sealed(head, (LABELS, b"x")))


def test_a_file_that_claims_sixty_bits_of_anything_is_refused_at_once() -> None:
    big = b"\xff" * 8 + b"\x0f"  # 2^60 as a varint, were there such
    for data in (
        b"\x89PLD\2\0" + big + SMALL[7:],  # bytes of the file
        b"\x89PLD\2\0\x7f" + big + SMALL[9:],  # images
        HEAD[:6] + b"\x7f" + HEAD[6:] + b"\1" + big + bytes(90),  # bytes of a section
    ):
        with pytest.raises(PayloadCorrupt, match="varint"):
            read_container(data[:127] if len(data) > 127 else data + bytes(127 - len(data)))
    with pytest.raises(PayloadCorrupt, match="cannot be"):
        read_container(b"\x89PLD\2\0" + varint((1 << 30) + 1) + SMALL[7:])
    claims = HEAD[:6] + b"\x7f" + HEAD[6:] + b"\1" + varint((4 << 30) - 1)  # a section of 4 GB
    with pytest.raises(PayloadCorrupt, match="claims 4294967295 bytes"):
        read_container(claims + bytes(127 - len(claims)))


def test_an_unknown_section_is_skipped_only_if_it_may_be() -> None:
    found = read_container(sealed(HEAD, (0xF0, b"from the future"), (LABELS, b"x"), (0xF1, b"more")))
    assert found.sections[LABELS] == b"x"
    with pytest.raises(PayloadUnsupported, match="0x04"):
        read_container(sealed(HEAD, (0x04, b"from the future"), (LABELS, b"x")))


@pytest.mark.parametrize(
    "kinds",
    [
        [LABELS, LABELS],
        [LABELS, ABOUT],
        [LABELS, DIFF],
        [DIFF, LABELS],
        [ABOUT, ABOUT, LABELS],
        [LABELS, 0xF0, 0xF0],
        [0xF0, ABOUT, LABELS],
    ],
)
def test_sections_out_of_order_are_refused(kinds: list[int]) -> None:
    with pytest.raises(PayloadCorrupt, match=r"order|second content"):
        read_container(sealed(HEAD, *((kind, b"x") for kind in kinds)))


def test_nothing_follows_a_signature() -> None:
    signature = b"\1abcd" + bytes(64)
    read_container(sealed(HEAD, (LABELS, b""), (SIGNATURE, signature)))
    with pytest.raises(PayloadCorrupt, match="out of order"):
        read_container(sealed(HEAD, (LABELS, b""), (SIGNATURE, signature), (0xF0, b"")))
    for bad in (signature[:-1], b"\2" + signature[1:]):
        with pytest.raises(PayloadUnsupported, match="signature is of a kind"):
            read_container(sealed(HEAD, (LABELS, b""), (SIGNATURE, bad)))


def test_a_file_without_content_is_refused() -> None:
    with pytest.raises(PayloadCorrupt, match="no section of labels"):
        read_container(sealed(HEAD, (ABOUT, b"x")))


def test_a_plan_is_believed_only_as_far_as_the_file_goes() -> None:
    assert read_plan(write_plan(2, [1, 300])) == (2, [1, 300])
    for bad in (b"", b"\0\0", b"\0\2\1", b"\0\1\1\1"):
        with pytest.raises(PayloadCorrupt, match="plan"):
            read_plan(bad)
    with pytest.raises(PayloadCorrupt, match="plan names 60 bytes"):
        read_container(sealed(HEAD, (PLAN, write_plan(0, [60]))))


def test_a_header_alone_says_what_it_is() -> None:
    header, size = read_header(LARGE[:60])
    assert (header.serial, header.total) == (7, len(LARGE))
    assert LARGE[size : size + 2] == b"\x81\5"
