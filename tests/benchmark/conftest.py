"""One scenario for all tests of methods: handwritten digits on 1 500 glyphs."""

from pathlib import Path

import pytest

import plada
from plada.benchmark.scenario import Scenario, label_reference


@pytest.fixture(scope="session")
def scenario(glyph_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    root = tmp_path_factory.mktemp("scenario")
    index = plada.open_index("glyphs", home=glyph_home)
    plada.make_pack(index, out=root / "glyphs.pack", dimensions=16)
    return Scenario(index, label_reference(index, "digits", 0, home=root), 0, pack=root / "glyphs.pack")
