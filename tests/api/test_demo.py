"""The demo in small: the whole way through, with everything the summary promises."""

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import plada
from plada.api.demo import BUDGET, png_bytes
from plada.cli import app
from plada.sources.formats.builtin import open_digits


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_the_demo_in_small(folder: Path, glyph_home: Path) -> None:
    done = CliRunner().invoke(
        app, ["demo", "--source", "glyphs:count=1500", "--out", str(folder), "--home", str(folder / "home"), "--json"]
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) >= {
        "images", "images_per_second", "teacher_accuracy", "payload_bytes", "target_bytes", "student_accuracy", "seconds", "sheet",
    }  # fmt: skip
    assert found["images"] == 1500
    assert found["payload_bytes"] == (folder / "digits.plada").stat().st_size <= BUDGET
    assert found["teacher_accuracy"] > 0.95
    # Even from a thirteenth of the demo's reference, the students are far above chance.
    assert found["student_accuracy"] > 0.75
    assert len(found["student_accuracies"]) == 3
    text = Path(found["report"]).read_text()
    assert Path(found["report"]).stat().st_size < 5_000_000
    assert "fits the budget of 2&nbsp;000" in text
    assert f"{found['student_accuracies'][0]:.1%}" in text
    with Image.open(found["sheet"]) as sheet:
        assert sheet.size[1] > 10 * 64
    assert plada.read_payload(found["payload"], home=folder / "home").classes == tuple("0123456789")


def test_the_table_says_what_is_reused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From few glyphs and with few labels: this is about the words, not the accuracy."""
    monkeypatch.setattr("plada.api.demo.SEEDS", (0, 0))
    monkeypatch.setattr("plada.api.demo.BUDGET", 200)
    plada.index("glyphs:count=300", home=folder / "home")
    shown = CliRunner().invoke(
        app, ["demo", "--source", "glyphs:count=300", "--out", str(folder), "--home", str(folder / "home")]
    )
    assert shown.exit_code == 0, shown.output
    assert "index of an earlier run" in shown.stdout
    assert "digits.png" in shown.stdout


def test_the_targets_own_bytes_are_those_of_real_files(tmp_path: Path) -> None:
    train = open_digits().train
    assert 50 * len(train) < png_bytes(train) < 200 * len(train)
