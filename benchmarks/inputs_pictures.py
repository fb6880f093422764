"""Odd pictures: shapes, modes, animations, kinds that are not read, damage."""

import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile

import plada
from benchmarks.inputs_material import (
    Case,
    Ended,
    World,
    chunk,
    command,
    corner,
    picture,
    png,
    png_row,
    stored,
    tiff_row,
    written,
)
from plada.errors import DataError, PladaError, RequestError, Unreadable
from plada.networks.network import NetworkSpec, build_network, seed_everything
from plada.networks.recipe import Recipe
from plada.sources.decode import FORMATS, REMARK, View, decode
from plada.sources.image_header import size_from_header
from plada.trainer.network_student import NetworkStudent

ROOT = Path(__file__).resolve().parents[1]
RED, WHITE, BLACK = (255, 0, 0), (255, 255, 255), (0, 0, 0)
SIXTEEN = struct.pack(">2H", 0x12FF, 0xABCD)
TURNED = Image.Exif()
TURNED[0x0112] = 6


def _value(name: str, ask: Callable[[World], Any], answer: Any) -> Case:
    return Case(kind="pictures", name=name, ask=ask, answer=answer)


def _pixel(name: str, data: Callable[[], bytes], answer: tuple[int, ...]) -> Case:
    return _value(name, lambda _: corner(data()), answer)


def _refused(name: str, data: Callable[[], bytes], says: str, error: type[PladaError] = Unreadable) -> Case:
    return Case(kind="pictures", name=name, ask=lambda _: decode(data()).size, error=error, says=says)


def _thin(width: int, height: int, mode: str) -> Any:
    data = stored(Image.new("RGB", (width, height), RED), compress_level=1)
    view = View(size=32, mode=mode).of(decode(data))
    return view.shape, view.reshape(-1, 3).min(axis=0).tolist(), view.reshape(-1, 3).max(axis=0).tolist()


def _shapes() -> Iterator[Case]:
    answer = ((32, 32, 3), list(RED), list(RED))
    for width, height in ((1, 65_000), (65_000, 1), (1, 1_000_000), (1, 1), (2, 3)):
        for mode in ("crop", "squash"):
            yield _value(
                f"{width} x {height}, {mode}",
                lambda _, width=width, height=height, mode=mode: _thin(width, height, mode),  # type: ignore[misc]
                answer,
            )
    for name, side in (("a bomb", 40_000), ("more pixels than are decoded", 10_000)):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
        yield _refused(name, lambda header=header: png()[:8] + header + png()[33:], "over 89478485 pixels")  # type: ignore[misc]
    for name, colour, depth in (("with transparency", 6, 8), ("of 16 bits", 0, 16), ("in colour", 2, 8)):
        row = b"\1\2\3\4"[: {6: 4, 0: 2, 2: 3}[colour]]
        yield _value(
            f"at most 1 GB for the largest picture {name}",
            lambda _, colour=colour, depth=depth, row=row: _largest(colour, depth, row) <= 1024,  # type: ignore[misc]
            True,
        )
    yield _value("a model predicts a thin picture", _predict_thin, 1)
    yield Case(kind="pictures", name="thin pictures in an index", ask=_index_thin, answer=(3, 0))


def _largest(colour: int, depth: int, row: bytes) -> int:
    """MiB at the peak of a process that decodes a PNG of as many pixels as are read; each pixel is `row`."""
    side, coder = 9459, zlib.compressobj(1)
    body = b"".join(coder.compress(b"\0" + row * side) for _ in range(side)) + coder.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    code = (
        "import sys; from plada.common.machine import peak_memory; from plada.sources.decode import decode\n"
        "assert decode(sys.stdin.buffer.read()).width == 9459; print(peak_memory() >> 20)"
    )
    return int(
        subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True, cwd=ROOT).stdout
    )


def _index_thin(world: World) -> Any:
    for number, size in enumerate(((1, 65_000), (1, 1_000_000), (65_000, 1))):
        written(world.place / "in" / f"{number}.png", stored(Image.new("RGB", size, RED)))
    summary = plada.index(world.place / "in", name=world.place.name, encoder="gradients", home=world.place / "home")
    return summary.images, summary.unreadable


