"""Bodies: what goes in comes out under every coder, for every shape; auto is never worse; bad bytes are named."""

import hashlib
import time
import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plada.errors import PayloadCorrupt, PayloadError, PayloadUnsupported, RequestError, SideMissing, UnknownName
from plada.payload.coders import block_coder, pack_coder
from plada.payload.coders.body import (
    body_sizes,
    decode_body,
    encode_body,
    encoded_size,
    max_kept,
    read_content,
    write_content,
)
from plada.payload.coders.paper_coders import paper_bytes
from plada.payload.coders.registry import CODERS, missing_context
from plada.payload.shared_context import SharedContext
from plada.payload.varints import varint
from plada.payload.zstd_frames import compress
from tests.payload.shapes import I64, bounds_of, clustered, features_of

NOTHING = SharedContext()
IMAGES, CLASSES = 1500, 5
BOUNDS = bounds_of(IMAGES, 0)
POSITIONS, LABELS = clustered(IMAGES, 90, CLASSES, BOUNDS, 0)
PACK = features_of(IMAGES, POSITIONS, LABELS, 6, 0)
SHARED = SharedContext(BOUNDS, PACK, bytes(16))


def round_trip(positions: I64, labels: I64, *, images: int, classes: int, shared: SharedContext) -> None:
    for name, size in body_sizes(positions, labels, images=images, classes=classes, shared=shared).items():
        body = encode_body(positions, labels, images=images, classes=classes, coder=name, shared=shared)
        assert len(body) == size
        found = decode_body(body, images=images, classes=classes, shared=shared)
        assert np.array_equal(found[0], positions)
        assert np.array_equal(found[1], labels)
        assert found[2] == name
        assert found[0].dtype == found[1].dtype == np.int64


@settings(max_examples=30, deadline=None)
@given(
    images=st.integers(1, 2500),
    share=st.one_of(st.just(0.0), st.just(1.0), st.floats(0, 1)),
    classes=st.one_of(st.integers(1, 9), st.sampled_from([255, 256, 257, 10_450])),
    seed=st.integers(0, 20),
    folders=st.sampled_from([0, 1, 60, 3000]),
    dimensions=st.sampled_from([0, 1, 5]),
)
def test_any_shape_comes_back(
    images: int, share: float, classes: int, seed: int, folders: int, dimensions: int
) -> None:
    bounds = bounds_of(images, seed, folders) if folders else None
    kept = min(int(share * images), 400 if dimensions else images)
    positions, labels = clustered(images, kept, classes, np.array([0, images]) if bounds is None else bounds, seed)
    pack = np.random.default_rng(seed).integers(-127, 128, (images, dimensions), dtype=np.int8) if dimensions else None
    round_trip(positions, labels, images=images, classes=classes, shared=SharedContext(bounds, pack))


