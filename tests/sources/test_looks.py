"""The look of an image: what changes it and what does not."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from plada.errors import DataError
from plada.progress import Progress
from plada.sources.decode import decode
from plada.sources.looks import LOOK_BYTES, LOOK_SIDE, look, scan_looks
from tests.conftest import picture


def stored(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def test_cells_are_luma_row_by_row() -> None:
    cells = np.random.default_rng(0).integers(0, 255, (LOOK_SIDE, LOOK_SIDE), dtype=np.uint8)
    seen = look(Image.fromarray(cells.repeat(20, axis=0).repeat(40, axis=1)).convert("RGB"))
    assert seen.dtype == np.uint8 and seen.shape == (LOOK_BYTES,)
    assert np.corrcoef(seen, cells.reshape(-1))[0, 1] > 0.98


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (8, 8), (640, 480)])
def test_any_size_has_a_look(size: tuple[int, int]) -> None:
    assert look(picture(0).resize(size)).shape == (LOOK_BYTES,)


def test_copies_look_alike_and_others_do_not() -> None:
    original = picture(1, (200, 160))
    copies = [
        decode(stored(original, "JPEG", quality=50)),
        original.resize((64, 64), Image.Resampling.BICUBIC),
        original.convert("L").convert("RGB"),
    ]
    own = look(original).astype(int)
    assert max(abs(look(copy) - own).max() for copy in copies) <= 4
    assert abs(look(picture(2, (200, 160))) - own).max() > 40


def test_mirroring_permutes_the_look() -> None:
    original = picture(3, (64, 64))
    cells = look(original).reshape(LOOK_SIDE, LOOK_SIDE)
    assert np.array_equal(look(ImageOps.mirror(original)).reshape(LOOK_SIDE, LOOK_SIDE), cells[:, ::-1])


def test_looks_of_a_collection_keep_their_places() -> None:
    images = {0: stored(picture(0)), 1: b"no image", 2: stored(picture(2)), 3: b""}
    events: list[Progress] = []

    def read(position: int) -> bytes:
        if position == 3:
            raise DataError("gone")
        return images[position]

    looks, readable = scan_looks(read, [2, 1, 0, 3], report=events.append)
    assert readable.tolist() == [True, False, True, False]
    assert np.array_equal(looks[0], look(picture(2))) and np.array_equal(looks[2], look(picture(0)))
    assert not looks[1].any()
    assert events[-1].done == 4
