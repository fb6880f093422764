"""The file format: what is written comes back, old files stay readable, bad files are named and never guessed at."""

import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import plada
from plada.errors import PayloadCorrupt, PayloadError, PayloadTruncated, PayloadUnsupported, RequestError
from plada.payload.coders import CODERS
from plada.payload.container import HEADER, LABELS, read_varint, varint
from plada.payload.inspect import inspect_payload
from plada.payload.payload import Payload, parse_payload

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
KEY, CONTENT = bytes(range(8)), bytes(range(8, 16))


def made(k: int = 60, n: int = 1000, classes: tuple[str, ...] = ("ant", "bee", "cat"), seed: int = 0) -> Payload:
    rng = np.random.default_rng(seed)
    positions = np.sort(rng.choice(n, k, replace=False))
    return Payload(positions, rng.integers(0, len(classes), k), classes, n, KEY, CONTENT, {"recipe": {"mirror": False}})


def same(one: Payload, other: Payload) -> bool:
    fields = ("classes", "reference", "key_id", "content_id", "version")
    arrays = np.array_equal(one.positions, other.positions) and np.array_equal(one.labels, other.labels)
    return arrays and all(getattr(one, f) == getattr(other, f) for f in fields) and dict(one.notes) == dict(other.notes)


SMALL = made().encode()


@pytest.mark.parametrize("coder", CODERS)
def test_every_coder_gives_back_what_it_was_given(coder: str) -> None:
    for payload in (made(), made(1, 1), made(1000, 1000), made(500, 100_000), made(3, 5, ("only",))):
        file = parse_payload(payload.encode(coder))
        assert same(file.payload, payload)
        assert file.coder == coder
        assert file.bytes == len(payload.encode(coder)) == sum(file.sections.values())


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 3000),
    share=st.floats(0, 1),
    classes=st.integers(1, 300),
    seed=st.integers(0, 10),
    coder=st.sampled_from(sorted(CODERS)),
)
def test_round_trip_of_any_shape(n: int, share: float, classes: int, seed: int, coder: str) -> None:
    payload = made(max(1, int(share * n)), n, tuple(f"class {number}" for number in range(classes)), seed)
    assert same(parse_payload(payload.encode(coder)).payload, payload)


def test_many_classes_and_odd_names() -> None:
    names = ("<script>", "new\nline", 'quo"te', "naïve 猫", "", *tuple(f"c{number}" for number in range(69995 - 64700)))
    payload = made(200, 5000, names)
    assert parse_payload(payload.encode()).payload.classes == names


def test_numbered_classes_cost_nothing() -> None:
    sections = parse_payload(made(classes=tuple("0123456789")).encode()).sections
    assert "names" not in sections


def test_auto_takes_the_smaller_coder() -> None:
    for payload in (made(), made(900, 1000), made(5, 100_000)):
        sizes = {name: len(payload.encode(name)) for name in CODERS}
        assert len(payload.encode()) == min(sizes.values())
        assert sizes[payload.coder()] == min(sizes.values())


def test_the_container_stays_within_forty_bytes() -> None:
    payload = Payload(made().positions, made().labels, ("0", "1", "2"), 1000, KEY, CONTENT)
    file = parse_payload(payload.encode())
    assert file.sections["container"] <= 40


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.glob("v*.plada")))
def test_files_in_the_field_stay_readable(name: str) -> None:
    expected = np.load(GOLDEN / f"{name.removesuffix('.plada')}.npz")
    payload = plada.read_payload(GOLDEN / name)
    assert np.array_equal(payload.positions, expected["positions"])
    assert np.array_equal(payload.labels, expected["labels"])
    assert payload.classes == tuple(str(c) for c in expected["classes"])


def test_there_are_golden_files_of_every_coder() -> None:
    coders = {inspect_payload(path).coder for path in GOLDEN.glob("v*.plada")}
    assert coders == set(CODERS)


