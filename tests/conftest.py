"""What the tests share: small real collections, made here, and one small index."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

import plada
from plada.common.checksums import write_sealed_json
from plada.retrieval.index import Index
from plada.sources.formats.builtin import open_digits

settings.register_profile("plada", deadline=None)  # no test asserts a time
settings.load_profile("plada")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def shared() -> Path:
    """The shared real data beside the checkout, where there is some."""
    if not (SHARED / "unpack.py").exists():
        pytest.skip("no ../shared/data beside this checkout")
    return SHARED


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a home of its own, so that none sees another's indexes."""
    monkeypatch.setenv("PLADA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def picture(seed: int, size: tuple[int, int] = (40, 30)) -> Image.Image:
    """A picture of smooth noise, another one for each seed."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of 24 pictures in three folders, JPEG and PNG."""
    root = tmp_path / "pictures"
    for number in range(24):
        path = root / f"n{number % 3}" / f"image_{number:02d}.{'jpg' if number % 2 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(path)
    return root


def table_folder(index: Path) -> Path:
    """Folder of the table of the finished index in a folder."""
    return index / f"{json.loads((index / 'index.json').read_text())['table']}.lance"


def edit_json(path: Path, **fields: Any) -> None:
    """Change fields of one of an index's JSON files, and put its checksum right."""
    write_sealed_json(path, {**json.loads(path.read_text()), **fields})


def make_shades(root: Path) -> Path:
    """Write the target of `target_folder`."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 10), ("test", 5)):
        for name, base, sign in (("bright", 30, 1), ("dim", 220, -1)):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.full((24, 24), base)
                top, left = rng.integers(2, 10, 2)
                pixels[top : top + 12, left : left + 12] += sign * 180
                Image.fromarray(pixels.astype(np.uint8)).save(root / part / name / f"{number}.png")
    return root


@pytest.fixture
def target_folder(tmp_path: Path) -> Path:
    """A target of two classes that anything can tell apart: light on dark and dark on light, 10 + 5 images each."""
    return make_shades(tmp_path / "shades")


@pytest.fixture(scope="session")
def glyph_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home that holds one index: 1 500 glyphs under the built-in encoder. Tests do not write to it."""
    root = tmp_path_factory.mktemp("glyph-home")
    plada.index("glyphs:count=1500", name="glyphs", home=root)
    yield root


@pytest.fixture(scope="session")
def few_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A target of a few digits: twelve of each to learn from, four to test. Choosing for it is quick."""
    root, target = tmp_path_factory.mktemp("few-digits"), open_digits()
    assert target.test is not None
    for part, split, each in (("train", target.train, 12), ("test", target.test, 4)):
        for label, name in enumerate(target.classes):
            folder = root / part / name
            folder.mkdir(parents=True)
            for position in split.positions[split.labels == label][:each].tolist():
                (folder / f"{position}.png").write_bytes(split.collection.read(position))
    return root


@pytest.fixture(scope="session")
def digits_file(glyph_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A payload for digits out of the 1 500 glyphs. Tests do not write to it."""
    file = tmp_path_factory.mktemp("digits") / "digits.plada"
    plada.select("glyphs", target="digits", budget=400, out=file, home=glyph_home)
    return file


@pytest.fixture(scope="session")
def small_payload(glyph_home: Path, few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A payload of some 150 glyphs for a few digits. Tests do not write to it."""
    file = tmp_path_factory.mktemp("small") / "digits.plada"
    plada.select("glyphs", target=few_digits, budget=250, rule="balanced", out=file, home=glyph_home)
    return file


@pytest.fixture
def glyphs(glyph_home: Path) -> Index:
    return plada.open_index("glyphs", home=glyph_home)


@pytest.fixture(autouse=True)
def no_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a call reports does not depend on how fast the machine is; tests/common/test_progress.py tries heartbeats,
    tests/commands/test_first_sign.py the line with which a command starts."""
    monkeypatch.setattr("plada.common.progress._SILENCE", 3600.0)
    monkeypatch.setattr("plada.commands.console.output._STARTING_SECONDS", 3600.0)
