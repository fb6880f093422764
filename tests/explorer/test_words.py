"""Words go through the index's own text tower, a real open_clip one (small, with random weights)."""

import importlib.util
from pathlib import Path
from urllib.parse import quote_plus

import pytest

if importlib.util.find_spec("starlette") is None:
    pytest.skip("starlette is not installed (extra: explore)", allow_module_level=True)

import plada
from plada.api.explore import open_gallery
from tests.encoders.test_openclip import CONFIG, make_folder
from tests.explorer.conftest import serving
from tests.explorer.test_pages import read


def test_words_through_a_text_tower(pictures: Path, home: Path, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "clip", CONFIG)
    plada.index(pictures, name="clip", encoder=f"open_clip:local-dir:{folder}", home=home)
    gallery = open_gallery("clip", home=home)
    assert gallery.no_words == ""
    with serving(gallery) as client:
        client.enter()
        seen = read(client.ask("/search?q=a+red+bus"))
        wanted = gallery.index.search("text:a red bus", 24)[0]
        assert seen.images() == [hit.position for hit in wanted]
        assert f"{wanted[0].score:.3f}" in seen.text
        assert "text:" in read(client.ask("/")).text
        # What other towers would cut off in silence is refused, and what was typed stays in its box.
        long = "many words " * 60
        refused = read(client.ask(f"/search?q={quote_plus(long)}"), 400)
        assert "tokens" in refused.text
        assert refused.of("input", "value") == [long]
        # A picture whose key begins so is meant by its key, unless words are asked for.
        assert read(client.ask("/search?q=n0")).images() == [
            hit for hit in range(24) if gallery.keys([hit])[0].startswith("n0")
        ]
        assert read(client.ask("/search?q=text:n0")).images() == [
            h.position for h in gallery.index.search("text:n0", 24)[0]
        ]