def _predict_thin(world: World) -> Any:
    place = written(world.place / "thin.png", stored(Image.new("RGB", (1, 1_000_000), RED)))
    seed_everything(0)
    network = build_network(NetworkSpec(name="small_cnn"), classes=2)
    NetworkStudent(network, ("a", "b"), Recipe()).save(world.place / "m.safetensors")
    return len(plada.predict(place, model=world.place / "m.safetensors"))


def _modes() -> Iterator[Case]:
    palette = Image.new("P", (4, 4), 3)
    palette.putpalette([0, 0, 0] * 256)

    def clear(*values: int) -> bytes:
        return chunk(b"tRNS", struct.pack(f">{len(values)}H", *values))

    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    yield _value(
        "CMYK as Adobe writes it", lambda _: np.allclose(corner(stored(ink, "JPEG", quality=100)), RED, atol=2), True
    )
    for name, data, answer in (
        ("RGBA over white", lambda: stored(Image.new("RGBA", (4, 4), (200, 0, 0, 0))), WHITE),
        ("transparent WebP", lambda: stored(Image.new("RGBA", (4, 4), (200, 0, 0, 0)), "WEBP", lossless=True), WHITE),
        ("grey with alpha", lambda: stored(Image.new("LA", (4, 4), (0, 128))), (127,) * 3),
        ("palette with a clear colour", lambda: stored(palette, transparency=3), WHITE),
        ("palette of half-clear colours", lambda: stored(palette, transparency=bytes([0, 0, 0, 128])), (127,) * 3),
        ("GIF with a clear colour", lambda: stored(palette, "GIF", transparency=3), WHITE),
        ("1 bit", lambda: stored(Image.new("1", (9, 9), 1)), WHITE),
        ("1 bit, clear colour", lambda: png_row(8, 1, 0, b"\x0f", clear(0)), WHITE),
        ("2 bits, clear colour", lambda: png_row(4, 2, 0, b"\x5b", clear(1)), WHITE),
        ("4 bits, clear colour", lambda: png_row(4, 4, 0, b"\x55\xa5", clear(5)), WHITE),
        ("16 bits, clear colour", lambda: png_row(2, 16, 0, SIXTEEN, clear(0x12FF)), WHITE),
        ("PNG of 16 bits", lambda: png_row(2, 16, 0, SIXTEEN), (0x12,) * 3),
        ("PNG of 16 bits and three channels", lambda: png_row(1, 16, 2, SIXTEEN + b"\xff\xff"), (0x12, 0xAB, 0xFF)),
        ("PNG of 16 bits with alpha", lambda: png_row(1, 16, 6, SIXTEEN + b"\xff\xff\0\0"), WHITE),
        ("PGM of 16 bits", lambda: b"P5 2 1 65535\n" + SIXTEEN, (0x12,) * 3),
        ("plain PPM", lambda: b"P3\n1 1\n255\n1 2 3\n", (1, 2, 3)),
        ("PBM", lambda: stored(Image.new("1", (9, 9), 0), "PPM"), BLACK),
        ("TIFF of 16 bits", lambda: tiff_row(1, 16, struct.pack("<H", 0xABCD)), (0xAB,) * 3),
        ("TIFF of 12 bits", lambda: tiff_row(2, 12, b"\xff\xf8\x00"), WHITE),
        ("TIFF, white is zero", lambda: tiff_row(1, 8, b"\x00", white=0), WHITE),
        ("TIFF of 16 bits, white is zero", lambda: tiff_row(1, 16, b"\0\0", white=0), WHITE),
        ("BMP with a palette", lambda: stored(Image.new("RGB", (5, 5), RED).quantize(4), "BMP"), RED),
        ("TIFF with a palette", lambda: stored(Image.new("RGB", (5, 5), RED).quantize(4), "TIFF"), RED),
    ):  # fmt: skip
        yield _pixel(name, data, answer)


def _moving(form: str) -> bytes:
    frames = [Image.new("RGB", (16, 16), name) for name in ("red", "blue")]
    return stored(frames[0], form, save_all=True, append_images=frames[1:])