def test_header_bytes_never_change() -> None:
    """Pinned: 4 magic, version, sections, total, reference, classes, key id, content id; little endian."""
    assert HEADER.size == 32
    assert SMALL[:6].hex() == "89504c440103"
    assert struct.unpack("<IIH", SMALL[6:16]) == (len(SMALL), 1000, 3)
    assert SMALL[16:32] == KEY + CONTENT


@pytest.mark.parametrize("cut", range(len(SMALL)))
def test_every_truncation_is_named(cut: int) -> None:
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


def test_other_files_are_not_payloads() -> None:
    for data in (b"PK\x03\x04" + bytes(100), b"\x89PNG\r\n\x1a\n" + bytes(100)):
        with pytest.raises(PayloadCorrupt, match="not a plada payload"):
            parse_payload(data)


def test_a_newer_version_is_told_apart_from_damage() -> None:
    with pytest.raises(PayloadUnsupported, match="version 2; this plada reads up to 1"):
        parse_payload(SMALL[:4] + b"\2" + SMALL[5:])


def sealed(kind: int, body: bytes, *, classes: int = 3, reference: int = 1000) -> bytes:
    """A file with one section of labels (or another kind before it) whose checksums are right."""
    sections = sorted({kind: body, LABELS: parse_body()}.items()) if kind != LABELS else [(LABELS, body)]
    prefixes = [bytes([k]) + varint(len(b)) + b for k, b in sections]
    total = HEADER.size + sum(len(p) + 4 for p in prefixes)
    header = HEADER.pack(b"\x89PLD", 1, len(sections), total, reference, classes, KEY, CONTENT)
    return header + b"".join(p + struct.pack("<I", zlib.crc32(header + p)) for p in prefixes)


def parse_body() -> bytes:
    from plada.payload.container import read_container

    return read_container(SMALL)[1][LABELS]


def test_the_helper_seals_what_the_reader_accepts() -> None:
    assert len(parse_payload(sealed(LABELS, parse_body())).payload) == 60


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "no known coder"),
        (b"\x63" + parse_body()[1:], "no known coder"),
        (b"\x01" + varint(0) + b"\0", "claims 0 of 1000"),
        (b"\x01" + varint(1001) + parse_body()[2:], "claims 1001 of 1000"),
        (b"\x01" + b"\xff\xff\xff\xff\xff\xff", "not a valid varint"),
        (b"\x01" + varint(60) + varint(4000) + b"x", "in 4000 bytes"),
        (parse_body()[:-1], "stream"),
        (parse_body() + b"\0", "stream"),
        (b"\x02" + parse_body()[1:], "bitmap"),
    ],
)
def test_labels_that_contradict_the_format(body: bytes, message: str) -> None:
    with pytest.raises(PayloadCorrupt, match=message):
        parse_payload(sealed(LABELS, body))


def test_a_label_or_position_out_of_range_is_refused() -> None:
    with pytest.raises(PayloadCorrupt, match="beyond"):
        parse_payload(sealed(LABELS, parse_body(), classes=1))
    with pytest.raises(PayloadCorrupt, match="beyond"):
        parse_payload(sealed(LABELS, parse_body(), reference=500))


def test_an_unknown_section_is_skipped_only_if_it_may_be() -> None:
    assert len(parse_payload(sealed(0xF0, b"from the future")).payload) == 60
    with pytest.raises(PayloadUnsupported, match="0x02"):
        parse_payload(sealed(0x02, b"from the future"))


@pytest.mark.parametrize("body", [b"", b"\2x", b"\1not zstd", b"\0\xff\xfe", b"\0[1]", b"\0{"])
def test_bad_notes_and_names_are_refused(body: bytes) -> None:
    for kind in (0x81, 0x82):
        with pytest.raises(PayloadCorrupt):
            parse_payload(sealed(kind, body))


