"""What the odd inputs are made of, and what a case of them is."""

import io
import struct
import tarfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from typer.testing import CliRunner

from benchmarks.faults_material import Material, shape
from plada.cli import app
from plada.common.progress import Progress
from plada.errors import DataError, PladaError
from plada.sources.collection import Collection
from plada.sources.decode import decode
from plada.sources.formats.detect import open_collection

KINDS = ("pictures", "archives", "tables", "targets", "options")


@dataclass(frozen=True, slots=True)
class World:
    """What a case may use: `place` is an empty folder of its own, `material` what was made once."""

    place: Path
    material: Material


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An input and the documented answer: an error of a class, a value, or words that are said; only what is given is compared.

    `ask` makes the input and asks; what it returns is compared with `answer`, or `says` (a regular expression) is looked for in
    it. With `error` it must raise that.
    """

    kind: str
    name: str
    ask: Callable[[World], Any]
    error: type[PladaError] | None = None
    says: str = ""
    answer: Any = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended, as `command` gives it to a case; `str` of it is all that was shown."""

    status: int
    stdout: str
    stderr: str

    def __str__(self) -> str:
        return f"status {self.status}\n{self.stdout}\n{self.stderr}"


def command(*words: str | Path) -> Ended:
    """Run plada as from a terminal, in this process. Raises whatever reaches the outside."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ended(result.exit_code, result.stdout, result.stderr)


@dataclass
class Remarks:
    """A listener that keeps what it is told."""

    notes: list[str] = field(default_factory=list)

    def __call__(self, progress: Progress) -> None:
        if progress.note:
            self.notes.append(progress.note)


def remarks_on(place: str | Path) -> str:
    """What is said when a collection is opened."""
    remarks = Remarks()
    open_collection(place, report=remarks)
    return "\n".join(remarks.notes)


def keys_of(place: str | Path) -> list[str]:
    """The keys of a collection; every image is read once."""
    found: Collection = open_collection(place)
    assert len(dict(found.stream(0, len(found)))) == len(found)
    keys: list[str] = found.keys.to_pylist()
    return keys


def keys_case(kind: str, name: str, make: Callable[[Path], str | Path], answer: list[str]) -> Case:
    """A place whose keys are known."""
    return Case(kind=kind, name=name, ask=lambda world: keys_of(make(world.place)), answer=answer)


def remark_case(kind: str, name: str, make: Callable[[Path], str | Path], says: str) -> Case:
    """A place that is read with a remark."""
    return Case(kind=kind, name=name, ask=lambda world: remarks_on(make(world.place)), says=says)


def refused_case(
    kind: str, name: str, make: Callable[[Path], str | Path], says: str, error: type[PladaError] = DataError
) -> Case:
    """A place that is refused."""
    return Case(kind=kind, name=name, ask=lambda world: keys_of(make(world.place)), error=error, says=says)


def picture(number: int = 0, size: tuple[int, int] = (12, 10)) -> Image.Image:
    """Noise that no other number has."""
    rng = np.random.default_rng(number)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))


def stored(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    """An image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png(number: int = 0) -> bytes:
    """A small picture, as a PNG."""
    return stored(picture(number))


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_row(width: int, depth: int, colour: int, row: bytes, *before: bytes) -> bytes:
    """A PNG of one row, of bits and colours that PIL does not write."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + b"".join(before)
        + chunk(b"IDAT", zlib.compress(b"\0" + row))
        + chunk(b"IEND", b"")
    )


def tiff_row(width: int, bits: int, row: bytes, *, white: int = 1, numbers: int = 1, channels: int = 1) -> bytes:
    """A TIFF of one row; `white` 0 is "white is zero", `numbers` 1 unsigned, 2 signed, 3 float."""
    tags = {
        256: width,
        257: 1,
        258: bits,
        259: 1,
        262: white,
        273: 8,
        277: channels,
        278: 1,
        279: len(row),
        339: numbers,
    }
    fields = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return struct.pack("<4sI", b"II*\0", 8 + len(row)) + row + struct.pack("<H", len(tags)) + fields + b"\0" * 4


def corner(data: bytes) -> tuple[int, ...]:
    """The first pixel of a stored picture."""
    pixel = decode(data).getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return pixel


def written(path: Path, data: bytes | str = b"x") -> Path:
    """A file with that content, and the folders on its way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def tar_bytes(members: Mapping[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of these members, in this order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def tar(path: Path, members: Mapping[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    """A tar file of these members."""
    return written(path, tar_bytes(members, form))


def table(path: Path, columns: Mapping[str, Any]) -> Path:
    """A parquet file of these columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(columns)), path)
    return path


def classes(root: Path, counts: Mapping[str, int], ending: str = ".png") -> Path:
    """Folders of so many pictures each, light ones where the name begins with b."""
    for number, (name, count) in enumerate(counts.items()):
        for row in range(count):
            image = shape(np.random.default_rng([number, row]), name.startswith("b"))
            written(root / name / f"{row}{ending}", stored(image, "JPEG" if ending == ".jpg" else "PNG"))
    return root