@pytest.mark.parametrize(
    "shared", [SharedContext(), SharedContext(BOUNDS), SharedContext(BOUNDS, np.zeros((IMAGES, 3), np.int8)), SHARED]
)
@pytest.mark.parametrize(
    ("positions", "labels"),
    [
        (np.arange(IMAGES), np.arange(IMAGES) % CLASSES),  # all kept
        (np.array([IMAGES - 1]), np.array([CLASSES - 1])),
        (np.arange(IMAGES - 300, IMAGES), np.zeros(300, np.int64)),  # all at the end, classes without an image
        (np.arange(0, IMAGES, 7), np.arange(0, IMAGES, 7) // 7 % CLASSES),
        (np.arange(0), np.arange(0)),
    ],
)
def test_odd_contents_come_back(positions: I64, labels: I64, shared: SharedContext) -> None:
    round_trip(positions, labels, images=IMAGES, classes=CLASSES, shared=shared)


def adversarial() -> dict[str, tuple[I64, I64, int, int]]:
    rng = np.random.default_rng(0)
    some = np.sort(rng.choice(40_000, 2000, replace=False)).astype(np.int64)
    every = np.arange(20_000)
    return {
        "all kept": (every, rng.integers(0, 10, 20_000), 20_000, 10),
        "all kept, sorted": (every, np.sort(rng.integers(0, 10, 20_000)), 20_000, 10),
        "all kept, one class": (every, every * 0, 20_000, 10),
        "none in a class": (some, rng.integers(0, 9, 2000), 40_000, 10),
        "one image": (np.array([39_999]), np.array([9]), 40_000, 10),
        "one class": (some, some * 0, 40_000, 1),
        "10 450 classes": (some, rng.integers(0, 10_450, 2000), 40_000, 10_450),
        "at the end": (np.arange(38_000, 40_000), rng.integers(0, 10, 2000), 40_000, 10),
        "random labels": (some, rng.integers(0, 43, 2000), 40_000, 43),
        "a pattern": (np.arange(0, 40_000, 20), np.arange(2000) % 10, 40_000, 10),
    }


@pytest.mark.parametrize("name", adversarial())
def test_no_shape_costs_much_more_than_the_papers_coder(name: str) -> None:
    positions, labels, images, classes = adversarial()[name]
    shared = SharedContext(np.arange(0, images + 1, 200))
    body = encode_body(positions, labels, images=images, classes=classes, shared=shared)
    assert len(body) <= 1.01 * paper_bytes(positions, labels, images, classes) + 64
    found = decode_body(body, images=images, classes=classes, shared=shared)
    assert np.array_equal(found[0], positions)
    assert np.array_equal(found[1], labels)


def test_auto_is_the_smallest_and_the_size_is_exact() -> None:
    for shared in (NOTHING, SharedContext(BOUNDS), SharedContext(None, PACK), SHARED):
        sizes = body_sizes(POSITIONS, LABELS, images=IMAGES, classes=CLASSES, shared=shared)
        assert encoded_size(POSITIONS, LABELS, images=IMAGES, classes=CLASSES, shared=shared) == min(sizes.values())
    assert set(sizes) == set(CODERS) - {"pack-even"}
    assert sizes["pack"] < 0.8 * sizes["blocks"] < 0.8 * sizes["gaps-zstd"]


def test_large_contents_skip_what_cannot_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plada.payload.coders.body._SMALL", 10)
    model = encode_body(POSITIONS, LABELS, images=IMAGES, classes=CLASSES, shared=NOTHING)
    assert model[0] == CODERS["even-blocks"].code
    pattern = np.arange(0, 200_000, 4)
    found = encode_body(pattern, pattern * 0, images=200_000, classes=2, shared=NOTHING)
    assert CODERS["bitmap-zstd"].code == found[0]
    assert len(found) < 200


def test_one_class_costs_no_bits_for_labels() -> None:
    zeros = np.zeros_like(LABELS)
    shared = SharedContext(BOUNDS)
    one, two = (
        encoded_size(POSITIONS, zeros, images=IMAGES, classes=classes, coder="blocks", shared=shared)
        for classes in (1, 2)
    )
    assert one <= two <= one + 2


def test_an_empty_content_is_two_bytes_and_needs_nothing() -> None:
    none = np.zeros(0, np.int64)
    body = encode_body(none, none, images=1, classes=1, shared=SHARED)
    assert len(body) == 2
    assert len(decode_body(body, images=1, classes=1, shared=NOTHING)[0]) == 0
    with pytest.raises(PayloadCorrupt, match="follow an empty"):
        decode_body(body + b"\1", images=1, classes=1, shared=NOTHING)


def test_what_the_reader_lacks_is_named() -> None:
    bodies = {
        name: encode_body(POSITIONS, LABELS, images=IMAGES, classes=CLASSES, coder=name, shared=SHARED)
        for name in CODERS
    }
    for name, shared, needs in (
        ("blocks", SharedContext(None, PACK), "manifest"),
        ("pack", SharedContext(None, PACK), "manifest"),
        ("pack", SharedContext(BOUNDS), "pack"),
        ("pack-even", NOTHING, "pack"),
    ):
        assert missing_context(name, shared)
        with pytest.raises(SideMissing, match=name) as caught:
            decode_body(bodies[name], images=IMAGES, classes=CLASSES, shared=shared)
        assert caught.value.needs == needs
        with pytest.raises(SideMissing):
            encode_body(POSITIONS, LABELS, images=IMAGES, classes=CLASSES, coder=name, shared=shared)


def test_unknown_coders_are_told_apart() -> None:
    with pytest.raises(UnknownName, match="blocks"):
        encode_body(POSITIONS, LABELS, images=IMAGES, classes=CLASSES, coder="block", shared=SHARED)
    with pytest.raises(PayloadUnsupported, match="coder 99"):
        decode_body(b"\x63\1\0", images=1, classes=1, shared=SHARED)
    with pytest.raises(PayloadCorrupt, match="empty"):
        decode_body(b"", images=1, classes=1, shared=SHARED)


def test_claims_beyond_the_reference_are_refused_before_anything_is_made() -> None:
    for head in (b"\3\xdd\x0b", b"\3\xff\xff\xff\xff\x0f", b"\4\xdd\x0b"):
        with pytest.raises(PayloadCorrupt, match=f"of {IMAGES} images"):
            decode_body(head + b"abc", images=IMAGES, classes=CLASSES, shared=SHARED)
    with pytest.raises(PayloadCorrupt, match="varint"):
        decode_body(b"\3\xff\xff\xff\xff\xff\x7f", images=IMAGES, classes=CLASSES, shared=SHARED)


def test_work_beyond_the_limits_is_left_to_other_coders(monkeypatch: pytest.MonkeyPatch) -> None:
    body = encode_body(POSITIONS, LABELS, images=IMAGES, classes=CLASSES, coder="pack", shared=SHARED)
    monkeypatch.setattr(pack_coder, "MAX_WORK", 1000)
    assert encode_body(POSITIONS, LABELS, images=IMAGES, classes=CLASSES, shared=SHARED)[0] == CODERS["blocks"].code
    with pytest.raises(RequestError, match="more than it takes on"):
        encode_body(POSITIONS, LABELS, images=IMAGES, classes=CLASSES, coder="pack", shared=SHARED)
    with pytest.raises(PayloadCorrupt, match="beyond its limits"):
        decode_body(body, images=IMAGES, classes=CLASSES, shared=SHARED)


def test_a_pack_of_another_length_is_refused() -> None:
    with pytest.raises(RequestError, match="1499 rows of features for 1500"):
        encode_body(
            POSITIONS, LABELS, images=IMAGES, classes=CLASSES, coder="pack", shared=SharedContext(BOUNDS, PACK[:-1])
        )


PINNED = {
    "gaps-zstd": "102 9f8627c1d0a475e8",
    "bitmap-zstd": "189 519871d2680d6e83",
    "blocks": "121 7bbef2187762908a",
    "even-blocks": "127 7bc97280ff5ccd89",
    "pack": "117 20a7abc9568aa6e9",
    "pack-even": "119 cfc69e4751a84bc1",
}


@pytest.mark.parametrize("name", sorted(CODERS))
def test_bytes_never_change(name: str) -> None:
    """The content is made without a random generator, which might change."""
    images, classes = 3000, 6
    positions = np.flatnonzero(np.arange(images, dtype=np.int64) ** 2 % 911 * 37 % 101 < 4)
    labels = positions // 97 * 7 % classes
    pack = (np.arange(images)[:, None] * np.array([37, 101, 59]) % 255 - 127).astype(np.int8)
    pack[positions] = (pack[positions] >> 2) + 20 * (labels[:, None] - 3)
    shared = SharedContext(np.append(np.arange(0, images, 130), images), pack)
    body = encode_body(positions, labels, images=images, classes=classes, coder=name, shared=shared)
    assert f"{len(body)} {hashlib.sha256(body).hexdigest()[:16]}" == PINNED.get(name)


@pytest.mark.parametrize("name", sorted(CODERS))
def test_damaged_bodies_never_do_harm(name: str) -> None:
    """Well-formed content or a PayloadError, soon and in little memory; the container's checksum tells them apart."""
    body = encode_body(POSITIONS, LABELS, images=IMAGES, classes=CLASSES, coder=name, shared=SHARED)
    rng, few = np.random.default_rng(0), 8
    bodies = [body[:cut] for cut in range(0, len(body), max(len(body) // few, 1))]
    bodies += [body + bytes([byte] * 9) for byte in (0, 1, 255)]
    bodies += [body[:1] + rng.bytes(int(rng.integers(1, 400))) for _ in range(few if name.startswith("pack") else 150)]
    for _ in range(few):
        bad = bytearray(body)
        bad[rng.integers(len(bad))] ^= 1 << int(rng.integers(8))
        bodies.append(bytes(bad))
    tracemalloc.start()
    for data in bodies:
        start = time.perf_counter()
        try:
            positions, labels, _ = decode_body(data, images=IMAGES, classes=CLASSES, shared=SHARED)
        except PayloadError:
            pass
        else:
            assert_content(positions, labels)
        assert time.perf_counter() - start < 60  # a hang, not a measure of speed
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 256 << 20


def assert_content(positions: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]) -> None:
    assert positions.shape == labels.shape
    assert (np.diff(positions) > 0).all()
    assert not len(positions) or (positions[0] >= 0 and positions[-1] < IMAGES)
    assert not len(labels) or (labels.min() >= 0 and labels.max() < CLASSES)


def test_bytes_behind_the_last_image_are_refused() -> None:
    for name in ("blocks", "pack"):
        body = encode_body(POSITIONS, LABELS, images=IMAGES, classes=CLASSES, coder=name, shared=SHARED)
        with pytest.raises(PayloadCorrupt, match="after its last image"):
            decode_body(body + b"\1" * 9, images=IMAGES, classes=CLASSES, shared=SHARED)


def test_where_the_bytes_made_ready_do_not_do_it_is_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("blocks", "pack"):
        body = encode_body(POSITIONS, LABELS, images=IMAGES, classes=CLASSES, coder=name, shared=SHARED)
        monkeypatch.setattr(block_coder, "_ROOM", (0, 0))
        monkeypatch.setattr(pack_coder, "_ROOM", (0, 0))
        assert encode_body(POSITIONS, LABELS, images=IMAGES, classes=CLASSES, coder=name, shared=SHARED) == body
        monkeypatch.undo()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"\3\5", "no room"),  # a largest count without end
        (b"\3" + varint(1000) + b"\xff" * 9, "no room"),  # images left over after the last block
        (b"\4" + varint(1000) + b"\xff" * 4000, "0 of 1000 images"),
    ],
)
def test_bytes_of_no_content_are_refused(body: bytes, message: str) -> None:
    with pytest.raises(PayloadCorrupt, match=message):
        decode_body(body, images=IMAGES, classes=CLASSES, shared=SHARED)


