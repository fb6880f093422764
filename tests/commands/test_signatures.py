"""Every command that believes a payload can be told whose it must be."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

if importlib.util.find_spec("cryptography") is None:
    pytest.skip("cryptography is not installed (extra: sign)", allow_module_level=True)

import plada
from plada.cli import app
from plada.errors import SignatureError
from plada.payload.payload import Payload
from plada.payload.signature import KeyPair


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def keys(tmp_path: Path) -> tuple[KeyPair, KeyPair]:
    return plada.keygen(tmp_path / "mine"), plada.keygen(tmp_path / "other")


@pytest.fixture
def sent(pictures: Path, tmp_path: Path, keys: tuple[KeyPair, KeyPair]) -> Path:
    """Signed by the first key, with serial number 3."""
    manifest = plada.open_images(pictures).manifest
    positions = np.arange(0, 24, 2)
    payload = Payload(
        positions, positions // 2 % 2, ("a", "b"), len(manifest), manifest.key_id, manifest.content_id, serial=3
    )
    plada.write_payload(payload, tmp_path / "s.plada", delivery=plada.Delivery(sign=keys[0].private))
    return tmp_path / "s.plada"


def test_report(sent: Path, pictures: Path, tmp_path: Path, keys: tuple[KeyPair, KeyPair]) -> None:
    words = ("report", sent, "--reference", pictures, "-o", tmp_path / "r.html", "--require-signature")
    assert run(*words, keys[1].public).exit_code == 3
    assert not (tmp_path / "r.html").exists()
    assert run(*words, keys[0].public).exit_code == 0
    assert "--require-signature" in (tmp_path / "r.html").read_text()


def test_verify(sent: Path, pictures: Path, keys: tuple[KeyPair, KeyPair]) -> None:
    words = ("verify", pictures, "--against", sent)
    assert "not checked" in run(*words).stdout
    good = run(*words, "--require-signature", keys[0].public)
    assert good.exit_code == 0
    assert ", checked" in " ".join(good.stdout.split())
    assert run(*words, "--require-signature", keys[1].public).exit_code == 3
    for against in ((), ("--against", "0" * 64)):
        refused = run("verify", pictures, *against, "--require-signature", keys[0].public)
        assert refused.exit_code == 2
        assert "--require-signature is for a payload" in refused.stderr


def test_explore(sent: Path, pictures: Path, tmp_path: Path, keys: tuple[KeyPair, KeyPair]) -> None:
    from plada.api.explore import open_gallery

    plada.index(pictures, name="x", encoder="gradients", home=tmp_path / "h")
    with pytest.raises(SignatureError):
        open_gallery("x", [sent], require_signature=keys[1].public, home=tmp_path / "h")
    assert len(open_gallery("x", [sent], require_signature=keys[0].public, home=tmp_path / "h").payloads) == 1
    assert (
        run(
            "explore",
            "x",
            sent,
            "--no-open",
            "--port",
            "0",
            "--home",
            tmp_path / "h",
            "--require-signature",
            keys[1].public,
        ).exit_code
        == 3
    )


def test_apply(sent: Path, tmp_path: Path, keys: tuple[KeyPair, KeyPair]) -> None:
    old = plada.read_payload(sent)
    newer = replace(old, labels=1 - old.labels, serial=4)
    plada.write_payload(newer, tmp_path / "new.plada", delivery=plada.Delivery(sign=keys[0].private))
    plada.diff(sent, tmp_path / "new.plada", out=tmp_path / "d.plada", sign=keys[0].private)
    words = ("apply", sent, tmp_path / "d.plada", "-o", tmp_path / "made.plada", "--min-serial")
    assert run(*words, "5").exit_code == 3
    assert not (tmp_path / "made.plada").exists()
    assert run(*words, "4").exit_code == 0
