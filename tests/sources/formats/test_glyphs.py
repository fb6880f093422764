"""The built-in reference: fully determined, and by nothing but seed and position."""

from pathlib import Path

import numpy as np

from plada.sources.decode import decode
from plada.sources.formats import glyphs
from plada.sources.registry import open_source


def test_an_image_is_a_function_of_seed_and_position(home: Path) -> None:
    few, many = open_source("glyphs:count=10", home), open_source("glyphs:count=2000", home)
    assert [few.read(p) for p in range(10)] == [many.read(p) for p in range(10)]
    assert few.read(9) == open_source("glyphs:count=10", home).read(9)
    assert few.read(9) != open_source("glyphs:count=10,seed=1", home).read(9)


def test_the_default_is_twenty_thousand(home: Path) -> None:
    default = open_source("glyphs", home)
    assert (len(default), default.location) == (20_000, "glyphs")
    assert len(set(default.keys.to_pylist())) == 20_000
    assert default.keys.to_pylist() == sorted(default.keys.to_pylist())


def test_the_images_are_characters_not_blanks() -> None:
    images = np.stack([glyphs.render(position, seed=0) for position in range(300)])
    assert images.shape == (300, glyphs.SIZE, glyphs.SIZE)
    assert images.dtype == np.uint8
    assert (images.max(axis=(1, 2)) > 100).mean() > 0.98
    assert (images < 30).mean() > 0.4
    assert len({image.tobytes() for image in images}) == 300


def test_letters_are_among_the_characters() -> None:
    assert set("09AZaz") <= set(glyphs.CHARACTERS)


def test_the_stored_form_decodes_to_the_pixels(home: Path) -> None:
    stored = open_source("glyphs:count=3", home).read(2)
    assert np.array_equal(np.asarray(decode(stored))[..., 0], glyphs.render(2, seed=0))