def _plain(name: str, where: bytes, names: bytes, kept: int = 3) -> bytes:
    return bytes([CODERS[name].code]) + varint(kept) + varint(len(where)) + where + names


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (_plain("gaps-zstd", compress(bytes(5)), compress(bytes(3))), "5 bytes of gaps for 3 images"),
        (_plain("bitmap-zstd", compress(b"\xe0"), compress(bytes(3))), "a bitmap of 1 bytes for 1500 images"),
        (_plain("bitmap-zstd", compress(b"\xff" + bytes(187)), compress(bytes(3))), "more than the 3 images"),
        (_plain("bitmap-zstd", compress(bytes(187) + b"\x0f"), compress(bytes(4)), 4), "behind the last image"),
    ],
)
def test_plain_bodies_that_contradict_themselves_are_refused(body: bytes, message: str) -> None:
    with pytest.raises(PayloadCorrupt, match=message):
        decode_body(body, images=IMAGES, classes=CLASSES, shared=SHARED)


def test_few_bytes_do_not_name_many_images() -> None:
    images, nothing = 1 << 24, SharedContext()
    for coder in range(7):
        body = bytes([coder]) + varint(images) + bytes(30)
        began = time.monotonic()
        with pytest.raises(PayloadError):
            read_content(body, images=images, classes=1, shared=nothing)
        assert time.monotonic() - began < 5
    with pytest.raises(PayloadCorrupt, match=r"a body of 35 bytes claims 16777216 images; expected at most 74496"):
        read_content(bytes([1]) + varint(images) + bytes(30), images=images, classes=1, shared=nothing)
    everything = np.arange(1 << 20)
    with pytest.raises(RequestError, match="readers take at most"):
        write_content(
            everything, np.zeros_like(everything), images=1 << 20, classes=1, coder="gaps-zstd", shared=nothing
        )
    assert max_kept(bytes(1 << 20)) == 1 << 24
