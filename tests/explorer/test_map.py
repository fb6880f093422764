"""The map and what stands beside: bounded, escaped, the same each time; indexes of other images are refused."""

import html
import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest

if importlib.util.find_spec("starlette") is None:
    pytest.skip("starlette is not installed (extra: explore)", allow_module_level=True)

import plada
from plada.api.explore import open_gallery
from plada.errors import DataError, ReferenceMismatch
from plada.explorer import image_map
from plada.explorer.image_map import draw_map
from tests.explorer.conftest import CLASSES, KEYS, Client


def shown(text: str) -> dict[str, list[object]]:
    found = re.search(r'<script type="application/json" id="points">(.*?)</script>', text, re.S)
    assert found is not None
    data: dict[str, list[object]] = json.loads(found.group(1))
    return data


def test_hostile_keys_and_classes_are_data(served: Client) -> None:
    answer = served.ask("/map?payload=0")
    assert answer.status == 200
    data = shown(answer.text)
    assert set(data["keys"]) <= set(KEYS)
    assert set(data["classes"]) <= set(CLASSES)
    block = answer.text[answer.text.index('id="points"') :]
    assert "<" not in block[block.index(">") + 1 : block.index("</script>")]


@pytest.mark.parametrize("path", ["/map?payload=99", "/map?payload=-1", "/map?payload=x", "/map?payload=" + "9" * 30])
def test_there_is_no_such_payload(served: Client, path: str) -> None:
    assert served.ask(path).status == 404


@pytest.mark.parametrize("first", ["0", "-3", "x", "9" * 30, "12345"])
def test_a_slider_beyond_its_ends_shows_what_there_is(served: Client, first: str) -> None:
    assert served.ask(f"/chosen/0?first={first}").status == 200


def test_a_map_is_bounded_and_the_same_each_time(
    glyph_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_map, "SAMPLE", 50)
    monkeypatch.setattr(image_map, "CHOSEN", 30)
    file = tmp_path / "d.plada"
    plada.select("glyphs", target="digits", budget=400, rule="balanced", out=file, home=glyph_home)
    gallery = open_gallery("glyphs", [file], home=glyph_home)
    asked: list[int] = []
    vectors = type(gallery.index).vectors

    def counted(self: plada.Index, positions: np.ndarray) -> np.ndarray:
        asked.append(len(positions))
        return vectors(self, positions)

    monkeypatch.setattr(type(gallery.index), "vectors", counted)
    one, two = draw_map(gallery, 0), draw_map(gallery, 0)
    assert max(asked) <= 80
    np.testing.assert_array_equal(one.points, two.points)
    assert (np.diff(one.positions) > 0).all()
    assert 0 <= one.points.min() <= one.points.max() <= 1
    labels = {
        int(p): int(label)
        for p, label in zip(gallery.payloads[0].payload.positions, gallery.payloads[0].payload.labels, strict=True)
    }
    assert [labels.get(int(p), -1) for p in one.positions] == one.labels.tolist()
    assert (draw_map(gallery, None).labels == -1).all()


def test_indexes_of_other_images_do_not_stand_side_by_side(glyph_home: Path, tmp_path: Path) -> None:
    other = plada.index("glyphs:count=40", name="few", home=tmp_path)
    del other
    with pytest.raises(ReferenceMismatch, match="Name indexes of the same reference"):
        open_gallery(["glyphs", str(tmp_path / "indexes" / "few")], home=glyph_home)


def test_a_bad_file_of_names_is_refused_by_its_line(glyph_home: Path, tmp_path: Path) -> None:
    bad = tmp_path / "words.txt"
    bad.write_text("v1 no tab\n")
    with pytest.raises(DataError, match="line 1"):
        open_gallery("glyphs", home=glyph_home, names=bad)


def test_names_of_synsets_stand_above_keys(glyph_home: Path, tmp_path: Path) -> None:
    from plada.explorer.pages import overview

    (tmp_path / "words.txt").write_text("v1\t<b>drawn</b>, x\n")
    page = overview(open_gallery("glyphs", home=glyph_home, names=tmp_path / "words.txt"))
    assert f'<span class="what"><bdi>{html.escape("<b>drawn</b>")}</bdi></span>' in page
