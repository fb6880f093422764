"""A body that leans on a pack says what it must come to, since the pack is not hashed when a payload is read."""

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest

from plada.common.arrays import I64
from plada.errors import PayloadCorrupt, SideMissing
from plada.payload import payload as payloads
from plada.payload.coders import body as bodies
from plada.payload.coders import registry
from plada.payload.coders.body import CONTENT_CHECK, MAX_KEPT, content_check, needs_pack, read_content, write_content
from plada.payload.coders.registry import CODERS
from plada.payload.payload import Payload, parse_payload
from plada.payload.shared_context import SharedContext
from plada.payload.varints import varint
from tests.payload.payloads import folders, made, same

encode_body, decode_body = bodies.encode_body, bodies.decode_body  # before they are replaced
FEATURES = np.random.default_rng(0).integers(-127, 128, (1000, 4), dtype=np.int8)
PACK_ID = bytes(range(16))
SHARES = {"images": 1000, "classes": 3}


@pytest.fixture
def pack_coder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A coder of few bytes that gives other labels with another pack: code 99, then k and the labels shifted by features."""

    def encode(positions: I64, labels: I64, *, images: int, classes: int, coder: str, shared: SharedContext) -> bytes:
        if coder not in ("pack", "auto") or shared.features is None:
            return encode_body(positions, labels, images=images, classes=classes, coder=coder, shared=shared)
        shifted = (labels + shared.features[positions, 0]) % classes
        numbers: bytes = positions.astype("<u4").tobytes() + shifted.astype("<u2").tobytes()
        return b"\x63" + varint(len(positions)) + numbers

    def decode(body: bytes, *, images: int, classes: int, shared: SharedContext) -> tuple[I64, I64, str]:
        if body[:1] != b"\x63":
            return decode_body(body, images=images, classes=classes, shared=shared)
        if shared.features is None:
            raise SideMissing("needs a pack", needs="pack")
        k = len(body) // 6
        at = len(body) - 6 * k
        positions = np.frombuffer(body, "<u4", k, at).astype(np.int64)
        labels = np.frombuffer(body, "<u2", k, at + 4 * k).astype(np.int64)
        return positions, (labels - shared.features[positions, 0]) % classes, "pack"

    fake = replace(CODERS["gaps-zstd"], code=0x63, needs=("pack",))
    known = {name: coder for name, coder in CODERS.items() if "pack" not in coder.needs}
    for module in (bodies, registry, payloads):
        monkeypatch.setattr(module, "CODERS", MappingProxyType({**known, "pack": fake}))
    monkeypatch.setattr(bodies, "encode_body", encode)
    monkeypatch.setattr(bodies, "decode_body", decode)


def test_bodies_of_other_coders_carry_no_check() -> None:
    payload = made()
    body = write_content(payload.positions, payload.labels, coder="gaps-zstd", shared=SharedContext(), **SHARES)
    assert not needs_pack(body)
    assert not needs_pack(b"")
    assert body == encode_body(payload.positions, payload.labels, coder="gaps-zstd", shared=SharedContext(), **SHARES)
    positions, labels, name = read_content(body, shared=SharedContext(), **SHARES)
    assert np.array_equal(positions, payload.positions)
    assert np.array_equal(labels, payload.labels)
    assert name == "gaps-zstd"


def test_the_check_never_changes() -> None:
    assert content_check(np.array([3, 70_000]), np.array([0, 300])).hex() == "e89ad8e4"


def test_another_pack_never_gives_labels(pack_coder: None) -> None:
    payload, shared = made(), SharedContext(None, FEATURES, PACK_ID)
    body = write_content(payload.positions, payload.labels, coder="pack", shared=shared, **SHARES)
    assert needs_pack(body)
    assert body.endswith(content_check(payload.positions, payload.labels))
    positions, labels, _ = read_content(body, shared=shared, **SHARES)
    assert np.array_equal(positions, payload.positions)
    assert np.array_equal(labels, payload.labels)
    damaged = FEATURES.copy()
    damaged[payload.positions[7], 0] += 1
    with pytest.raises(PayloadCorrupt, match="pack here is damaged"):
        read_content(body, shared=SharedContext(None, damaged, PACK_ID), **SHARES)
    with pytest.raises(SideMissing) as caught:
        read_content(body, shared=SharedContext(), **SHARES)
    assert caught.value.needs == "pack"


@pytest.mark.parametrize("progressive", [None, "blocks", "layers"])
def test_a_payload_names_the_pack_that_it_needs(pack_coder: None, progressive: str | None) -> None:
    payload = made(rank=np.arange(60))
    for shared in (SharedContext(None, FEATURES, PACK_ID), SharedContext(folders().blocks, FEATURES, PACK_ID)):
        file = parse_payload(payload.encode("pack", shared=shared, progressive=progressive), shared=shared)
        assert file.header.pack_id == PACK_ID[:8]
        assert same(file.payload, payload)
        assert file.coder == "pack"
    smaller = parse_payload(payload.encode(shared=shared, progressive=progressive), shared=shared)  # auto
    assert smaller.header.pack_id == b""
    assert smaller.bytes < file.bytes


def test_a_body_that_needs_a_pack_nobody_named_is_refused(pack_coder: None) -> None:
    payload, shared = made(), SharedContext(None, FEATURES)
    with pytest.raises(PayloadCorrupt, match="header names none"):
        parse_payload(payload.encode("pack", shared=shared), shared=shared)


def test_more_images_than_a_reader_has_room_for_are_refused() -> None:
    with pytest.raises(PayloadCorrupt, match="at most 66816"):
        read_content(b"\1" + varint(MAX_KEPT + 1), images=1 << 28, classes=1, shared=SharedContext())
    assert isinstance(made(), Payload)
    assert CONTENT_CHECK == 4


def test_a_real_pack_is_used_where_it_pays() -> None:
    """Features that tell what is kept and as what: fewer bytes, the same content; not for a handful of images."""
    rng = np.random.default_rng(0)
    features = rng.normal(0, 16, (8000, 8))
    positions = np.sort(rng.choice(8000, 500, replace=False))
    labels = rng.integers(0, 3, 500)
    features[positions] += rng.normal(0, 40, (3, 8))[labels]
    shared = SharedContext(folders(8000).blocks, np.clip(np.rint(features), -127, 127).astype(np.int8), PACK_ID)
    payload = Payload(positions, labels, ("a", "b", "c"), 8000, bytes(8), bytes(8))
    file = parse_payload(payload.encode(shared=shared), shared=shared)
    assert same(file.payload, payload)
    assert (file.coder, file.header.pack_id) == ("pack", PACK_ID[:8])
    assert file.bytes == payload.size(shared=shared) < payload.size(shared=SharedContext(shared.blocks))
    few = Payload(positions[:3], labels[:3], ("a", "b", "c"), 8000, bytes(8), bytes(8))
    assert parse_payload(few.encode(shared=shared), shared=shared).header.pack_id == b""
    assert few.size(shared=shared) == len(few.encode(shared=shared)) == few.size(shared=SharedContext(shared.blocks))
    assert shared.features is not None
    damaged = shared.features.copy()
    damaged[::7] += 1
    with pytest.raises(PayloadCorrupt):
        parse_payload(payload.encode(shared=shared), shared=SharedContext(shared.blocks, damaged, PACK_ID))