def test_a_bomb_does_not_go_off() -> None:
    """A stream that would make 4 GB, and claims of a billion images, cost next to nothing."""
    block = struct.pack("<I", (131_072 << 3) | 2)[:3] + b"\0"  # a zstd run-length block of 128 KiB
    frame = b"\x00\x88" + block * 40_000
    tracemalloc.start()
    for body in (
        b"\x01" + varint(1 << 28) + varint(len(frame)) + frame,
        b"\x01" + varint(60) + varint(len(frame)) + frame,
    ):
        with pytest.raises(PayloadCorrupt):
            parse_payload(sealed(LABELS, body))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20


def test_random_damage_never_gives_labels() -> None:
    rng = np.random.default_rng(0)
    for _ in range(3000):
        bad = bytearray(SMALL)
        for place in rng.integers(0, len(bad), rng.integers(1, 6)):
            bad[place] = rng.integers(256)
        if bytes(bad) != SMALL:
            with pytest.raises(PayloadError):
                parse_payload(bytes(bad))


def test_varints() -> None:
    for value in (0, 1, 127, 128, 300, 16_383, 16_384, 2**32, 2**35 - 1):
        assert read_varint(varint(value), 0) == (value, len(varint(value)))
    for bad in (b"", b"\x80", b"\x80\x00", b"\xff\xff\xff\xff\xff\x01"):
        with pytest.raises(PayloadCorrupt):
            read_varint(bad, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"positions": [3, 3]},
        {"positions": [5, 3]},
        {"positions": [-1, 3]},
        {"positions": [3, 1000]},
        {"positions": [], "labels": []},
        {"labels": [0, 3]},
        {"labels": [0, -1]},
        {"labels": [0]},
        {"classes": ()},
        {"classes": ("a", "a", "b")},
        {"classes": ("a", "b\0", "c")},
        {"reference": 0},
        {"reference": 1 << 32},
        {"key_id": b"short"},
    ],
)
def test_an_impossible_payload_cannot_be_made(change: dict[str, object]) -> None:
    fields = {
        "positions": [3, 7], "labels": [0, 1], "classes": ("a", "b", "c"), "reference": 1000, "key_id": KEY, "content_id": CONTENT,
    }  # fmt: skip
    Payload(**fields)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="payload"):
        Payload(**{**fields, **change})  # type: ignore[arg-type]


def test_saving_reading_and_inspecting(tmp_path: Path) -> None:
    path = tmp_path / "x.plada"
    size = made().save(path)
    assert size == path.stat().st_size
    summary = plada.inspect(path).to_dict()
    assert summary["bytes"] == size == sum(summary["sections"].values())
    assert (summary["version"], summary["images"], summary["classes"], summary["signed"]) == (1, 60, 3, False)
    assert summary["coders"][summary["coder"]] == summary["sections"]["labels"]
    assert sum(summary["class_counts"].values()) == 60
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(PayloadTruncated, match=r"x\.plada: payload is"):
        plada.read_payload(path)
    with pytest.raises(RequestError, match="cannot be read"):
        plada.read_payload(tmp_path / "none.plada")


def test_real_contents_beat_the_papers_coder(shared: Path) -> None:
    """Two streams instead of one: fewer bytes than the paper's best form in the mean over the shared contents."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("paper_coder", shared.parent / "research" / "paper_coder.py")
    assert spec is not None and spec.loader is not None
    paper = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(paper)
    ratios = []
    for path in sorted((shared / "codec").glob("*_1.npz")):
        content = np.load(path)
        n, classes = int(content["n_reference"]), int(content["n_classes"])
        names = tuple(str(number) for number in range(classes))
        payload = Payload(content["positions"], content["labels"], names, n, KEY, CONTENT)
        assert same(parse_payload(payload.encode()).payload, payload)
        ratios.append(
            min(payload.sizes().values()) / paper.paper_bytes(content["positions"], content["labels"], n, classes)
        )
    assert len(ratios) == 16
    assert np.mean(ratios) < 1
