"""Thumbnails are small, and show what the picture shows."""

import base64
import io

import numpy as np
import pytest
from PIL import Image, features

from plada.reports.thumbnails import SIDE, matrix_picture, thumbnail
from tests.conftest import picture


def opened(url: str) -> Image.Image:
    head, _, body = url.partition(";base64,")
    assert head in ("data:image/webp", "data:image/jpeg", "data:image/png")
    return Image.open(io.BytesIO(base64.b64decode(body))).convert("RGB")


@pytest.mark.parametrize("webp", [True, False])
def test_a_photograph_becomes_small(monkeypatch: pytest.MonkeyPatch, webp: bool) -> None:
    if not webp:
        monkeypatch.setattr(features, "check", lambda name: False)
    large = picture(1, (500, 375))
    url, width, height = thumbnail(large)
    assert (width, height) == opened(url).size == (SIDE, 54)
    assert len(url) < 6000
    wanted = np.asarray(large.resize((SIDE, 54))).astype(int)
    assert np.abs(np.asarray(opened(url)).astype(int) - wanted).mean() < 12
    assert large.size == (500, 375)


@pytest.mark.parametrize("webp", [True, False])
def test_a_drawn_character_keeps_its_pixels(monkeypatch: pytest.MonkeyPatch, webp: bool) -> None:
    if not webp:
        monkeypatch.setattr(features, "check", lambda name: False)
    small = picture(2, (28, 20))
    url, width, height = thumbnail(small)
    assert (width, height) == (28, 20)
    assert np.array_equal(np.asarray(opened(url)), np.asarray(small))


def test_a_confusion_matrix_is_dark_where_much_is() -> None:
    found = np.asarray(opened(matrix_picture([[3, 1, 0], [0, 0, 0], [0, 0, 9]])))[..., 0]
    step = len(found) // 3
    cells = found[step // 2 :: step, step // 2 :: step]
    assert cells[2, 2] == 0
    assert cells[0, 0] < cells[0, 1] < cells[0, 2] == 255
    assert (cells[1] == 255).all()
