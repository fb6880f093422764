"""Where `plada index` takes its encoder from, where none is given."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import plada
from plada.api import index as indexing
from plada.encoders.known import KNOWN_ENCODERS
from plada.encoders.spec import EncoderSpec, encoder_spec
from plada.errors import EncoderMissing, UnknownName


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("PLADA_ENCODER", raising=False)
    monkeypatch.delenv("PLADA_DOWNLOAD", raising=False)
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


class Loaded(Exception):
    """Raised in place of loading an encoder."""


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[EncoderSpec]:
    """The specs that are loaded; loading stops there."""
    specs: list[EncoderSpec] = []

    def load(spec: EncoderSpec, *_: Any, **__: Any) -> Any:
        specs.append(spec)
        raise Loaded

    monkeypatch.setattr(indexing, "_load", load)
    return specs


def test_nothing_is_downloaded_unasked(photos: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with pytest.raises(EncoderMissing, match="plada config set encoder clip") as failure:
        plada.index(photos, home=home)
    assert failure.value.megabytes == 605
    plada.config("encoder", "mobilenet", home=home)
    with pytest.raises(EncoderMissing, match="plada config set download yes") as failure:
        plada.index(photos, home=home)
    assert failure.value.encoder == "mobilenet"


def test_the_setting_gives_the_encoder(
    photos: Path, tmp_path: Path, loaded: list[EncoderSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    plada.config("encoder", "mobilenet", home=home)
    plada.config("download", "yes", home=home)
    with pytest.raises(Loaded):
        plada.index(photos, home=home)
    monkeypatch.setenv("PLADA_ENCODER", "timm:resnet18.random")
    with pytest.raises(Loaded):
        plada.index(photos, encoder=EncoderSpec(name="", image_size=32), home=home)
    first, second = loaded
    assert (first.name, first.image_size, first.pretrained) == ("timm:mobilenetv2_100.ra_in1k", 96, True)
    assert (second.name, second.image_size, second.pretrained) == ("timm:resnet18.random", 32, False)


def test_an_index_of_this_name_gives_its_encoder(
    photos: Path, tmp_path: Path, loaded: list[EncoderSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.undo()
    asked = EncoderSpec(name="timm:resnet18.random", image_size=32, precision="fp32")
    plada.index(photos, encoder=asked, home=home, workers=0, ann="none")
    plada.config("encoder", "gradients", home=home)
    Image.new("RGB", (16, 16)).save(photos / "more.png")
    summary = plada.index(photos, append=True, home=home, workers=0, ann="none")
    assert (summary.encoder, summary.images) == ("timm:resnet18.random", 4)


def test_short_names_stand_for_full_ones(tmp_path: Path) -> None:
    for short, known in KNOWN_ENCODERS.items():
        assert encoder_spec(short).name == known.name
    assert encoder_spec(EncoderSpec(name="dinov2-s", image_size=112)).image_size == 112
    with pytest.raises(UnknownName, match="mobilenet"):
        plada.index("glyphs:count=20", encoder="mobilnet", home=tmp_path)
