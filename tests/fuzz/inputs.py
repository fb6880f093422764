"""Small good inputs for the fuzzer, and damage that leaves their checksums right."""

import io
import struct
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, features

from benchmarks.inputs_material import tar_bytes
from plada.sources import manifest
from plada.sources.formats.tars import open_tars
from plada.sources.scan import scan_manifest
from tests.fuzz.fuzzing import mutated
from tests.sources import published

LAYOUTS: tuple[Callable[[Path], Path], ...] = (
    published.food101, published.dtd, published.aircraft, published.flowers102, published.pets, published.cub,
    published.tiny_imagenet, published.gtsrb, published.places365, published.crc, published.caltech101, published.cifar10,
    published.cifar100, published.stl10, published.medmnist,
)  # fmt: skip
_BLOCK = 512
_CHECKSUM = slice(148, 156)  # of a tar header


@dataclass(frozen=True, slots=True)
class Seed:
    """A good input: bytes of a picture, or `files` in a folder of its name. `kind` says what reads it."""

    kind: str
    name: str
    files: tuple[str, ...] = ()
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Seeds:
    root: Path
    by_kind: dict[str, list[Seed]]

    def draw(self, rng: np.random.Generator) -> Seed:
        """A seed of any kind; all kinds are as likely."""
        kinds = list(self.by_kind)
        chosen = self.by_kind[kinds[int(rng.integers(len(kinds)))]]
        return chosen[int(rng.integers(len(chosen)))]


def make_seeds(root: Path) -> Seeds:
    """All seeds; those that are files lie below `root`."""
    found = [Seed("picture", name, data=data) for name, data in pictures().items()]
    for kind, make in (("tars", _make_tars), ("parquet", _make_parquet), ("manifest", _make_manifest)):
        make(root / kind)
        found += [_folder_seed(root, kind, path) for path in sorted((root / kind).iterdir())]
    for layout in LAYOUTS:
        found.append(_folder_seed(root, "target", layout(root / "target" / layout.__name__)))
    table = published.parquet(root / "target" / "parquet", {"train": 6, "test": 4}, names=["cat", "dog"], shards=2)
    split = published.folders(root / "target" / "split", {"train": 4, "val": 2, "test": 2}, ("cat", "dog"))
    classes = published.folders(root / "target" / "classes", {"": 5}, ("cat", "dog"))
    found += [_folder_seed(root, "target", path) for path in (table, split, classes)]
    by_kind: dict[str, list[Seed]] = {}
    for seed in found:
        by_kind.setdefault(seed.kind, []).append(seed)
    return Seeds(root, by_kind)


def _folder_seed(root: Path, kind: str, folder: Path) -> Seed:
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return Seed(kind, str(folder.relative_to(root)), tuple(files))


def pictures() -> dict[str, bytes]:
    """Every format that is read, in its modes and codings, 20 x 24 pixels."""
    rgb = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8))
    grey16 = Image.fromarray(np.random.default_rng(1).integers(0, 1 << 16, (24, 20)).astype(np.uint16))
    frames: dict[str, Any] = {"save_all": True, "append_images": [rgb.rotate(90, expand=False)], "duration": 10}
    found = {
        "jpeg": _saved(rgb, "JPEG"), "jpeg-progressive": _saved(rgb, "JPEG", progressive=True),
        "jpeg-grey": _saved(rgb.convert("L"), "JPEG"), "jpeg-cmyk": _saved(rgb.convert("CMYK"), "JPEG"),
        "jpeg-exif": _saved(rgb, "JPEG", exif=_turned()), "jpeg-mpo": _saved(rgb, "MPO", save_all=True, append_images=[rgb]),
        "png": _saved(rgb, "PNG"), "png-palette": _saved(rgb.quantize(16), "PNG", transparency=3),
        "png-alpha": _saved(rgb.convert("RGBA"), "PNG"), "png-la": _saved(rgb.convert("LA"), "PNG"),
        "png-16": _saved(grey16, "PNG"), "png-1": _saved(rgb.convert("1"), "PNG"), "apng": _saved(rgb, "PNG", **frames),
        "gif": _saved(rgb, "GIF", **frames), "webp": _saved(rgb, "WEBP"), "webp-lossless": _saved(rgb, "WEBP", lossless=True),
        "webp-moving": _saved(rgb, "WEBP", **frames), "bmp": _saved(rgb, "BMP"), "bmp-palette": _saved(rgb.quantize(16), "BMP"),
        "ppm": _saved(rgb, "PPM"), "pgm-16": _saved(grey16, "PPM"), "pbm": _saved(rgb.convert("1"), "PPM"),
        "ppm-plain": b"P3\n2 2\n255\n" + b"1 2 3 " * 4, "pfm": b"Pf\n2 2\n-1.0\n" + bytes(16),
        "tiff-16": _saved(grey16, "TIFF"), "tiff-float": _saved(rgb.convert("F"), "TIFF"), "tiff-1": _saved(rgb.convert("1"), "TIFF"),
        "tiff-alpha": _saved(rgb.convert("RGBA"), "TIFF"), "tiff-turned": _saved(rgb, "TIFF", exif=_turned()),
        "tiff-palette": _saved(rgb.quantize(16), "TIFF"),
    }  # fmt: skip
    for coding in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        found[f"tiff-{coding or 'raw'}"] = _saved(rgb, "TIFF", compression=coding)
    found["tiff-group4"] = _saved(rgb.convert("1"), "TIFF", compression="group4")
    if "avif" in features.modules and features.check("avif"):
        found["avif"] = _saved(rgb, "AVIF")
    return found


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def _saved(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _make_tars(root: Path) -> None:
    small = [published.png(published.pixels(number)) for number in range(4)]
    plain = {f"{number}.png": data for number, data in enumerate(small)}
    long = {f"{'folder/' * 30}{name}": data for name, data in plain.items()}
    _tar(root / "synset" / "n01440764.tar", plain, tarfile.USTAR_FORMAT)
    _tar(
        root / "ustar" / "a.tar", {f"{'deep/' * 24}{name}": data for name, data in plain.items()}, tarfile.USTAR_FORMAT
    )
    _tar(root / "gnu" / "a.tar", long, tarfile.GNU_FORMAT)
    _tar(root / "pax" / "a.tar", {**long, "straße.png": small[0]}, tarfile.PAX_FORMAT)
    samples = {
        f"s{number}.{ending}": data for number in range(3) for ending, data in (("png", small[number]), ("cls", b"1"))
    }
    _tar(root / "webdataset" / "shard-000000.tar", samples, tarfile.USTAR_FORMAT)
    _tar(root / "webdataset" / "shard-000001.tar", {"t0.png": small[3], "t0.json": b"{}"}, tarfile.PAX_FORMAT)
    inner = {}
    for name in ("n01440764", "n01443537"):
        inner[f"{name}.tar"] = tar_bytes(plain, tarfile.USTAR_FORMAT)
    inner["README"] = b"two classes"
    _tar(root / "nested" / "winter21_whole.tar", inner, tarfile.USTAR_FORMAT)
    _tar(root / "nested-gnu" / "whole.tar", {"x.tar": tar_bytes(long, tarfile.GNU_FORMAT)}, tarfile.GNU_FORMAT)


def _tar(path: Path, members: dict[str, bytes], form: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_bytes(members, form))


def _make_parquet(root: Path) -> None:
    small = [published.png(published.pixels(number)) for number in range(5)]
    names = [f"k{number}" for number in range(5)]
    structs = [{"bytes": data, "path": f"{name}.png"} for name, data in zip(names, small, strict=True)]
    tables = {
        "plain": pa.table({"key": names, "image": pa.array(small, pa.binary())}),
        "nulls": pa.table({"key": names, "image": pa.array([*small[:3], None, None], pa.binary())}),
        "struct": pa.table({"image": pa.array(structs, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))}),
        "dictionary": pa.table({"key": pa.array(names).dictionary_encode(), "jpg": pa.array(small, pa.large_binary())}),
    }
    for name, table in tables.items():
        (root / name).mkdir(parents=True)
        for coding in ("none", "snappy", "zstd"):
            if name == "plain" or coding == "none":
                suffix = f"-{coding}" if name == "plain" else ""
                (root / f"{name}{suffix}").mkdir(exist_ok=True)
                pq.write_table(table, root / f"{name}{suffix}" / "a.parquet", row_group_size=2, compression=coding)
    (root / "plain").rmdir()


