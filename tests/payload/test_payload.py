"""A payload: what is written comes back, bad files are named and never guessed at."""

import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plada.errors import (
    PayloadCorrupt,
    PayloadError,
    PayloadTruncated,
    PayloadUnsupported,
    ReferenceMismatch,
    RequestError,
    UnknownName,
)
from plada.payload.coders.body import encode_body
from plada.payload.coders.registry import CODERS
from plada.payload.container import ABOUT, DIFF, LABELS, PLAN, Header, Signer, write_container, write_plan
from plada.payload.payload import Payload, parse_payload
from plada.payload.shared_context import SharedContext
from plada.payload.varints import varint
from tests.payload.payloads import CONTENT, KEY, folders, made, same

PLAIN = [name for name, coder in CODERS.items() if "pack" not in coder.needs]
SMALL = made().encode()
BODY = encode_body(made().positions, made().labels, images=1000, classes=3, coder="gaps-zstd", shared=SharedContext())


@pytest.mark.parametrize("coder", PLAIN)
def test_every_coder_gives_back_what_it_was_given(coder: str) -> None:
    for payload in (made(), made(1, 1), made(1000, 1000), made(500, 100_000), made(3, 5, ("only",)), made(0)):
        shared = folders(payload.reference)
        data = payload.encode(coder, shared=shared)
        file = parse_payload(data, shared=shared)
        assert same(file.payload, payload)
        assert file.coder == coder
        assert file.bytes == len(data) == sum(file.sections.values()) == payload.size(coder, shared=shared)


@settings(max_examples=60)
@given(
    n=st.integers(1, 3000),
    share=st.floats(0, 1),
    classes=st.integers(1, 300),
    seed=st.integers(0, 10),
    coder=st.sampled_from(["auto", *PLAIN]),
    known=st.booleans(),
    serial=st.sampled_from([0, 1, 127, 128, (1 << 32) - 1]),
    progressive=st.sampled_from([None, "blocks", "layers"]),
    segments=st.integers(1, 16),
)
def test_round_trip_of_any_shape(
    n: int,
    share: float,
    classes: int,
    seed: int,
    coder: str,
    known: bool,
    serial: int,
    progressive: str | None,
    segments: int,
) -> None:
    names = tuple(f"class {number}" for number in range(classes))
    k = int(share * n)
    payload = made(k, n, names, seed, serial=serial, rank=np.random.default_rng(seed).permutation(k))
    known = known or (coder != "auto" and "manifest" in CODERS[coder].needs)
    shared = folders(n, seed) if known else SharedContext()
    data = payload.encode(coder, shared=shared, progressive=progressive, segments=segments if progressive else None)
    found = parse_payload(data, shared=shared).payload
    assert same(found, payload)
    assert found.digest() == payload.digest()
    again = found.encode(coder, shared=shared)
    assert again == payload.encode(coder, shared=shared)
    assert len(again) == payload.size(coder, shared=shared)


def test_many_classes_and_odd_names() -> None:
    names = ("<script>", "new\nline", 'quo"te', "naïve 猫", "", *tuple(f"c{number}" for number in range(5295)))
    payload = made(200, 5000, names)
    assert parse_payload(payload.encode()).payload.classes == names


def test_numbered_classes_cost_nothing() -> None:
    assert "about" not in parse_payload(made(classes=tuple("0123456789"), notes={}).encode()).sections


def test_the_container_takes_at_most_forty_bytes() -> None:
    """For 10 classes and 500 images, identities of 8 bytes each included; names and notes aside."""
    payload = made(500, 40_000, tuple("0123456789"), notes={})
    file = parse_payload(payload.encode())
    assert file.bytes - file.sections["labels"] == 35


def test_auto_takes_the_smallest_file() -> None:
    for payload in (made(), made(900, 1000), made(5, 100_000)):
        shared = folders(payload.reference)
        sizes = {name: len(payload.encode(name, shared=shared)) for name in payload.sizes(shared=shared)}
        assert set(sizes) >= {"gaps-zstd", "bitmap-zstd"}
        assert len(payload.encode(shared=shared)) == min(sizes.values()) == payload.size(shared=shared)
        assert sizes[payload.coder(shared=shared)] == min(sizes.values())


def test_unknown_coders_and_kinds_are_refused() -> None:
    with pytest.raises(UnknownName, match="gaps-zstd"):
        made().encode("gaps")
    with pytest.raises(RequestError, match="blocks, layers"):
        made().encode(progressive="rows")


