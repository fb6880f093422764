"""The commands on payload files, and the options of select, train and export that concern the file."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import plada
from plada.payload.shared_context import SharedContext
from tests.payload.payloads import same
from tests.test_cli import call, refused, summary

GLYPHS = ("--reference", "glyphs:count=1500")


@pytest.fixture(scope="module")
def chosen(glyph_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A payload for digits out of the 1 500 glyphs, in layers, signed, with a serial number; the key lies beside it."""
    folder = tmp_path_factory.mktemp("chosen")
    plada.keygen(folder / "key")
    found = summary(
        "select", "--target", "digits", "--budget", "500", "--rule", "random", "--home", glyph_home, "-o", folder / "x.plada",
        "--progressive", "layers", "--segments", "3", "--sign", folder / "key", "--serial", "7",
    )  # fmt: skip
    assert found["bytes"] == (folder / "x.plada").stat().st_size <= 500
    assert (found["progressive"], found["serial"], found["client_has"]) == ("layers", 7, "manifest")
    assert len(found["signed_by"]) == 8
    return folder


@pytest.fixture
def sent(chosen: Path, tmp_path: Path) -> Path:
    for name in ("key", "key.pub", "x.plada"):
        shutil.copy(chosen / name, tmp_path / name)
    return tmp_path / "x.plada"


def trained(path: Path, glyph_home: Path, *options: str | Path) -> dict[str, object]:
    return summary(
        "train", path, *GLYPHS, "--student", "small_cnn", "--recipe", "epochs=1", "--home", glyph_home, "-o",
        path.with_suffix(".safetensors"), *options,
    )  # fmt: skip


def test_the_whole_way(sent: Path, glyph_home: Path, tmp_path: Path) -> None:
    public = f"{tmp_path / 'key'}.pub"
    found = trained(sent, glyph_home, "--require-signature", public, "--min-serial", "7")
    assert (found["segments"], found["serial"]) == ([3, 3], 7)
    shown = summary("inspect", sent, "--require-signature", public, "--rate", "500bps", "--home", glyph_home)
    assert shown["images"] == found["images"]
    assert (shown["signed"], shown["segments"], list(shown["air"])) == (True, [3, 3], ["500"])
    text = call("inspect", sent, "--home", glyph_home).stdout
    assert "payload version 2" in text
    for word in ("time on air", "500 bit/s", "paper's coders", "serial number", "by key", "bits an image"):
        assert word in text, text