def _make_manifest(root: Path) -> None:
    tars = root.parent / "of-manifest"
    many = {f"{number}.png": published.png(published.pixels(number)) for number in range(8)}
    _tar(tars / "n01440764.tar", many, tarfile.USTAR_FORMAT)
    (root / "small").mkdir(parents=True)
    scan_manifest(open_tars(tars), root / "small" / "manifest.parquet", workers=1)


def mended(data: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """Damage behind checksums: of a PNG's chunks, a tar's headers, a manifest's footer; of others as `mutated`."""
    if data.startswith(b"\x89PNG"):
        return _mended_png(data, rng)
    if kind == "tars":
        return _mended_tar(data, rng)
    if kind == "manifest":
        return _mended_manifest(data, rng)
    return _mutated_beginning(data, rng)


def _mutated_beginning(data: bytes, rng: np.random.Generator) -> bytes:
    """Damage to the header, or to the end, where a table has what describes it."""
    if rng.integers(2):
        return mutated(data[:64], rng) + data[64:]
    return data[:-64] + mutated(data[-64:], rng)


def _mended_png(data: bytes, rng: np.random.Generator) -> bytes:
    chunks, at = [], 8
    while at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        chunks.append((name, data[at + 8 : at + 8 + length]))
        at += 12 + length
    number = int(rng.integers(len(chunks)))
    name, body = chunks[number]
    if name == b"IDAT" and rng.integers(2):
        body = zlib.compress(mutated(zlib.decompress(body), rng))
    else:
        body = mutated(body, rng)
    chunks[number] = (name, body)
    parts = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    ]
    return data[:8] + b"".join(parts)


def _mended_tar(data: bytes, rng: np.random.Generator) -> bytes:
    """One header changed, its checksum right; the others may have moved by nothing."""
    headers = [at for at in range(0, len(data), _BLOCK) if data[at + 257 : at + 262] == b"ustar"]
    at = headers[int(rng.integers(len(headers)))]
    header = bytearray(mutated(data[at : at + _BLOCK], rng)[:_BLOCK].ljust(_BLOCK, b"\0"))
    header[_CHECKSUM] = b" " * 8
    header[_CHECKSUM] = b"%06o\0 " % sum(header)
    return data[:at] + bytes(header) + data[at + _BLOCK :]


def _mended_manifest(data: bytes, rng: np.random.Generator) -> bytes:
    """The footer changed, its digest and its length right."""
    length = int.from_bytes(data[-8:-4], "little")
    body, footer = data[: -8 - length], mutated(data[-8 - length : -8], rng)
    whole = footer + len(footer).to_bytes(4, "little") + data[-4:]
    place = manifest._digest_place(whole)
    digest = manifest._footer_digest(whole)
    return body + (whole[: place.start] + digest + whole[place.stop :] if place.stop else whole)
