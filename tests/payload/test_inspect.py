"""Where the bytes of a file go: every one of them, beside what they might have been."""

import math

import numpy as np
import pytest

from plada.payload.container import Signer
from plada.payload.diff import write_changes
from plada.payload.inspect import choice_bits, label_bits, summarise, summarise_changes, summarise_unread, time_on_air
from plada.payload.payload import parse_payload
from plada.payload.shared_context import SharedContext
from tests.payload.payloads import folders, made

SHARED = folders()


@pytest.mark.parametrize("progressive", [None, "blocks"])
def test_every_byte_is_accounted_for(progressive: str | None) -> None:
    payload = made(serial=5)
    signer = Signer(b"abcd", lambda _: bytes(64))
    data = payload.encode(shared=SHARED, progressive=progressive, signer=signer)
    found = summarise(parse_payload(data, shared=SHARED), SHARED)
    assert sum(found.sections.values()) == found.bytes == len(data) == sum(part.bytes for part in found.parts)
    assert (found.images, found.classes, found.signed, found.signed_by, found.serial) == (60, 3, True, b"abcd".hex(), 5)
    assert found.class_counts == dict(zip(payload.classes, payload.class_counts(), strict=True))
    assert found.coders is not None and set(found.coders) >= {"gaps-zstd", "bitmap-zstd"}
    assert found.segments == (None if progressive is None else (2, 2))
    assert found.to_dict()["parts"][0] == {"name": "header", "offset": 0, "bytes": found.sections["header"]}
    assert not found.missing


@pytest.mark.parametrize("features", [None, np.zeros((1000, 2), np.int8)])
def test_segments_that_need_no_manifest_are_summarised_without(features: np.ndarray | None) -> None:
    shared = SharedContext(None, features, bytes(16))
    coder = "blocks" if features is None else "pack"
    found = summarise(parse_payload(made().encode(coder, shared=shared, progressive="blocks"), shared=shared), shared)
    assert (found.images, found.coder, found.segments) == (60, coder, (2, 2))
    assert found.positions is not None and found.positions.bits > 0


def test_bits_of_positions_and_labels_are_those_of_the_body() -> None:
    payload = made(400, 4000)
    data = payload.encode("bitmap-zstd")
    found = summarise(parse_payload(data), SharedContext())
    assert found.positions is not None and found.labels is not None
    whole = (found.positions.bits + found.labels.bits) * 400 / 8
    assert abs(whole - found.sections["labels"]) < 1e-6
    assert found.positions.entropy == pytest.approx(math.log2(math.comb(4000, 400)) / 400)
    assert found.positions.bits > found.positions.entropy  # no pattern is in random positions
    assert found.labels.entropy == pytest.approx(label_bits(payload.labels) / 400)


def test_entropies() -> None:
    assert choice_bits(10, 0) == choice_bits(10, 10) == 0
    assert choice_bits(10, 3) == pytest.approx(math.log2(120))
    assert choice_bits(14_197_122, 141_971) > 1e6
    assert label_bits(np.array([0, 0, 1, 1])) == pytest.approx(4)
    assert label_bits(np.array([5, 5, 5])) == 0
    assert label_bits(np.zeros(0, np.int64)) == 0


def test_time_on_air() -> None:
    assert time_on_air(1000, (500, 8000)) == {500: 16.0, 8000: 1.0}


def test_the_papers_coders_stand_beside_ours() -> None:
    found = summarise(parse_payload(made().encode()), SharedContext())
    assert found.paper is not None
    assert all(size > 0 for size in found.paper.values())


def test_an_empty_payload_has_no_bits_an_image() -> None:
    found = summarise(parse_payload(made(0).encode()), SharedContext())
    assert (found.images, found.positions, found.labels, found.paper) == (0, None, None, None)


def test_changes_say_what_they_are_for() -> None:
    old, new = made(), made(59, classes=("ant", "bee", "cat", "dog"))
    data = write_changes(old, new)
    found = summarise_changes(data)
    assert (found.images, found.coder, found.classes, found.names) == (None, None, 4, ())
    assert found.changes is not None
    assert (found.changes["for"], found.changes["makes"]) == (old.digest().hex(), new.digest().hex())
    assert found.changes["new_names"] == ["dog"]
    assert sum(found.sections.values()) == found.bytes == len(data)


def test_what_cannot_be_read_here_is_said_to_be_missing() -> None:
    data = made(notes={}).encode("blocks", shared=SHARED)
    found = summarise_unread(data, missing="no manifest")
    assert (found.images, found.coder, found.class_counts, found.paper) == (60, "blocks", None, None)
    assert sum(found.sections.values()) == found.bytes == len(data)
    assert (found.names, found.missing, found.signed) == (("ant", "bee", "cat"), "no manifest", False)
    numbered = summarise_unread(made(notes={}, classes=("0", "1")).encode(), missing="no manifest")
    assert (numbered.names, numbered.notes) == (("0", "1"), {})
