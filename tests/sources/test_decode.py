"""One decoder for everybody: what it makes of every kind of image, and what it refuses."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from plada.errors import RequestError, Unreadable
from plada.sources import decode as module
from plada.sources.decode import View, decode, load_pixels
from tests.conftest import picture


def stored(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def test_rgb_png_is_exact() -> None:
    original = picture(0)
    assert np.array_equal(np.asarray(decode(stored(original))), np.asarray(original))


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "YCbCr"])
def test_other_modes_become_rgb(mode: str) -> None:
    form = "JPEG" if mode in ("CMYK", "YCbCr") else "PNG"
    assert decode(stored(picture(1).convert(mode), form)).mode == "RGB"


def test_transparency_lies_over_white() -> None:
    see_through = Image.new("RGBA", (4, 4), (200, 0, 0, 0))
    assert decode(stored(see_through)).getpixel((0, 0)) == (255, 255, 255)
    half = Image.new("LA", (4, 4), (0, 128))
    assert decode(stored(half)).getpixel((0, 0)) == (127, 127, 127)
    palette = Image.new("P", (4, 4), 3)
    palette.putpalette([0, 0, 0] * 256)
    assert decode(stored(palette, transparency=3)).getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    ramp = Image.fromarray((np.arange(256, dtype=np.uint16) * 257).reshape(16, 16))
    assert np.asarray(decode(stored(ramp)))[..., 0].ravel().tolist() == list(range(256))


def test_an_animation_is_its_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    assert decode(stored(frames[0], "GIF", save_all=True, append_images=frames[1:])).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("data", [b"", b"no image at all", stored(picture(2), "JPEG")[:-40], stored(picture(2))[:200]])
def test_what_is_broken_says_why(data: bytes) -> None:
    with pytest.raises(Unreadable) as caught:
        decode(data)
    assert str(caught.value)


def test_truncated_files_are_refused_whatever_others_switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(Unreadable):
        decode(stored(picture(3), "JPEG")[:-40])


def test_a_bomb_is_refused_by_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PIXELS", 1000)
    with pytest.raises(Unreadable, match="40x30 is over 1000 pixels"):
        decode(stored(picture(4)))


def test_views() -> None:
    image = picture(5, (60, 30))
    assert View(size=16).of(image).shape == (16, 16, 3)
    assert View(size=16, mode="squash").of(image).shape == (16, 16, 3)
    # A crop at full size is the middle of the picture and nothing else.
    assert np.array_equal(View(size=30).of(image), np.asarray(image.crop((15, 0, 45, 30))))


@pytest.mark.parametrize(
    "options", [{"size": 0}, {"size": 8, "mode": "pad"}, {"size": 8, "crop": 0.0}, {"size": 8, "interpolation": "x"}]
)
def test_a_view_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        View(**options)


def test_an_unreadable_image_keeps_its_place() -> None:
    files = [stored(picture(0)), b"broken", stored(picture(1))]
    pixels, readable = load_pixels(files.__getitem__, [2, 1, 0], View(size=8), stage="x")
    assert readable.tolist() == [True, False, True]
    assert not pixels[1].any()
    assert np.array_equal(pixels[2], View(size=8).of(picture(0)))