def test_a_cut_file(sent: Path, glyph_home: Path, tmp_path: Path) -> None:
    data = sent.read_bytes()
    sent.write_bytes(data[: 3 * len(data) // 4])
    arguments = ("train", sent, *GLYPHS, "--student", "small_cnn", "--home", glyph_home)
    assert "Fetch it again" in refused(3, "PayloadTruncated", *arguments)
    found = trained(sent, glyph_home, "--partial")
    assert found["segments"] in ([1, 3], [2, 3])
    plain = call(*arguments, "--partial", "--recipe", "epochs=1", "-o", tmp_path / "m.safetensors")
    assert "of the payload's 3 segments were whole" in " ".join(plain.stdout.split())
    out = tmp_path / "x.csv"
    summary("export", sent, "--to", "csv", "-o", out, "--home", glyph_home, "--partial")
    assert len(out.read_text().splitlines()) == found["images"] + 1  # type: ignore[operator]


def test_nothing_to_train_on(sent: Path, glyph_home: Path) -> None:
    data = sent.read_bytes()
    layers = plada.inspect(sent, home=glyph_home).parts
    begin = next(part.offset for part in layers if part.name == "segment 0")
    sent.write_bytes(data[:begin])
    message = refused(
        5, "DataError", "train", sent, *GLYPHS, "--student", "small_cnn", "--home", glyph_home, "--partial"
    )
    assert "holds no label" in message


def test_what_is_not_signed_or_too_old_is_refused(sent: Path, glyph_home: Path, tmp_path: Path) -> None:
    arguments = ("train", sent, *GLYPHS, "--student", "small_cnn", "--home", glyph_home)
    assert "expected 8 or more" in refused(3, "SignatureError", *arguments, "--min-serial", "8")
    other = plada.keygen(tmp_path / "other")
    assert "required is" in refused(3, "SignatureError", *arguments, "--require-signature", other.public)
    csv = ("export", sent, "--to", "csv", "-o", tmp_path / "x.csv", "--home", glyph_home)
    assert "required is" in refused(3, "SignatureError", *csv, "--require-signature", other.public)


def test_diff_and_apply(chosen: Path, glyph_home: Path, tmp_path: Path) -> None:
    old, new, change, again = (tmp_path / name for name in ("old", "new", "d", "again"))
    payload = plada.read_payload(chosen / "x.plada", home=glyph_home)
    later = replace(payload, positions=payload.positions[3:], labels=payload.labels[3:], serial=8)
    plada.write_payload(payload, old, home=glyph_home)
    plada.write_payload(later, new, home=glyph_home)
    made = summary("diff", old, new, "-o", change, "--home", glyph_home)
    assert made["bytes"] == change.stat().st_size < new.stat().st_size
    assert f"{made['bytes']} bytes" in call("diff", old, new, "-o", change, "--home", glyph_home).stdout
    done = summary("apply", old, change, "-o", again, "--home", glyph_home)
    assert again.read_bytes() == new.read_bytes()
    assert done["images"] == made["added"] + len(plada.read_payload(old, home=glyph_home)) - made["removed"]
    assert f"{done['bytes']} bytes" in call("apply", old, change, "-o", again, "--home", glyph_home).stdout
    assert "made for" in refused(4, "ReferenceMismatch", "apply", new, change, "-o", again, "--home", glyph_home)
    assert "old" in call("inspect", change, "--home", glyph_home).stdout or summary("inspect", change)["changes"]
    updated = ("export", old, "--to", "csv", "-o", tmp_path / "u.csv", "--home", glyph_home, "--update", change)
    summary(*updated)
    assert len((tmp_path / "u.csv").read_text().splitlines()) == done["images"] + 1
    assert same(
        plada.read_payload(old, read=plada.ReadOptions(update=[change]), home=glyph_home),
        plada.read_payload(new, home=glyph_home),
    )


def test_keygen_and_sign(sent: Path, glyph_home: Path, tmp_path: Path) -> None:
    made = summary("keygen", tmp_path / "mine")
    assert set(made) == {"private", "public", "fingerprint"}
    assert "readable by you alone" in call("keygen", tmp_path / "third").stdout
    assert "already there" in refused(2, "RequestError", "keygen", tmp_path / "mine")
    done = summary("sign", sent, "--key", made["private"], "-o", tmp_path / "y.plada")
    assert (done["fingerprint"], done["serial"]) == (made["fingerprint"], 7)
    assert made["fingerprint"] in call("sign", sent, "--key", made["private"]).stdout
    assert sent.read_bytes() == (tmp_path / "y.plada").read_bytes()
    against = summary("verify", "glyphs:count=1500", "--against", sent, "--home", glyph_home)
    assert f"signed by key {made['fingerprint']}, not checked" in against["against"]


def test_inspect_without_the_reference(chosen: Path, glyph_home: Path, tmp_path: Path) -> None:
    payload = plada.read_payload(chosen / "x.plada", home=glyph_home)
    shared = SharedContext(np.array([0, payload.reference]))
    payload.save(tmp_path / "y.plada", "blocks", shared=shared)
    found = summary("inspect", tmp_path / "y.plada", "--home", tmp_path / "away")
    assert (found["images"], found["coders"]) == (len(payload), None)  # how many is said by the bytes themselves
    assert "needs the names" in found["missing"]
    text = call("inspect", tmp_path / "y.plada", "--home", tmp_path / "away").stdout
    assert "not said" in text
    assert f"{len(payload)} of a reference of 1500" in text


def test_a_payload_that_was_read_cannot_be_asked_who_signed_it(sent: Path, glyph_home: Path) -> None:
    read = plada.read_payload(sent, home=glyph_home)
    with pytest.raises(plada.PladaError, match="read already"):
        plada.train(read, read=plada.ReadOptions(require_signature="x.pub"), home=glyph_home)
    with pytest.raises(plada.PladaError, match="expected 8 or more"):
        plada.train(read, read=plada.ReadOptions(min_serial=8), home=glyph_home)
