"""`plada diff` and `plada apply` on files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import plada
from plada.errors import ReferenceMismatch, RequestError, SignatureError
from plada.payload.diff import count_changes
from plada.payload.payload import Payload
from tests.payload.payloads import same
from tests.payload.test_diff import OLD, changed

NEW = changed(gone=0.03, relabelled=0.03, added=25, serial=2, notes={"target": "menu"})


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    OLD.save(tmp_path / "old.plada")
    NEW.save(tmp_path / "new.plada")
    return tmp_path / "old.plada", tmp_path / "new.plada"


def test_changes_of_files(files: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = files
    made = plada.diff(old, new, out=tmp_path / "d.plada")
    assert made.bytes == (tmp_path / "d.plada").stat().st_size < 0.3 * made.new_bytes
    assert made.new_bytes == new.stat().st_size
    assert (made.removed, made.added, made.relabelled) == count_changes(OLD, NEW)
    assert made.to_dict()["serial"] == 2
    done = plada.apply_diff(old, tmp_path / "d.plada", out=tmp_path / "again.plada")
    assert (tmp_path / "again.plada").read_bytes() == new.read_bytes()
    assert (done.bytes, done.images, done.classes, done.serial) == (new.stat().st_size, len(NEW), 10, 2)
    assert done.to_dict()["payload"] == str(tmp_path / "again.plada")
    with pytest.raises(ReferenceMismatch, match=r"they were made for"):
        plada.apply_diff(new, tmp_path / "d.plada", out=tmp_path / "x.plada")
    with pytest.raises(RequestError, match=r"old\.plada: this is a payload|this is a payload"):
        plada.apply_diff(new, old, out=tmp_path / "x.plada")
    assert not (tmp_path / "x.plada").exists()


def test_a_payload_is_read_with_its_updates(files: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = files
    third = changed(NEW, added=9, seed=4, serial=3)
    third.save(tmp_path / "third.plada")
    steps = [tmp_path / "1", tmp_path / "2"]
    plada.diff(old, new, out=steps[0])
    plada.diff(new, tmp_path / "third.plada", out=steps[1])
    assert same(plada.read_payload(old, read=plada.ReadOptions(update=steps, min_serial=3)), third)
    with pytest.raises(SignatureError, match="serial number 2"):
        plada.read_payload(old, read=plada.ReadOptions(update=steps[:1], min_serial=3))


def test_both_files_must_be_signed(files: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = files
    key, change = plada.keygen(tmp_path / "key"), tmp_path / "d.plada"
    plada.diff(old, new, out=change, sign=key.private)
    with pytest.raises(SignatureError, match=r"old\.plada: not signed"):
        plada.apply_diff(old, change, out=tmp_path / "x", require_signature=key.public)
    plada.diff(old, new, out=change)
    plada.sign(old, key=key.private)
    with pytest.raises(SignatureError, match=r"d\.plada: not signed"):
        plada.apply_diff(old, change, out=tmp_path / "x", require_signature=key.public)
    plada.sign(change, key=key.private)
    plada.apply_diff(old, change, out=tmp_path / "x", require_signature=key.public)
    assert same(plada.read_payload(tmp_path / "x"), NEW)


def test_added_images_may_need_the_manifest(pictures: Path, tmp_path: Path) -> None:
    images = plada.open_images(pictures)
    ids = images.manifest.key_id, images.manifest.content_id
    old = Payload(np.zeros(0, np.int64), np.zeros(0, np.int64), ("a", "b"), 24, *ids)
    new = replace(old, positions=np.arange(8, 16), labels=np.zeros(8, np.int64))
    old.save(tmp_path / "old")
    new.save(tmp_path / "new")
    plada.diff(tmp_path / "old", tmp_path / "new", out=tmp_path / "d")
    assert np.array_equal(
        plada.read_payload(tmp_path / "old", read=plada.ReadOptions(update=[tmp_path / "d"])).positions,
        np.arange(8, 16),
    )
    found = plada.read_payload(
        tmp_path / "old", read=plada.ReadOptions(update=[tmp_path / "d"]), reference=pictures, home=tmp_path / "away"
    )
    assert np.array_equal(found.positions, np.arange(8, 16))


def test_changes_are_counted_by_name() -> None:
    renamed = replace(OLD, classes=("A", *OLD.classes[1:]))
    assert count_changes(OLD, OLD) == (0, 0, 0)
    assert count_changes(OLD, renamed) == (0, 0, OLD.class_counts()[0])