def _frames() -> Iterator[Case]:
    for form in ("GIF", "WEBP", "PNG", "MPO", "TIFF"):
        yield _value(
            f"first frame of {form}",
            lambda _, form=form: np.allclose(  # type: ignore[misc]
                corner(_moving(form)), RED, atol=3
            ),
            True,
        )
    for form in ("JPEG", "PNG", "WEBP"):
        yield _value(
            f"orientation of {form} ignored",
            lambda _, form=form: decode(stored(picture(), form, exif=TURNED)).size,  # type: ignore[misc]
            (12, 10),
        )
    yield _value("orientation of TIFF applied", lambda _: decode(stored(picture(), "TIFF", exif=TURNED)).size, (10, 12))
    for form in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "PPM", "TIFF"):
        yield _value(
            f"size in the header of {form}",
            lambda _, form=form: size_from_header(stored(picture(), form)),  # type: ignore[misc]
            (12, 10),
        )


def _frame_of(marker: int, bits: int, channels: int) -> bytes:
    body = struct.pack(">BHHB", bits, 8, 8, channels) + b"\1\x11\0" * channels
    return b"\xff\xd8\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body + bytes(20)


def _brand(*brands: bytes) -> bytes:
    return struct.pack(">I", 12 + 4 * len(brands)) + b"ftyp" + brands[0] + b"\0\0\0\0" + b"".join(brands[1:]) + bytes(8)