def test_the_digest_stands_for_all_that_is_said_and_nothing_else() -> None:
    base = made()
    assert base.digest().hex() == "45d7bfa314b49a98"  # pinned: files of changes carry it
    others = [
        made(59),
        made(seed=1),
        made(n=1001, seed=0),
        made(classes=("ant", "bee", "cats")),
        made(classes=("ant", "bee", "cat", "dog")),
        made(notes={}),
        made(serial=1),
        Payload(base.positions, base.labels, base.classes, 1000, KEY[::-1], CONTENT, base.notes),
        Payload(base.positions, base.labels, base.classes, 1000, KEY, CONTENT[::-1], base.notes),
        Payload(base.positions, (base.labels + 1) % 3, base.classes, 1000, KEY, CONTENT, base.notes),
    ]
    assert len({payload.digest() for payload in [base, *others]}) == 11
    for coder in PLAIN:
        assert parse_payload(base.encode(coder, shared=folders()), shared=folders()).payload.digest() == base.digest()
    assert made(rank=np.arange(60)).digest() == base.digest()


# Damage: a payload of four kilobytes, every truncation and every bit.

FOUR = made(4500, 40_000, tuple(f"class {n}" for n in range(9)), serial=3, rank=np.arange(4500))
WHOLE = FOUR.encode("gaps-zstd", signer=Signer(b"abcd", lambda _: bytes(64)))
PARTS = FOUR.encode("gaps-zstd", progressive="blocks", segments=3)


def test_the_damaged_payloads_are_of_four_kilobytes() -> None:
    assert 4096 <= len(WHOLE) <= 6000
    assert 4096 <= len(PARTS) <= 6000


@pytest.mark.parametrize("data", [WHOLE, PARTS], ids=["whole", "segments"])
def test_every_truncation_is_named(data: bytes) -> None:
    for cut in range(len(data)):
        with pytest.raises(PayloadTruncated):
            parse_payload(data[:cut])


@pytest.mark.parametrize("data", [WHOLE, PARTS], ids=["whole", "segments"])
def test_every_flipped_bit_is_noticed(data: bytes) -> None:
    bad = bytearray(data)
    for bit in range(8 * len(data)):
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PayloadError):
            parse_payload(bytes(bad))
        bad[bit // 8] ^= 1 << bit % 8
    assert bad == data


@pytest.mark.parametrize("data", [WHOLE, PARTS], ids=["whole", "segments"])
def test_random_damage_never_gives_labels(data: bytes) -> None:
    rng = np.random.default_rng(0)
    for _ in range(3000):
        bad = bytearray(data)
        for place in rng.integers(0, len(bad), rng.integers(1, 6)):
            bad[place] = rng.integers(256)
        if rng.random() < 0.3:
            start, stop = np.sort(rng.integers(0, len(bad), 2))
            bad = bad[:start] + bad[stop:] if rng.random() < 0.5 else bad[:stop] + bad[start:]
        if bytes(bad) != data:
            with pytest.raises(PayloadError):
                parse_payload(bytes(bad))


def test_damage_to_segments_never_gives_a_wrong_label() -> None:
    rng = np.random.default_rng(1)
    truth = dict(zip(FOUR.positions.tolist(), FOUR.labels.tolist(), strict=True))
    for _ in range(300):
        bad = bytearray(PARTS[: rng.integers(len(PARTS))] if rng.random() < 0.5 else PARTS)
        for place in rng.integers(0, len(bad), rng.integers(1, 4)):
            bad[place] ^= 1 << rng.integers(8)
        try:
            found = parse_payload(bytes(bad), partial=True).payload
        except PayloadError:
            continue
        assert all(truth[p] == c for p, c in zip(found.positions.tolist(), found.labels.tolist(), strict=True))
        assert found.segments is not None
        assert len(found) < len(truth)


def test_every_truncation_of_segments_is_a_smaller_payload() -> None:
    sizes: list[int] = []
    for cut in range(PARTS.index(b"\2", 40), len(PARTS), 7):
        try:
            found = parse_payload(PARTS[:cut], partial=True).payload
        except PayloadTruncated:
            assert not sizes  # only before the first segment
            continue
        sizes.append(len(found))
        assert np.isin(found.positions, FOUR.positions).all()
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 3  # none, one, two segments
    assert sizes[0] == 0


# Files whose checksums are right and that lie all the same.


def sealed(*sections: tuple[int, bytes], classes: int = 3, reference: int = 1000, pack: bytes = b"") -> bytes:
    return write_container(Header(reference, classes, KEY, CONTENT, pack), dict(sections))


def test_the_helper_seals_what_the_reader_accepts() -> None:
    assert len(parse_payload(sealed((LABELS, BODY))).payload) == 60


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (sealed((LABELS, BODY), classes=2), PayloadCorrupt, "beyond|label"),
        (sealed((LABELS, BODY), reference=500), PayloadCorrupt, "beyond|position"),
        (sealed((LABELS, b"")), PayloadCorrupt, "empty"),
        (sealed((LABELS, b"\xc8" + BODY[1:])), PayloadUnsupported, "coder 200"),
        (sealed((LABELS, BODY + b"\0")), PayloadCorrupt, "stream|bytes"),
        (sealed((LABELS, BODY[:1] + varint(1 << 28) + BODY[2:])), PayloadCorrupt, "claims"),
        (sealed((LABELS, b"\1\x80\x80\x80\x80\x80\x80\1" + BODY)), PayloadCorrupt, "varint"),
        (sealed((ABOUT, b"\2ant\0bee"), (LABELS, BODY)), PayloadCorrupt, "names"),
        (sealed((DIFF, b"")), PayloadUnsupported, "plada apply"),
        (
            sealed(
                (PLAN, write_plan(9, [])),
            ),
            PayloadCorrupt,
            "plan",
        ),
    ],
)
def test_a_liar_is_refused(data: bytes, kind: type[PayloadError], words: str) -> None:
    with pytest.raises(kind, match=words):
        parse_payload(data)


