"""`plada select --calibration`: the note is measured, fits, is counted, and is what clients with the encoder use."""

import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import plada
from plada.cli import app
from plada.errors import RequestError
from plada.payload.calibration import NOTE, calibration_of
from plada.retrieval.index import Index


def test_the_note_fits_and_is_counted(glyphs: Index, glyph_home: Path, few_digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.plada"
    made = plada.select(
        glyphs,
        target=few_digits,
        budget=500,
        rule="balanced",
        out=out,
        delivery=plada.Delivery(calibration=True),
        home=glyph_home,
    )
    assert made.report.bytes == out.stat().st_size <= 500
    assert 0 < made.report.calibration_bytes < 70
    sent = plada.read_payload(out, home=glyph_home)
    found = calibration_of(sent.notes, 10)
    assert found is not None
    assert found.images == 120
    assert found.encoder == glyphs.encoder().config.short_id()
    assert np.isfinite(found.bias).all()
    done = plada.train(out, reference="glyphs:count=1500", student="linear", home=glyph_home)
    assert done.calibration == "payload"
    assert (
        plada.select(glyphs, target=few_digits, budget=500, rule="balanced", home=glyph_home).report.calibration_bytes
        == 0
    )
    assert made.options["calibration"] is True


def test_the_command_says_what_the_note_costs(
    glyphs: Index, glyph_home: Path, few_digits: Path, tmp_path: Path
) -> None:
    done = CliRunner().invoke(
        app,
        ["select", "--index", "glyphs", "--target", str(few_digits), "--budget", "500", "--rule", "balanced", "--calibration", "--out",
         str(tmp_path / "x.plada"), "--home", str(glyph_home)],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    size = (tmp_path / "x.plada").stat().st_size
    assert re.search(rf"calibration: \d\d of the {size} bytes, for clients' --adapt", done.output)


def test_a_target_with_too_few_images(glyphs: Index, glyph_home: Path, few_digits: Path, tmp_path: Path) -> None:
    for name in "01":
        folder = tmp_path / "thin" / "train" / name
        folder.mkdir(parents=True)
        for path in sorted((few_digits / "train" / name).iterdir())[:3]:
            (folder / path.name).write_bytes(path.read_bytes())
    with pytest.raises(RequestError, match="--calibration: target thin has 6 images to measure a student on"):
        plada.select(
            glyphs,
            target=tmp_path / "thin",
            budget=500,
            rule="balanced",
            delivery=plada.Delivery(calibration=True),
            home=glyph_home,
        )
    assert (
        NOTE
        not in plada.select(
            glyphs, target=tmp_path / "thin", budget=500, rule="balanced", home=glyph_home
        ).payload.notes
    )