def _kinds() -> Iterator[Case]:
    for name, data, says in (
        ("JPEG XL", b"\xff\x0a" + bytes(20), "^JPEG XL: not supported"),
        ("JPEG XL in a box", b"\0\0\0\x0cJXL \r\n\x87\n", "^JPEG XL: not supported"),
        ("JPEG 2000", b"\0\0\0\x0cjP  \r\n\x87\n", "^JPEG 2000: not supported"),
        ("JPEG 2000 without a box", b"\xff\x4f\xff\x51" + bytes(9), "^JPEG 2000: not supported"),
        ("HEIC", _brand(b"heic", b"mif1", b"heic"), "^HEIC: not supported"),
        ("HEIF", _brand(b"mif1", b"msf1"), "^HEIF: not supported"),
        ("another brand", _brand(b"crx ", b"crx "), "a file of brand 'crx '.*not supported"),
        ("JPEG-LS", _frame_of(0xF7, 8, 3), "^JPEG-LS: not supported"),
        ("lossless JPEG", _frame_of(0xC3, 8, 3), "^lossless JPEG: not supported"),
        ("JPEG of 12 bits", _frame_of(0xC1, 12, 3), "a JPEG of 12 bits and 3 channels: not supported"),
        ("JPEG of 2 channels", _frame_of(0xC0, 8, 2), "a JPEG of 8 bits and 2 channels: not supported"),
        ("TIFF of 5 channels", tiff_row(1, 8, bytes(5), channels=5), "a TIFF of 5 channels .*not supported"),
        ("TIFF of floats", tiff_row(1, 32, bytes(4), numbers=3), "no value is defined as white"),
        ("TIFF of 64-bit floats", tiff_row(1, 64, bytes(8), numbers=3), "64 bits, float numbers: not supported"),
        ("TIFF of 32-bit integers", tiff_row(1, 32, bytes(4)), "no value is defined as white"),
        ("TIFF of signed bytes", tiff_row(1, 8, b"\xfd", numbers=2), "no value is defined as white"),
        ("TIFF of signed 16 bits", tiff_row(1, 16, b"\xfd\xff", numbers=2), "no value is defined as white"),
        ("PFM", b"Pf 1 1 -1.0\n" + bytes(4), "no value is defined as white"),
        ("nothing", b"", "^empty: 0 bytes"),
        ("text", b"words", "not an image of a known kind"),
        ("a web page", b"<!DOCTYPE html><html>", "not an image of a known kind"),
        ("SVG", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image of a known kind"),
        ("PDF", b"%PDF-1.4", "not an image of a known kind"),
        ("EPS starts no program", b"%!PS-Adobe-3.0 EPSF-3.0\n", "not an image of a known kind"),
    ):  # fmt: skip
        yield _refused(name, lambda data=data: data, says)  # type: ignore[misc]
    if "AVIF" in FORMATS:
        yield _value("AVIF", lambda _: decode(stored(picture(), "AVIF")).size, (12, 10))
    else:
        yield _refused("AVIF", lambda: _brand(b"avif", b"mif1"), "^AVIF: not supported")


def _part_damaged(compression: str) -> bytes:
    image = picture(3, (90, 90))
    data = bytearray(stored(image.convert("1") if compression == "group4" else image, "TIFF", compression=compression))
    for at in range(300, 600):
        data[at] ^= 0x5A
    return bytes(data)


def _loud(data: bytes) -> tuple[int, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return corner(data)


def _switched(_: World) -> Any:
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        return decode(png()).size
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False


def _damaged() -> Iterator[Case]:
    for form in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"):
        yield _refused(f"{form} cut", lambda form=form: stored(picture(), form)[:-60], ".")  # type: ignore[misc]
        yield _refused(
            f"{form} cut in its header",
            lambda form=form: stored(picture(), form)[:9],  # type: ignore[misc]
            "cut|damaged|Truncated",
        )
    yield _refused(
        "PNG with a wrong byte",
        lambda: png()[:60] + bytes([png()[60] ^ 1]) + png()[61:],
        "wrong checksum of the pixel data",
    )
    yield _value("PNG without its end", lambda _: decode(png()[:-12]).size, (12, 10))
    palette = Image.new("P", (4, 4), 3)
    palette.putpalette([0, 0, 0] * 256)
    clear = stored(palette, transparency=bytes([0, 0, 0, 128]))
    yield _value("warnings made errors", lambda _: _loud(clear), (127,) * 3)
    yield _refused("TIFF that libtiff refuses", lambda: _part_damaged("tiff_lzw"), r"^damaged TIFF \(")
    yield Case(
        kind="pictures", name="TIFF damaged in part", says="parts of the TIFF are damaged",
        ask=lambda _: decode(_part_damaged("group4")).info.get(REMARK),
    )  # fmt: skip
    yield Case(
        kind="pictures",
        name="PIL told to fill what is cut",
        ask=_switched,
        error=RequestError,
        says="LOAD_TRUNCATED_IMAGES is on",
    )


def _mixed(world: World) -> Any:
    for name, data in (
        ("a", png(1)),
        ("b", b"nothing"),
        ("c", b"nothing"),
        ("d", png(2)[:-60]),
        ("e", _part_damaged("group4")),
    ):
        written(world.place / "in" / f"{name}.png", data)
    return world.place / "in"


def _reports() -> Iterator[Case]:
    def home(world: World) -> Path:
        return world.place / "home"

    def index(world: World) -> Ended:
        return command("index", _mixed(world), "--name", "odd", "--encoder", "gradients", "--home", home(world))

    for name, says in (
        ("index lists what is unreadable, by reason", r"not an image of a known kind"),
        ("index names an example of each", r"\bb\b"),
        ("index says once what was read in part", "read, though parts of the TIFF are damaged"),
    ):
        yield Case(kind="pictures", name=name, ask=index, says=says)
    yield Case(
        kind="pictures", name="verify lists what is unreadable", says="unreadable",
        ask=lambda world: command("verify", _mixed(world), "--home", home(world)),
    )  # fmt: skip
    yield Case(
        kind="pictures", name="a position of an unreadable image", error=DataError,
        says=r"image 1 \(b\) has no embedding; .*not an image of a known",
        ask=lambda world: (index(world), plada.search("position:1", index="odd", k=1, home=home(world))),
    )  # fmt: skip
    yield Case(
        kind="pictures", name="an undamaged index passes its check", says="status 0",
        ask=lambda world: (index(world), command("index", "odd", "--check", "--home", home(world)))[1],
    )  # fmt: skip


CASES: tuple[Case, ...] = (*_shapes(), *_modes(), *_frames(), *_kinds(), *_damaged(), *_reports())
