"""plada verify: every kind of difference is counted, the first one named, and nothing is found where nothing differs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import plada
from plada.api.verify import Verification
from plada.cli import app
from plada.errors import DataError, RequestError
from plada.sources.manifest import load_manifest
from tests.conftest import picture
from tests.sources.test_collections import as_tars


@pytest.fixture
def copy(pictures: Path, tmp_path: Path) -> Path:
    """Another copy of the pictures, to be spoilt."""
    return Path(shutil.copytree(pictures, tmp_path / "copy"))


@pytest.fixture
def manifest(pictures: Path) -> Path:
    """The server's manifest."""
    return plada.open_images(pictures).manifest.path


def counts(made: Verification) -> tuple[int, ...]:
    return made.missing, made.added, made.other_size, made.other_bytes, made.gone


def test_unreadable_images_are_counted_by_reason_with_an_example(copy: Path) -> None:
    for number in range(3):
        (copy / "n0" / f"none_{number}.jpg").write_bytes(f"nothing {number}".encode())
    (copy / "n0" / "short.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    hashed = plada.verify(copy)
    assert [(group.images, group.example) for group in hashed.unreadable] == [(4, "n0/none_0")]
    plada.index(copy, name="copy", encoder="gradients")
    found = {group.example: (group.images, group.reason[:20]) for group in plada.verify(copy).unreadable}
    assert found == {"n0/none_0": (3, "not an image of a kn"), "n0/short": (1, "begins like a PNG, b")}
    shown = CliRunner().invoke(app, ["verify", str(copy)])
    assert "unreadable" in shown.stdout and "n0/none_0" in shown.stdout
    shown = CliRunner().invoke(app, ["index", str(copy), "--name", "copy", "--encoder", "gradients", "--quiet"])
    assert "begins like a PNG" in shown.stdout and "n0/short" in shown.stdout


def test_the_first_check_makes_the_manifest(pictures: Path) -> None:
    made = plada.verify(pictures)
    assert made.ok
    assert made.against == "nothing: there was no manifest, it was made now"
    assert load_manifest(Path(made.manifest)).content_id.hex() == made.content_id
    again = plada.verify(pictures, sample=5)
    assert (again.ok, again.mode, again.hashed, again.images) == (True, "quick", 5, 24)
    assert plada.verify(pictures, full=True).hashed == 24


def test_another_form_of_the_same_pictures_is_the_same(pictures: Path, manifest: Path, tmp_path: Path) -> None:
    made = plada.verify(as_tars(pictures, tmp_path / "tars"), against=manifest, full=True)
    assert made.ok
    assert made.hashed == 24


def test_a_shard_that_is_missing_or_added_is_told(pictures: Path, manifest: Path, tmp_path: Path) -> None:
    tars = as_tars(pictures, tmp_path / "tars")
    (tars / "n1.tar").rename(tars / "n5.tar")
    made = plada.verify(tars, against=manifest)
    assert counts(made) == (8, 8, 0, 0, 0)
    assert made.first == "n1/image_01: is in the manifest and not here"


@pytest.mark.parametrize("full", [False, True])
def test_what_is_missing_added_or_of_another_size_is_counted(copy: Path, manifest: Path, full: bool) -> None:
    (copy / "n1" / "image_04.png").unlink()
    (copy / "n2" / "image_23.jpg").unlink()
    picture(50).save(copy / "n0" / "more.png")
    picture(51).save(copy / "n9.png")
    (copy / "n2" / "image_05.jpg").write_bytes(b"longer than before, or shorter")
    made = plada.verify(copy, against=manifest, full=full)
    assert not made.ok
    assert counts(made) == (2, 2, 1, 0, 0)
    assert made.first == "n0/more: is here and not in the manifest"
    assert made.content_id == ""
    for word in ("restore what is missing", "take away what was added", "--same-keys"):
        assert word in made.advice


def test_other_bytes_of_the_same_size_are_found_by_hashing(copy: Path, manifest: Path) -> None:
    for name in ("n1/image_07.jpg", "n1/image_13.jpg"):
        data = bytearray((copy / name).read_bytes())
        data[-3] ^= 1
        (copy / name).write_bytes(data)
    made = plada.verify(copy, against=manifest, full=True)
    assert counts(made) == (0, 0, 0, 2, 0)
    assert (made.first or "").startswith("n1/image_07: has hash ")
    assert plada.verify(copy, against=manifest, sample=0).ok, "no image was hashed"
    assert counts(plada.verify(copy, against=manifest, sample=24)) == (0, 0, 0, 2, 0)
    found = [counts(plada.verify(copy, against=manifest, sample=12, seed=seed))[3] for seed in range(20)]
    assert 0.5 < np.mean(found) < 1.5


def test_an_image_that_cannot_be_read_is_counted(
    pictures: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tars = as_tars(pictures, tmp_path / "tars")
    from plada.sources.formats.tars import TarCollection

    read = TarCollection.read

    def failing(self: TarCollection, position: int) -> bytes:
        if position == 9:
            raise DataError("a bad sector")
        return read(self, position)

    def failing_stream(self: TarCollection, start: int, stop: int) -> object:
        yield start, read(self, start)
        raise DataError("a bad sector")

    monkeypatch.setattr(TarCollection, "read", failing)
    monkeypatch.setattr(TarCollection, "stream", failing_stream)
    made = plada.verify(tars, against=manifest, full=True)
    assert counts(made) == (0, 0, 0, 0, 1)
    assert (made.first or "").endswith(": a bad sector")
    assert made.hashed == 24


def test_a_payload_and_an_id_are_compared(pictures: Path, copy: Path, tmp_path: Path) -> None:
    own = plada.open_images(pictures).manifest
    payload = plada.Payload(np.arange(6), np.arange(6) % 2, ("a", "b"), 24, own.key_id[:8], own.content_id[:8])
    payload.save(tmp_path / "p.plada")
    for against in (tmp_path / "p.plada", own.key_id.hex(), own.content_id.hex()[:8].upper()):
        assert plada.verify(pictures, against=against).ok
        assert plada.verify(pictures, against=against, full=True).ok
    data = bytearray((copy / "n0" / "image_00.png").read_bytes())
    data[-1] ^= 1
    (copy / "n0" / "image_00.png").write_bytes(data)
    made = plada.verify(copy, against=tmp_path / "p.plada")
    assert not made.ok
    assert "the same names, other bytes" in (made.first or "")
    assert "manifest" in made.advice
    (copy / "n0" / "image_00.png").unlink()
    assert (plada.verify(copy, against=tmp_path / "p.plada").first or "") == "24 images are meant, 23 are here"
    picture(77).save(copy / "n0" / "zz.png")
    assert "other images, or other names" in (plada.verify(copy, against=tmp_path / "p.plada").first or "")
    assert "id 00000000 is meant" in (plada.verify(copy, against="00000000").first or "")


def test_an_id_is_checked_against_the_images_themselves(pictures: Path) -> None:
    """A stored manifest is not believed when every image is to be hashed."""
    own = plada.open_images(pictures).manifest
    for path in pictures.rglob("*.jpg"):
        data = bytearray(path.read_bytes())
        data[-3] ^= 1
        path.write_bytes(data)
    # 12 of 24 are changed and 24 are sampled when the manifest is opened, so it is made again.
    assert not plada.verify(pictures, against=own.content_id.hex(), full=True).ok


@pytest.mark.parametrize("against", ["nothing", "12ab", "zz" * 8])
def test_what_cannot_be_compared_with_is_refused(against: str, pictures: Path) -> None:
    with pytest.raises(RequestError, match=r"neither a manifest file, nor a payload file, nor an id"):
        plada.verify(pictures, against=against)


def test_the_command_says_it_and_exits_with_4(copy: Path, manifest: Path) -> None:
    run = CliRunner().invoke(app, ["verify", str(copy), "--against", str(manifest), "-q"])
    assert run.exit_code == 0
    assert "the same images" in run.output
    (copy / "n1" / "image_04.png").unlink()
    run = CliRunner().invoke(app, ["verify", str(copy), "--against", str(manifest), "-q"])
    assert run.exit_code == 4
    assert "n1/image_04: is in the manifest and not here" in run.output
    run = CliRunner().invoke(app, ["verify", str(copy), "--against", str(manifest), "--full", "--json"])
    assert run.exit_code == 4
    summary = json.loads(run.stdout.splitlines()[-1])
    assert (summary["type"], summary["ok"], summary["missing"], summary["mode"]) == ("summary", False, 1, "full")


def test_the_servers_manifest_on_the_command_line(copy: Path, manifest: Path, tmp_path: Path) -> None:
    """--manifest FILE: a copy that lost an image is compared with what the server had, not with what is here."""
    sent = tmp_path / "sent.parquet"
    shutil.copyfile(manifest, sent)
    (copy / "n1" / "image_04.png").unlink()
    run = CliRunner().invoke(
        app, ["verify", str(copy), "-q"]
    )  # the first look at this copy: its own manifest is made now
    assert run.exit_code == 0
    run = CliRunner().invoke(app, ["verify", str(copy), "--manifest", str(sent), "--json"])
    summary = json.loads(run.stdout.splitlines()[-1])
    assert (run.exit_code, summary["ok"], summary["missing"]) == (4, False, 1)
    assert str(sent) in summary["against"]
    run = CliRunner().invoke(app, ["verify", str(copy), "--manifest", str(sent), "--against", str(sent)])
    assert run.exit_code == 2
    assert "--manifest FILE is short for --against FILE" in run.stderr
    run = CliRunner().invoke(app, ["verify", str(copy), "--manifest", str(tmp_path / "none")])
    assert run.exit_code == 2
    data = bytearray(sent.read_bytes())
    data[-40] ^= 1
    sent.write_bytes(data)
    run = CliRunner().invoke(app, ["verify", str(copy), "--manifest", str(sent)])
    assert run.exit_code == 5


def test_copies_of_test_images_are_looked_for(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image, ImageOps

    from plada.sources.leaks import fingerprints as fingerprints
    from tests.sources.leaks.test_leaks import scene

    target = tmp_path / "target"
    for part, first in (("train", 100), ("test", 110)):
        for label in ("a", "b"):
            (target / part / label).mkdir(parents=True)
            for number in range(3):
                scene(first + 5 * (label == "b") + number).save(target / part / label / f"{number}.png")
    with Image.open(target / "test" / "b" / "1.png") as original:
        ImageOps.mirror(original).save(pictures / "n2" / "copy.jpg", quality=60)
    made = plada.verify(pictures, leaks=target, sheet=tmp_path / "pairs.png")
    with Image.open(tmp_path / "pairs.png") as pairs:
        assert pairs.width > 100
    assert made.leaks is not None
    assert [(leak.test_key, leak.key, leak.change) for leak in made.leaks.leaks] == [("b/1", "n2/copy", "mirrored")]
    run = CliRunner().invoke(app, ["verify", str(pictures), "--leaks", str(target), "-q"])
    assert run.exit_code == 0
    assert "1 near copies" in run.output
    assert "n2/copy" in run.output
    assert "no index of these images is here" in run.output
    # The indexer made the fingerprints already: nothing is decoded for them.
    plada.index(pictures, name="p", encoder="gradients")
    kept = next((tmp_path / "home" / "references").glob("*/looks-*.bin"))
    before = kept.read_bytes()
    kept.unlink()
    monkeypatch.setattr(fingerprints, "fingerprint", lambda _: pytest.fail("made again"))
    again = plada.verify(pictures, leaks=target)
    assert again.leaks is not None
    assert (again.leaks.index, again.leaks.near_copies) == ("p", 1)
    assert kept.read_bytes() == before
    with pytest.raises(RequestError, match="unknown target"):
        plada.verify(pictures, leaks="nothing")
