"""The search command: what may be asked, the sheet, and one line for everything a user can cause."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import plada
from plada.errors import RequestError
from plada.retrieval.index import Index
from tests.test_cli import call, refused, summary


def test_words_need_a_text_tower(glyph_home: Path) -> None:
    home = ("--home", glyph_home)
    assert "gradients has no text tower" in refused(2, "RequestError", "search", "a dog", *home)
    assert "no such image file" in refused(2, "RequestError", "search", "dog.jpg", *home)
    assert "holds 0 to 1499" in refused(2, "RequestError", "search", "position:1500", *home)
    assert "expected 1 to 1500" in refused(2, "RequestError", "search", "position:1", "-k", "0", *home)


def test_words(glyph_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = plada.open_index("glyphs", home=glyph_home).encoder()
    towered = replace(encoder, encode_text=lambda lines: np.full((len(lines), 256), 1 / 16, np.float32))
    monkeypatch.setattr(Index, "encoder", lambda self: towered)
    assert len(summary("search", "a round digit", "-k", "4", "--home", glyph_home)["hits"]) == 4


def test_approximate(glyph_home: Path, tmp_path: Path) -> None:
    message = refused(2, "RequestError", "search", "position:1", "--approximate", "--home", glyph_home)
    assert "has no approximate index" in message
    plada.index("glyphs:count=400", name="own", home=tmp_path)
    plada.make_ann("own", home=tmp_path)
    asked = ("search", "position:5", "-k", "3", "--home", tmp_path)
    assert summary(*asked, "--approximate")["hits"][0] == summary(*asked)["hits"][0]
    (tmp_path / "indexes" / "own" / "ann" / "index.faiss").write_bytes(b"")
    assert "damaged" in refused(5, "DataError", *asked, "--approximate")


def test_a_sheet_shows_the_query_its_hits_and_their_scores(glyph_home: Path, glyphs: Index, tmp_path: Path) -> None:
    query = Image.new("RGBA", (32, 32), (255, 0, 0, 128))
    query.save(tmp_path / "red.png")
    made = call(
        "search", tmp_path / "red.png", "position:7", "-k", "3", "--sheet", tmp_path / "s.png", "--home", glyph_home
    )
    assert made.exit_code == 0, made.output
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.size == (150 + 4 * 68 + 4, 30 + 2 * 79 + 4)
        assert sheet.getpixel((150 + 32, 34 + 32)) == (255, 127, 127)  # over white, as it is searched
        cell = np.asarray(sheet.crop((150 + 68, 34 + 79, 150 + 68 + 64, 34 + 79 + 64)))
        again = np.asarray(sheet.crop((150, 34 + 79, 150 + 64, 34 + 79 + 64)))
        assert np.array_equal(cell, again)  # position 7 is its own nearest image
        under = np.asarray(sheet.crop((150 + 68, 34 + 64, 150 + 68 + 64, 34 + 64 + 11)))
        assert under.min() < 100  # a score is written there


def test_a_sheet_of_vectors_images_and_words(glyphs: Index, tmp_path: Path) -> None:
    vectors = glyphs.vectors([3, 4])
    plada.search(vectors, index=glyphs, k=2, sheet=tmp_path / "v.png")
    plada.search(glyphs.images([3])[0], index=glyphs, k=2, sheet=tmp_path / "i.png")
    for name, rows in (("v", 2), ("i", 1)):
        with Image.open(tmp_path / f"{name}.png") as sheet:
            assert sheet.size == (150 + 3 * 68 + 4, 30 + rows * 79 + 4)
    with pytest.raises(RequestError, match="a sheet of 201 queries: expected 200 or fewer"):
        plada.search(["position:1"] * 201, index=glyphs, k=1, sheet=tmp_path / "x.png")
