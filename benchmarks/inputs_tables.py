"""Odd tables: columns of images and names, nulls, damage, manifests, lists in text."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.inputs_material import Case, keys_case, png, refused_case, remark_case, table, tar, written
from plada.errors import DataError, RequestError, Unreadable
from plada.sources.decode import decode
from plada.sources.formats.detect import open_collection
from plada.sources.manifest import load_manifest, open_manifest
from plada.sources.scan import scan_manifest

IMAGES = [png(number) for number in range(3)]
NAMES = ["a", "b", "c"]
HOSTILE = (
    ("a\0b", "null character"), ("../a", "leads out"), ("x/../../a", "leads out"), ("/etc/a", "leads out"), ("x\\..\\a", "leads out"),
    (".hidden/a", "is hidden"), ("x/.a", "is hidden"), ("é" * 200, "too long"), ("/".join(["x" * 250] * 20), "too long"),
)  # fmt: skip


_keys = partial(keys_case, "tables")
_said = partial(remark_case, "tables")
_refused = partial(refused_case, "tables")


def _plain(place: Path, **columns: Any) -> Path:
    return table(place / "a.parquet", {"key": NAMES, "image": pa.array(IMAGES, pa.binary()), **columns})


def _structs(*images: bytes | None) -> Any:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.array([{"bytes": data, "path": f"{name}.png"} for data, name in zip(images, NAMES, strict=False)], kind)


def _columns() -> Iterator[Case]:
    for keys, images in (
        (pa.string(), pa.binary()),
        (pa.large_string(), pa.large_binary()),
        (pa.dictionary(pa.int32(), pa.string()), pa.binary()),
        (pa.dictionary(pa.int8(), pa.large_string()), pa.dictionary(pa.int32(), pa.binary())),
        (pa.string_view(), pa.binary_view()),
    ):
        yield _keys(
            f"columns of {keys} and {images}",
            lambda place, keys=keys, images=images: _plain(  # type: ignore[misc]
                place, key=pa.array(NAMES).cast(keys), image=pa.array(IMAGES, pa.binary()).cast(images)
            ),
            NAMES,
        )
    yield _keys("Hugging Face's struct", lambda place: table(place / "a.parquet", {"image": _structs(*IMAGES)}), NAMES)
    yield _keys("a struct and keys", lambda place: _plain(place, image=_structs(*IMAGES)), NAMES)
    yield _keys("names with endings", lambda place: _plain(place, key=["a.png", "b.jpg", "c"]), NAMES)
    yield _keys("names with ./", lambda place: _plain(place, key=["./a.png", "b", "c"]), NAMES)

    def two(place: Path) -> Path:
        return table(place / "a.parquet", {"left": _structs(*IMAGES), "right": _structs(*IMAGES[::-1])})

    yield _refused("two columns of images", two, "several columns of images: left, right.*--column left")
    yield _keys("--column right", lambda place: f"column=right:{two(place)}", NAMES)
    yield _refused(
        "--column of no images", lambda place: f"column=none:{two(place)}", "column none does not hold images"
    )
    yield _refused(
        "--column of a tar",
        lambda place: f"column=left:{tar(place / 'x.tar', {'a.png': png()})}",
        "for parquet and Lance",
        RequestError,
    )
    yield _refused(
        "no column of images", lambda place: table(place / "a.parquet", {"url": ["u"]}), "no column of images among url"
    )
    yield _refused(
        "no column of names", lambda place: table(place / "a.parquet", {"image": pa.array(IMAGES, pa.binary())}), "key"
    )
    yield _refused("two files of two kinds", _two_kinds, "Give files of one kind|no column")
    yield _said("which columns were read", _plain, "images in column image, keys in key")


def _two_kinds(place: Path) -> Path:
    _plain(place)
    table(place / "b.parquet", {"key": ["d"], "jpg": pa.array(IMAGES[:1], pa.binary())})
    return place


def _names() -> Iterator[Case]:
    for bad, says in HOSTILE:
        yield _refused(
            f"a name {bad[:9]!r}",
            lambda place, bad=bad: _plain(place, key=["a", bad, "c"]),  # type: ignore[misc]
            rf"name in row 1, .*{says}",
        )
    yield _refused("a name twice", lambda place: _plain(place, key=["a", "b", "a"]), "one key|same key|both|twice")
    yield _refused("a null name", lambda place: _plain(place, key=["a", None, "c"]), "row 1 has an image but no name")
    yield _refused("an empty name", lambda place: _plain(place, key=["a", "", "c"]), "row 1 has an image but no name")
    latin = pa.Array.from_buffers(pa.string(), 3, pa.array([b"a", b"stra\xdfe", b"c"], pa.binary()).buffers())
    yield _refused("a name of another encoding", lambda place: _plain(place, key=latin), "a name is not UTF-8")
    yield _said(
        "names of two Unicode forms", lambda place: _plain(place, key=["caf\u00e9", "cafe\u0301", "c"]), "1 keys differ"
    )


def _missing() -> Iterator[Case]:
    null = pa.array([IMAGES[0], None, IMAGES[2]], pa.binary())
    yield _keys("a null image keeps its position", lambda place: _plain(place, image=null), NAMES)
    yield Case(
        kind="tables", name="a null image is unreadable", error=Unreadable, says="empty: 0 bytes",
        ask=lambda world: decode(open_collection(_plain(world.place, image=null)).read(1)),
    )  # fmt: skip
    yield _keys(
        "a null in a struct",
        lambda place: table(place / "a.parquet", {"image": _structs(IMAGES[0], None, IMAGES[2])}),
        NAMES,
    )
    yield _refused(
        "paths alone", lambda place: table(place / "a.parquet", {"image": _structs(None, None)}), "no image has bytes"
    )
    empty = {"key": pa.array([], pa.string()), "image": pa.array([], pa.binary())}
    yield _refused("no row", lambda place: _plain(place, **empty), "no image")
    yield _refused("a missing file", lambda place: _renamed(place), r"files are missing: 2 of 3")
    yield _keys("a missing file that is meant", lambda place: f"incomplete:{_renamed(place)}", NAMES)


def _renamed(place: Path) -> Path:
    _plain(place).rename(place / "train-00001-of-00003.parquet")
    return place


def _damaged() -> Iterator[Case]:
    def cut(place: Path, share: float) -> Path:
        file = _plain(place)
        return written(file, file.read_bytes()[: int(share * file.stat().st_size)])

    yield _refused("a table cut in the middle", lambda place: cut(place, 0.5), "not a whole parquet file")
    yield _refused("an empty table file", lambda place: cut(place, 0), "not a whole parquet file")
    yield _refused(
        "a CSV called .parquet", lambda place: written(place / "a.parquet", "key,image\n"), "not a whole parquet file"
    )
    yield _refused("a damaged page", _flipped, "cannot be read|not a whole parquet file|k")
    for name, change, says in (
        ("a manifest cut", lambda data: data[:-20], "not a readable manifest"),
        (
            "a manifest with a wrong bit in its footer",
            lambda data: data[:-60] + bytes([data[-60] ^ 1]) + data[-59:],
            "damaged|not a",
        ),
        ("another parquet file as manifest", None, "not a manifest"),
    ):
        yield Case(
            kind="tables", name=name, error=DataError, says=says,
            ask=lambda world, change=change: load_manifest(  # type: ignore[misc]
                written(_manifest(world.place), change(_manifest(world.place).read_bytes())) if change else _plain(world.place)
            ),
        )  # fmt: skip
    yield Case(
        kind="tables", name="a manifest that is not there", error=RequestError, says="no such manifest",
        ask=lambda world: open_manifest(world.place / "none"),
    )  # fmt: skip
    yield Case(
        kind="tables", name="a manifest keeps null images", answer=[len(IMAGES[0]), 0, len(IMAGES[2])],
        ask=lambda world: [load_manifest(_manifest(world.place, null=True)).row(row).size for row in range(3)],
    )  # fmt: skip


def _flipped(place: Path) -> Path:
    file = place / "a.parquet"
    columns = pa.table({"key": NAMES, "image": pa.array(IMAGES, pa.binary())})
    pq.write_table(columns, file, compression="zstd", use_dictionary=False)
    data = file.read_bytes()
    return written(file, data[:30] + bytes(30) + data[60:])


def _manifest(place: Path, *, null: bool = False) -> Path:
    path = place / "manifest" / "manifest.parquet"
    if not path.exists():
        images = pa.array([IMAGES[0], None if null else IMAGES[1], IMAGES[2]], pa.binary())
        scan_manifest(open_collection(_plain(place / "table", image=images)), path, workers=1)
    return path


CASES: tuple[Case, ...] = (*_columns(), *_names(), *_missing(), *_damaged())
