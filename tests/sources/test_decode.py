"""One decoder for everybody: what it makes of every kind of image, and what it refuses."""

import io
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from PIL import GifImagePlugin, Image, ImageFile

from plada.errors import RequestError, Unreadable
from plada.sources import decode as module
from plada.sources.decode import FORMATS, View, decode, load_pixels
from plada.sources.image_header import size_from_header
from tests.conftest import picture


def stored(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, depth: int, colour: int, row: bytes, *before: bytes) -> bytes:
    """A PNG of one row, for what PIL cannot write."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" + row))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(before) + pixels + chunk(b"IEND", b"")


def tiff(width: int, bits: int, row: bytes, *, white: int = 1, numbers: int = 1) -> bytes:
    """A grey TIFF of one row; `white` 0 is "white is zero", `numbers` 1 unsigned, 2 signed, 3 float."""
    tags = {256: width, 257: 1, 258: bits, 259: 1, 262: white, 273: 8, 277: 1, 278: 1, 279: len(row), 339: numbers}
    fields = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return struct.pack("<4sI", b"II*\0", 8 + len(row)) + row + struct.pack("<H", len(tags)) + fields + b"\0" * 4


def grey(data: bytes) -> list[int]:
    """Values of an image that must be grey, in reading order."""
    pixels = np.asarray(decode(data))
    assert (pixels == pixels[..., :1]).all()
    return [int(value) for value in pixels[..., 0].ravel()]


def colour(data: bytes, at: tuple[int, int] = (0, 0)) -> Any:
    return decode(data).getpixel(at)


def reason(data: bytes) -> str:
    with pytest.raises(Unreadable) as caught:
        decode(data)
    return str(caught.value)


PICTURE = picture(0, (61, 47))
FILES = {
    "jpeg": stored(PICTURE, "JPEG"),
    "jpeg progressive": stored(PICTURE, "JPEG", progressive=True),
    "jpeg grey": stored(PICTURE.convert("L"), "JPEG"),
    "jpeg cmyk": stored(PICTURE.convert("CMYK"), "JPEG"),
    "png": stored(PICTURE),
    "png 1 bit": stored(PICTURE.convert("1")),
    "gif": stored(PICTURE.convert("P"), "GIF"),
    "webp": stored(PICTURE, "WEBP"),
    "webp lossless": stored(PICTURE, "WEBP", lossless=True),
    "bmp": stored(PICTURE, "BMP"),
    "ppm": stored(PICTURE, "PPM"),
    "tiff": stored(PICTURE, "TIFF"),
    "tiff lzw": stored(PICTURE, "TIFF", compression="tiff_lzw"),
}

# A TIFF whose maker's name would lie behind its end: PIL warns of a truncated read, and the pixels are whole.
_GREY = tiff(1, 8, b"\x50")
_MAKER = struct.pack("<HHII", 271, 2, 50, 9999)
WARNED = _GREY[:9] + struct.pack("<H", _GREY[9] + 1) + _GREY[11:-4] + _MAKER + bytes(4)


@pytest.mark.parametrize("name", ["png", "webp lossless", "bmp", "ppm", "tiff", "tiff lzw"])
def test_what_is_stored_without_loss_is_exact(name: str) -> None:
    assert np.array_equal(np.asarray(decode(FILES[name])), np.asarray(PICTURE))


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_kind_becomes_rgb(name: str) -> None:
    image = decode(FILES[name])
    assert (image.mode, image.size) == ("RGB", PICTURE.size)
    if name not in ("png 1 bit", "gif"):  # these have few colours
        wanted = np.asarray(PICTURE.convert("L").convert("RGB") if "grey" in name else PICTURE).astype(int)
        assert np.abs(np.asarray(image).astype(int) - wanted).mean() < 12


def test_a_jpeg_is_the_same_stored_progressively() -> None:
    assert np.array_equal(np.asarray(decode(FILES["jpeg"])), np.asarray(decode(FILES["jpeg progressive"])))


def test_cmyk_is_read_as_adobe_writes_it_and_ycck_too() -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    data = stored(red, "JPEG", quality=100)
    marker = data.index(b"Adobe")
    assert data[marker + 11] == 0  # transform: plain CMYK
    assert np.allclose(colour(data), (255, 0, 0), atol=2)
    # Marked as YCCK: the stored Y, Cb, Cr (the complements of C, M, Y as PIL writes them) give C, M, Y themselves.
    for ink, wanted in (((255, 127, 127, 0), (255, 255, 255)), ((0, 127, 127, 0), (0, 0, 0))):
        plain = stored(Image.new("CMYK", (16, 16), ink), "JPEG", quality=100)
        assert np.allclose(colour(plain[: marker + 11] + b"\2" + plain[marker + 12 :]), wanted, atol=3)


def test_transparency_lies_over_white() -> None:
    assert colour(stored(Image.new("RGBA", (4, 4), (200, 0, 0, 0)))) == (255, 255, 255)
    assert colour(stored(Image.new("RGBA", (4, 4), (200, 0, 0, 0)), "WEBP", lossless=True)) == (255, 255, 255)
    assert colour(stored(Image.new("LA", (4, 4), (0, 128)))) == (127, 127, 127)
    palette = Image.new("P", (4, 4), 3)
    palette.putpalette([0, 0, 0] * 256)
    assert colour(stored(palette, transparency=3)) == (255, 255, 255)
    assert colour(stored(palette, "GIF", transparency=3)) == (255, 255, 255)
    assert colour(stored(palette, transparency=bytes([0, 0, 0, 128]))) == (127, 127, 127)


def test_a_transparent_colour_is_found_whatever_its_bits() -> None:
    def transparent(*values: int) -> bytes:
        return chunk(b"tRNS", struct.pack(f">{len(values)}H", *values))

    assert grey(png(8, 1, 0, b"\xf0", transparent(0))) == [255] * 8
    assert grey(png(4, 2, 0, b"\x1b", transparent(1))) == [0, 255, 170, 255]
    assert grey(png(4, 4, 0, b"\x05\xa5", transparent(5))) == [0, 255, 170, 255]
    assert grey(png(3, 8, 0, b"\x05\xa5\0", transparent(5))) == [255, 165, 0]
    assert grey(png(2, 16, 0, struct.pack(">2H", 0x1234, 0x8000), transparent(0x1234))) == [255, 128]
    assert grey(png(2, 16, 2, struct.pack(">6H", 1000, 2000, 3000, 0, 0, 0), transparent(1000, 2000, 3000))) == [255, 0]


def test_of_sixteen_bits_the_upper_eight_stay() -> None:
    ramp = Image.fromarray((np.arange(256, dtype=np.uint16) * 257).reshape(16, 16))
    assert grey(stored(ramp)) == list(range(256))
    both = struct.pack(">2H", 0x12FF, 0xABCD)
    assert grey(png(2, 16, 0, both)) == [0x12, 0xAB]
    assert colour(png(1, 16, 2, both + b"\xff\xff")) == (0x12, 0xAB, 0xFF)
    assert colour(png(1, 16, 6, both + b"\xff\xff\xff\xff")) == (0x12, 0xAB, 0xFF)
    assert colour(png(1, 16, 6, both + b"\xff\xff\0\0")) == (255, 255, 255)
    assert grey(png(1, 16, 4, b"\x80\0\x80\0")) == [191]
    assert grey(b"P5 2 1 65535\n" + both) == [0x12, 0xAB]
    # PIL itself brings a PPM of 16 bits in colour to 8, and rounds.
    assert np.allclose(colour(b"P6 1 1 65535\n" + both + b"\xff\xff"), (0x12, 0xAB, 0xFF), atol=1)
    assert grey(stored(Image.frombytes("I;16B", (2, 1), both), "TIFF")) == [0x12, 0xAB]


def test_grey_tiffs_say_how_many_bits_and_what_is_white() -> None:
    assert grey(tiff(2, 16, struct.pack("<2H", 0, 0xABCD))) == [0, 0xAB]
    assert grey(tiff(2, 16, struct.pack("<2H", 0, 0xABCD), white=0)) == [255, 255 - 0xAB]
    assert grey(tiff(2, 8, b"\0\xab", white=0)) == [255, 255 - 0xAB]
    assert grey(tiff(2, 12, b"\xff\xf8\x00")) == [0xFF, 0x80]


@pytest.mark.parametrize(
    "data",
    [
        tiff(2, 32, struct.pack("<2f", 0.5, 1), numbers=3),
        tiff(2, 32, struct.pack("<2I", 0, 2**32 - 1)),
        tiff(2, 16, struct.pack("<2h", -3, 32767), numbers=2),
        tiff(2, 8, struct.pack("<2b", -3, 127), numbers=2),
        b"Pf 2 1 -1.0\n" + struct.pack("<2f", 0.5, 1),
    ],
)
def test_numbers_without_a_white_are_refused(data: bytes) -> None:
    assert "no value is defined as white" in reason(data)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "MPO", "TIFF"])
def test_an_animation_is_its_first_frame(form: str) -> None:
    frames = [Image.new("RGB", (16, 16), name) for name in ("red", "blue")]
    data = stored(frames[0], form, save_all=True, append_images=frames[1:])
    assert np.allclose(colour(data), (255, 0, 0), atol=3)


def test_how_others_want_gifs_loaded_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = np.asarray(decode(FILES["gif"]))
    monkeypatch.setattr(GifImagePlugin, "LOADING_STRATEGY", GifImagePlugin.LoadingStrategy.RGB_ALWAYS)
    assert np.array_equal(np.asarray(decode(FILES["gif"])), before)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "MPO"])
def test_an_orientation_is_ignored(form: str) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    plain = decode(stored(PICTURE, form))
    assert np.array_equal(np.asarray(decode(stored(PICTURE, form, exif=turned))), np.asarray(plain))


def test_only_in_a_tiff_pil_applies_it() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    upright = PICTURE.transpose(Image.Transpose.ROTATE_270)
    assert np.array_equal(np.asarray(decode(stored(PICTURE, "TIFF", exif=turned))), np.asarray(upright))


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_cut_file_is_refused_or_whole(name: str) -> None:
    """Only what lies behind the pixels may be missing: the end mark of a GIF, and the checksums of a PNG."""
    data, whole = FILES[name], np.asarray(decode(FILES[name]))
    refused = 0
    for cut in sorted({*range(0, len(data), len(data) // 40), *range(len(data) - 20, len(data))}):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL's, on the tags of a cut TIFF
            try:
                pixels = np.asarray(decode(data[:cut]))
            except Unreadable as err:
                assert str(err)
                refused += 1
            else:
                assert np.array_equal(pixels, whole), cut
                assert len(data) - cut <= 20
    assert refused >= 40


def test_what_is_no_image_says_what_it_is() -> None:
    assert reason(b"") == "empty: 0 bytes"
    assert reason(b"<html><body>404") == (
        f"not an image of a known kind ({', '.join(FORMATS)}): begins with b'<html><b'"
    )
    assert "begins like a JPEG" in reason(FILES["jpeg"][:20])
    assert "truncated" in reason(FILES["jpeg"][:-2])
    # PIL would hand this to Ghostscript.
    assert "not an image" in reason(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")


def test_a_png_with_damaged_pixels_is_refused() -> None:
    data = FILES["png"]
    first = data.index(b"IDAT") + 4
    for at in range(first, len(data) - 12, 97):  # its body and its checksum
        assert "PNG" in reason(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


def test_a_switch_that_hides_truncation_stops_everything_and_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for data in (FILES["jpeg"], FILES["jpeg"][:-40]):
        with pytest.raises(RequestError, match="LOAD_TRUNCATED_IMAGES is on"):
            decode(data)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True
    with pytest.raises(RequestError):
        load_pixels([FILES["jpeg"]].__getitem__, [0], View(size=8), stage="x")


def test_a_switch_flipped_while_decoding_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    convert = module._to_rgb

    def meddling(image: Any) -> Image.Image:
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
        return convert(image)

    monkeypatch.setattr(module, "_to_rgb", meddling)
    with pytest.raises(RequestError):
        decode(FILES["jpeg"][:-40])


def test_a_bomb_is_refused_by_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    def header(width: int, height: int) -> bytes:
        return (
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + FILES["png"][33:]
        )

    assert reason(header(10_000, 9_000)) == "10000x9000 is over 89478485 pixels"
    assert "over 89478485 pixels" in reason(header(30_000, 30_000))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert reason(header(30_000, 30_000)) == "30000x30000 is over 89478485 pixels"


def test_a_lowered_limit_of_pil_does_not_make_images_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(RequestError, match="MAX_IMAGE_PIXELS is 1000 in this process"):
        decode(FILES["png"])


def test_running_out_of_memory_is_not_the_images_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(image: Any) -> Image.Image:
        raise MemoryError

    monkeypatch.setattr(module, "_to_rgb", exhausted)
    with pytest.raises(MemoryError):
        decode(FILES["png"])


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


@pytest.mark.parametrize("mode", ["crop", "squash"])
@pytest.mark.parametrize("shape", [(1, 1_000_000), (1_000_000, 1), (3, 65_000), (65_000, 2)])
def test_a_thin_picture_costs_no_more_than_its_view(shape: tuple[int, int], mode: str) -> None:
    data = stored(Image.new("RGB", shape, (10, 200, 30)))
    code = (
        "import resource, sys; from plada.common.machine import peak_memory; from plada.sources.decode import View, decode; from plada.sources.leaks.fingerprints import fingerprint\n"
        "from plada.sources.leaks.alignment import square; from plada.reports.thumbnails import thumbnail\n"
        f"resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30)); image = decode(sys.stdin.buffer.read())\n"
        f"view = View(size=224, mode={mode!r}, crop=0.875).of(image); assert view.shape == (224, 224, 3)\n"
        "assert (view == (10, 200, 30)).all(); fingerprint(image), square(image), thumbnail(image)\n"
        "assert peak_memory() < 400 << 20, peak_memory()"
    )
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("how", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("shape", [(7, 900), (900, 7), (41, 2001), (3000, 90), (1, 500)])
def test_a_thin_picture_is_seen_as_if_it_had_been_scaled_as_a_whole(
    shape: tuple[int, int], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In the middle of the range: which of the two directions PIL takes first shows where values are clipped.
    image = Image.fromarray(np.random.default_rng(0).integers(80, 176, (*shape[::-1], 3), np.uint8))
    for view in (View(size=32, crop=0.875, interpolation=how), View(size=32, mode="squash", interpolation=how)):
        bounded = view.of(image).astype(int)
        with monkeypatch.context() as patch:
            patch.setattr(module, "_WHOLE", 1 << 30)
            patch.setattr(module, "_TALL", 1 << 30)
            assert np.abs(bounded - view.of(image)).max() <= 2


def test_what_pil_warns_of_is_neither_printed_nor_an_error() -> None:
    palette = PICTURE.convert("P")
    palette.info["transparency"] = bytes(range(200))
    data = stored(palette, transparency=bytes(range(200)))
    before = list(warnings.filters)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")  # as PYTHONWARNINGS=error does
        assert decode(data).size == PICTURE.size
        with ThreadPoolExecutor(4) as pool:
            assert len({image.tobytes() for image in pool.map(decode, [data, WARNED] * 20)}) == 2
        assert size_from_header(WARNED) == (1, 1)
        with pytest.raises(UserWarning):
            warnings.warn("another's", stacklevel=1)  # warnings of others are left alone
    assert not caught
    assert warnings.filters == before


def jpeg_frame(marker: int, bits: int, channels: int) -> bytes:
    body = struct.pack(">BHHB", bits, 8, 8, channels) + bytes(3 * channels)
    return b"\xff\xd8" + struct.pack(">BBH", 0xFF, marker, 2 + len(body)) + body + b"\xff\xd9"


def multiband(channels: int, bits: int = 8, numbers: int = 1) -> bytes:
    row = bytes(channels * bits // 8)
    tags = {256: 1, 257: 1, 258: bits, 259: 1, 262: 1, 273: 8, 277: channels, 278: 1, 279: len(row), 339: numbers}
    fields = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return struct.pack("<4sI", b"II*\0", 8 + len(row)) + row + struct.pack("<H", len(tags)) + fields + b"\0" * 4


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\xff\x0a" + bytes(20), "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(20), "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(20), "JPEG 2000"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (jpeg_frame(0xF7, 8, 3), "JPEG-LS"),
        (jpeg_frame(0xC3, 8, 3), "lossless JPEG"),
        (jpeg_frame(0xC1, 12, 3), "a JPEG of 12 bits and 3 channels"),
        (multiband(13), "a TIFF of 13 channels of 8 bits, unsigned numbers"),
        (multiband(7, 16), "a TIFF of 7 channels of 16 bits, unsigned numbers"),
        (multiband(3, 32, 3), "a TIFF of 3 channels of 32 bits, float numbers"),
    ],
)
def test_what_is_whole_but_of_another_kind_is_not_called_damaged(data: bytes, kind: str) -> None:
    assert reason(data) == f"{kind}: not supported. Save it as an 8-bit PNG or JPEG"
    for end in range(1, len(data)):
        with suppress(Unreadable):
            decode(data[:end])


def test_pil_prints_nothing_of_its_own() -> None:
    code = (
        "import sys; from plada.errors import Unreadable; from plada.sources.decode import decode\n"
        "try: decode(sys.stdin.buffer.read())\n"
        "except Unreadable: pass"
    )
    for data in (multiband(13), multiband(7, 16), WARNED):
        done = subprocess.run([sys.executable, "-W", "always", "-c", code], input=data, capture_output=True, check=True)
        assert not done.stderr


AVIF = b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf"


def test_avif_is_read_where_pil_reads_it_and_named_where_not(monkeypatch: pytest.MonkeyPatch) -> None:
    if "AVIF" in FORMATS:
        data = stored(PICTURE, "AVIF", quality=100)
        assert np.abs(np.asarray(decode(data)).astype(int) - np.asarray(PICTURE)).mean() < 3
        assert size_from_header(data) == PICTURE.size
        assert reason(AVIF) == "begins like an AVIF, but its header is cut or damaged"
        for end in range(0, len(data), len(data) // 20):
            assert reason(data[:end])
    monkeypatch.setattr(module, "FORMATS", tuple(form for form in FORMATS if form != "AVIF"))
    for brands in (AVIF, b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf"):
        assert reason(brands) == "AVIF: not supported. Save it as an 8-bit PNG or JPEG"


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "I;16", "PA"])
def test_strips_give_the_pixels_of_the_whole(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65536, (31, 23), np.uint16))
    else:
        image = Image.fromarray(rng.integers(0, 256, (31, 23, 4), np.uint8)).convert("LA" if mode == "PA" else mode)
    data = stored(image, "TIFF" if mode == "I;16" else "PNG", **({"transparency": 3} if mode == "P" else {}))
    whole = np.asarray(decode(data))
    monkeypatch.setattr(module, "_STRIP", 60)
    assert np.array_equal(np.asarray(decode(data)), whole)


@pytest.mark.parametrize("mode", ["RGBA", "I;16"])
def test_the_largest_pictures_take_less_than_a_gigabyte(mode: str) -> None:
    image = Image.new(mode, (9459, 9459), (10,) * 4 if mode == "RGBA" else 10)
    data = stored(image, compress_level=1)
    del image
    code = (
        "import sys; from plada.common.machine import peak_memory; from plada.sources.decode import decode\n"
        "assert decode(sys.stdin.buffer.read()).size == (9459, 9459)\n"
        "assert peak_memory() < 1 << 30, peak_memory()"
    )
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def damaged_tiff(compression: str) -> bytes:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8))
    data = bytearray(stored(image.convert("1") if compression == "group4" else image, "TIFF", compression=compression))
    for at in range(300, 600):
        data[at] ^= 0x5A
    return bytes(data)


def test_what_libtiff_says_is_a_reason_or_a_remark_and_not_printed() -> None:
    lost, seen = damaged_tiff("tiff_lzw"), damaged_tiff("group4")
    assert reason(lost).startswith("damaged TIFF (")
    assert "parts of the TIFF are damaged (Fax4Decode: " in decode(seen).info[module.REMARK]
    assert module.REMARK not in decode(FILES["tiff lzw"]).info
    with ThreadPoolExecutor(4) as pool:
        remarks = list(pool.map(lambda data: module.REMARK in decode(data).info, [seen, FILES["tiff lzw"]] * 20))
    assert remarks == [True, False] * 20
    code = (
        "import sys; from plada.errors import Unreadable; from plada.sources.decode import decode\n"
        "try: decode(sys.stdin.buffer.read())\n"
        "except Unreadable: pass"
    )
    for data in (lost, seen):
        assert not subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True).stderr


@pytest.mark.parametrize(("kind", "mode"), [("WEBP", "RGB"), ("JPEG", "CMYK")])
def test_kinds_that_take_more_memory_have_a_lower_limit(kind: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    Image.new(mode, (20, 10)).save(file, kind)
    assert decode(file.getvalue()).size == (20, 10)
    monkeypatch.setattr("plada.sources.decode._LARGEST", {"WEBP": 199, "CMYK": 199})
    with pytest.raises(Unreadable, match="20x10 is over 199 pixels"):
        decode(file.getvalue())
