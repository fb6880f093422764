"""One course for all tests of methods: handwritten digits on 1 500 glyphs."""

from pathlib import Path

import pytest

import plada
from plada.benchmark.course import Course


@pytest.fixture(scope="session")
def course(glyph_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Course:
    root = tmp_path_factory.mktemp("course")
    index = plada.open_index("glyphs", home=glyph_home)
    plada.make_pack(index, out=root / "glyphs.pack", dimensions=16)
    return Course(index, "digits", 0, home=root, pack=root / "glyphs.pack")