def test_a_bomb_does_not_go_off() -> None:
    """A bitmap of 32 MB out of a kilobyte, streams of 4 GB, a quarter of a billion images: little memory, an error."""
    block = b"\x02\x00\x10\x00"  # a zstd run-length block of 128 KiB of zeros
    frames = [b"\x00\x88" + block * count for count in (256, 40_000)]
    tracemalloc.start()
    for frame in frames:
        for code in (b"\1", b"\2"):
            for images in (60, 1 << 28):
                body = code + varint(images) + varint(len(frame)) + frame
                with pytest.raises(PayloadError):
                    parse_payload(sealed((LABELS, body), reference=1 << 28))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 256 << 20


def test_what_belongs_to_another_reference_or_pack_is_refused() -> None:
    for shared in (SharedContext(np.array([0, 900])), SharedContext(features=np.zeros((999, 2), np.int8))):
        with pytest.raises(ReferenceMismatch, match="reference of 1000 images") as caught:
            parse_payload(SMALL, shared=shared)
        assert caught.value.wanted == "1000"
    features = np.zeros((1000, 2), np.int8)
    packed = sealed((LABELS, BODY), pack=bytes(range(8)))
    with pytest.raises(ReferenceMismatch, match=r"0001020304050607.*ffffffffffffffff"):
        parse_payload(packed, shared=SharedContext(None, features, b"\xff" * 16))
    assert len(parse_payload(packed, shared=SharedContext(None, features, bytes(range(16)))).payload) == 60


@pytest.mark.parametrize(
    "change",
    [
        {"positions": [3, 3]},
        {"positions": [5, 3]},
        {"positions": [-1, 3]},
        {"positions": [3, 1000]},
        {"positions": np.arange((1 << 24) + 1), "labels": np.zeros((1 << 24) + 1, np.int8)},
        {"positions": [[3, 7]], "labels": [[0, 1]]},
        {"labels": [0, 3]},
        {"labels": [0, -1]},
        {"labels": [0]},
        {"classes": ()},
        {"classes": ("a", "a", "b")},
        {"classes": ("a", "b\0", "c")},
        {"classes": ("a", "b" * 1025, "c")},
        {"reference": 0},
        {"reference": (1 << 28) + 1},
        {"key_id": b"short"},
        {"serial": -1},
        {"serial": 1 << 32},
        {"rank": [0]},
        {"notes": {"x": float("nan")}},
        {"notes": {"x": object()}},
    ],
)
def test_an_impossible_payload_cannot_be_made(change: dict[str, object]) -> None:
    fields = {
        "positions": [3, 7], "labels": [0, 1], "classes": ("a", "b", "c"), "reference": 1000, "key_id": KEY, "content_id": CONTENT,
    }  # fmt: skip
    Payload(**fields)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="payload"):
        Payload(**{**fields, **change})  # type: ignore[arg-type]


def test_segments_may_name_too_many_images_together(monkeypatch: pytest.MonkeyPatch) -> None:
    data = made(rank=np.arange(60)).encode(progressive="layers", segments=3)
    monkeypatch.setattr("plada.payload.payload.MAX_KEPT", 59)
    with pytest.raises(PayloadCorrupt, match="60 positions; expected at most 59"):
        parse_payload(data)


def test_the_recipe_is_that_of_the_notes() -> None:
    assert made().recipe == {"mirror": False}
    assert made(notes={}).recipe == made(notes={"recipe": "fast"}).recipe == {}


def test_a_payload_is_shown_on_one_line() -> None:
    assert repr(made(serial=7)) == "<Payload: 60 of 1000 images, 3 classes, key id 0001020304050607, serial 7>"
    assert len(repr(made(5000, 10_000, tuple(f"class {n}" for n in range(5000))))) < 100


def test_what_is_saved_is_what_is_encoded(tmp_path: Path) -> None:
    path = tmp_path / "x.plada"
    assert made().save(path) == path.stat().st_size
    assert path.read_bytes() == made().encode()


def test_checksums_are_those_of_zlib() -> None:
    head = SMALL[: SMALL.index(b"\x81")]
    about = SMALL[len(head) : SMALL.index(b"\1", len(head) + 8)]
    assert any(zlib.crc32(head + about[:n]).to_bytes(4, "little") == about[n : n + 4] for n in range(len(about)))
