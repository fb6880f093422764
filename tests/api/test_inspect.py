"""`plada inspect` with the reference, and with less without it."""

from pathlib import Path

import numpy as np
import pytest

import plada
from plada.errors import PayloadCorrupt, RequestError, SignatureError
from plada.payload.payload import Payload
from plada.payload.shared_context import SharedContext
from tests.payload.payloads import made
from tests.payload.test_diff import OLD, changed


def test_a_payload(tmp_path: Path) -> None:
    size = made(serial=3).save(tmp_path / "x.plada")
    found = plada.inspect(tmp_path / "x.plada", rate=["500bps", "9.6kbps"])
    assert found.bytes == size == sum(found.sections.values())
    assert found.air == {500: 8 * size / 500, 9600: 8 * size / 9600}
    assert (found.version, found.images, found.serial, found.missing) == (2, 60, 3, "")
    assert found.coders is not None and found.coder is not None
    assert found.coders[found.coder] == found.sections["labels"]
    with pytest.raises(RequestError, match="rate 'fast'"):
        plada.inspect(tmp_path / "x.plada", rate=["fast"])


def test_without_the_reference_less_is_said(pictures: Path, tmp_path: Path) -> None:
    images = plada.open_images(pictures)
    ids = images.manifest.key_id, images.manifest.content_id
    payload = Payload(np.arange(8, 16), np.zeros(8, np.int64), ("a", "b"), 24, *ids, notes={"target": "x"})
    payload.save(tmp_path / "x.plada", "blocks", shared=SharedContext(np.array([0, 8, 16, 24])))
    whole = plada.inspect(tmp_path / "x.plada")
    assert (whole.images, whole.coder, whole.missing) == (8, "blocks", "")
    assert plada.inspect(tmp_path / "x.plada", home=tmp_path / "away", reference=pictures).images == 8
    less = plada.inspect(tmp_path / "x.plada", home=tmp_path / "away")
    assert (less.images, less.coder, less.coders, less.class_counts, less.names) == (
        8,
        "blocks",
        None,
        None,
        ("a", "b"),
    )
    assert (less.notes, less.bytes, less.sections, less.key_id) == (
        whole.notes, whole.bytes, whole.sections, whole.key_id,
    )  # fmt: skip
    assert "needs the names of its reference's images" in less.missing
    Payload(np.arange(8, 16), np.zeros(8, np.int64), ("0",), 24, *ids).save(
        tmp_path / "y.plada", "blocks", shared=SharedContext(np.array([0, 8, 16, 24]))
    )
    assert plada.inspect(tmp_path / "y.plada", home=tmp_path / "away").names == ("0",)


def test_without_the_reference_segments_are_counted_too(pictures: Path, tmp_path: Path) -> None:
    ids = plada.open_images(pictures).manifest.key_id, bytes(16)
    payload = Payload(np.arange(8, 16), np.zeros(8, np.int64), ("a", "b"), 24, *ids)
    payload.save(
        tmp_path / "x.plada", "blocks", shared=SharedContext(np.array([0, 8, 16, 24])), progressive="blocks", segments=3
    )
    less = plada.inspect(tmp_path / "x.plada", home=tmp_path / "away")
    assert (less.images, less.coder, less.segments) == (8, "blocks", (3, 3))
    assert "needs the names" in less.missing


def test_changes(tmp_path: Path) -> None:
    OLD.save(tmp_path / "old")
    changed(gone=0.1, classes=(*OLD.classes, "new")).save(tmp_path / "new")
    plada.diff(tmp_path / "old", tmp_path / "new", out=tmp_path / "d")
    found = plada.inspect(tmp_path / "d")
    assert found.changes is not None
    assert (found.changes["for"], found.changes["new_names"], found.classes) == (OLD.digest().hex(), ["new"], 11)
    assert sum(found.sections.values()) == found.bytes == (tmp_path / "d").stat().st_size
    assert found.images is None


def test_signatures_are_shown_and_may_be_required(tmp_path: Path) -> None:
    made().save(tmp_path / "x.plada")
    key = plada.keygen(tmp_path / "key")
    with pytest.raises(SignatureError, match="not signed"):
        plada.inspect(tmp_path / "x.plada", require_signature=key.public)
    plada.sign(tmp_path / "x.plada", key=key.private)
    found = plada.inspect(tmp_path / "x.plada", require_signature=key.public)
    assert (found.signed, found.signed_by) == (True, key.fingerprint)


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.plada").write_bytes(b"\x89PNG" + bytes(99))
    with pytest.raises(PayloadCorrupt, match=r"bad\.plada: not a plada payload"):
        plada.inspect(tmp_path / "bad.plada")
