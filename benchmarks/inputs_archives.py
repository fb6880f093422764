"""Odd collections: tars and what lies in them, WebDataset, img2dataset, folders with what is no picture, chains of URLs."""

import gzip
import io
import os
import tarfile
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.inputs_material import (
    Case,
    World,
    command,
    keys_case,
    png,
    refused_case,
    remark_case,
    table,
    tar,
    tar_bytes,
    written,
)
from plada.errors import DataError, RequestError
from plada.sources.formats.detect import open_collection
from plada.sources.storage import RemoteFiles, walk

SYNSET = "n01440764"
HOSTILE = (
    ("ß\0b", "null character"),
    ("../a", "leads out"),
    ("/etc/a", "leads out"),
    ("x\\..\\a", "leads out"),
    ("é" * 200, "too long"),
)


_keys = partial(keys_case, "archives")
_said = partial(remark_case, "archives")
_refused = partial(refused_case, "archives")


def _members(*names: str) -> dict[str, bytes]:
    return {name: png(number) for number, name in enumerate(names)}


def _folders_in_tars() -> Iterator[Case]:
    """A tar whose images lie in a folder of its name; members that are no images have no say."""
    inside, key = f"{SYNSET}/a.png", f"{SYNSET}/a"
    for name, members in (
        ("images alone", (inside,)),
        ("a folder of the tar's name and macOS's file", (f"._{SYNSET}", inside)),
        ("a folder of the tar's name and a README", ("README", inside)),
        ("a folder of the tar's name and __MACOSX", (f"__MACOSX/{SYNSET}/._a.png", inside)),
        ("hidden images", (inside, ".b.png")),
        ("no folder", ("a.png",)),
        ("names that begin with ./", ("./a.png",)),
    ):
        yield _keys(name, lambda place, members=members: tar(place / f"{SYNSET}.tar", _members(*members)), [key])  # type: ignore[misc]
    yield _keys("an image beside the folder", lambda place: tar(place / f"{SYNSET}.tar", _members(inside, "b.png")),
                [f"{SYNSET}/b", f"{SYNSET}/{key}"])  # fmt: skip
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        yield _keys(
            f"long names, format {form}",
            lambda place, form=form: tar(place / f"{SYNSET}.tar", _members("deep/" * 22 + "a.png"), form),  # type: ignore[misc]
            [f"{SYNSET}/{'deep/' * 22}a"],
        )
    yield _keys(
        "names beyond ASCII", lambda place: tar(place / f"{SYNSET}.tar", _members("straße.png")), [f"{SYNSET}/straße"]
    )
    yield _keys("a tar of upper-case ending", lambda place: tar(place / f"{SYNSET}.TAR", _members("a.png")), [key])


def _linked(place: Path) -> Path:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as out:
        entry = tarfile.TarInfo("a.png")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        out.addfile(entry)
    return written(place / "x.tar", buffer.getvalue())


def _broken_tars() -> Iterator[Case]:
    whole = tar_bytes(_members("a.png", "b.png"))
    for name, data, says in (
        ("a tar cut in a member", whole[:700], "cut|ends inside"),
        ("a tar cut between members", tar_bytes(_members("a.png"))[:1536], "without the end-of-archive mark"),
        ("two tars in one", whole + whole, "several tars in one"),
        ("an empty file called .tar", b"", "cut|not a whole tar"),
        ("a web page called .tar", b"<html>" * 200, "not a whole tar|cut"),
        ("a compressed tar called .tar", gzip.compress(whole), "not a whole tar|cut|compressed"),
        ("two members of one name", tar_bytes(_members("x/a.png", "x/a.jpg")), "one key|same key|both"),
    ):
        yield _refused(name, lambda place, data=data: written(place / "x.tar", data), says)  # type: ignore[misc]
    yield _refused("a link in a tar", _linked, "is a link, a device or sparse")
    for bad, says in HOSTILE:
        yield _refused(
            f"a member called {bad[:9]!r}",
            lambda place, bad=bad: tar(place / "x.tar", _members("fine.png", f"{bad}.png")),  # type: ignore[misc]
            rf"member 1, .*{says}",
        )


def _nested(place: Path, name: str, folder: str = "", *extra: str) -> Path:
    inner = {f"{folder}n0000000{number}.tar": tar_bytes(_members(f"{number}.JPEG")) for number in (2, 1)}
    return tar(place / f"{name}.tar", {**inner, **dict.fromkeys(extra, b"x")})


def _tars_of_tars() -> Iterator[Case]:
    keys = ["n00000001/1", "n00000002/2"]
    yield _keys("fall11_whole.tar", lambda place: _nested(place, "fall11_whole"), keys)
    yield _keys("winter21_whole.tar", lambda place: _nested(place, "winter21_whole", "winter21_whole/"), keys)
    yield _keys("a tar of tars in a folder", lambda place: _nested(place, "fall11_whole").parent, keys)
    yield _said(
        "a tar of tars and a README", lambda place: _nested(place, "whole", "", "README.md"), r"passed over 1 \.md"
    )

    def damaged(place: Path) -> Path:
        return written(place / "w.tar", _nested(place, "w").read_bytes().replace(b"1.JPEG", b"9.JPEG"))

    yield _refused("a damaged tar in a tar", damaged, r"w\.tar: n00000001\.tar: not a whole tar")


def _passed_over() -> Iterator[Case]:
    for name, says in (
        ("winter21_whole.tar.gz", "1 .tar.gz, .*unpack it once with `gunzip -k FILE`"),
        ("images.zip", "zip://::FILE"),
        ("a.7z", "is an archive: unpack it"),
        ("train/data-00000-of-00001.arrow", "load_from_disk"),
        ("a.jxl", "save as PNG or JPEG"),
        ("a.heic", "save as PNG or JPEG"),
        ("a.jfif", "rename to .jpg"),
    ):
        yield _refused(
            f"{name} alone",
            lambda place, name=name: (
                written(place / name).parent if "/" not in name else written(place / name).parents[1]
            ),  # type: ignore[misc]
            f"no image found, passed over .*{says}",
        )
    for name, says in (
        ("b.jfif", "1 .jfif"),
        ("b.AVIF", "1 .avif|^$"),
        ("b.zip", "1 .zip"),
        ("b.tar.gz", "1 .tar.gz"),
        ("b.jp2", "1 .jp2"),
    ):
        yield _said(f"{name} beside images", lambda place, name=name: _beside(place, name), says)  # type: ignore[misc]
    yield _said("hidden files alone are not said", lambda place: _beside(place, ".hidden.zip"), "^$")
    yield _said("a .tar.gz beside tars", _tar_beside, "passed over 1 .tar.gz")
    yield _refused("an image beside tars", lambda place: (written(place / "a.png", png()), tar(place / "x.tar", _members("b.png")))[1].parent,
                   "holds tar files and also a.png")  # fmt: skip
    yield _refused("an empty folder", lambda place: place, "no image found")
    yield _refused("a place that is not there", lambda place: place / "none", "none|no such", RequestError)
    yield _refused(
        "a text file", lambda place: written(place / "a.txt"), "this is a file of another kind", RequestError
    )


def _beside(place: Path, name: str) -> Path:
    written(place / "a.png", png())
    return written(place / name).parent


def _tar_beside(place: Path) -> Path:
    tar(place / f"{SYNSET}.tar", _members("a.png"))
    return _beside_tar(place)


def _beside_tar(place: Path) -> Path:
    return written(place / "n01443537.tar.gz").parent


def _webdataset() -> Iterator[Case]:
    samples = {f"{number}.{end}": png(number) for number in (0, 1) for end in ("jpg", "cls", "json")}
    yield _keys("shards", lambda place: tar(place / "shard-000000.tar", samples), ["0", "1"])
    yield _keys("a tar of samples without a number", lambda place: tar(place / "train.tar", samples), ["0", "1"])
    apart = {**{f"{number}.jpg": png(number) for number in (0, 1)}, **{f"{number}.cls": b"1" for number in (0, 1)}}
    yield _keys("samples that lie apart", lambda place: tar(place / "shard-0.tar", apart), ["0", "1"])
    two = {f"{number}.{end}": png(number) for number in (0, 1) for end in ("png", "seg.png")}
    yield _refused(
        "two images of a sample",
        lambda place: tar(place / "shard-0.tar", two),
        "first dot of the file name; .* --image-extension",
    )
    for end in ("png", "seg.png"):
        yield _keys(
            f"--image-extension {end}",
            lambda place, end=end: f"image-extension={end}:{tar(place / 'shard-0.tar', two)}",  # type: ignore[misc]
            ["0", "1"],
        )
    yield _said("class_1.tar, class_2.tar", _numbered_classes, "read as WebDataset shards: .*say tars:")
    yield _said(
        "one tar a class", lambda place: tar(place / f"{SYNSET}.tar", _members("a.png")), "read as one tar a class"
    )
    yield _keys("tars: said", lambda place: f"tars:{_numbered_classes(place)}", ["class_1/1", "class_2/2"])
    for form, keys in (
        ("webdataset", ["000000000"]),
        ("files", ["00000/000000000"]),
        ("parquet", ["000000000", "000000001"]),
    ):
        yield _keys(f"img2dataset as {form}", lambda place, form=form: _img2dataset(place / "out", form), keys)  # type: ignore[misc]

    def parts(place: Path) -> Path:
        return _parts(place, (0, 2))

    yield _refused("a missing part", parts, r"files are missing: 1 of 3 \(train-00001-of-00003\)")
    yield _keys("a missing part that is meant", lambda place: f"incomplete:{parts(place)}", ["0", "2"])
    yield Case(
        kind="archives", name="--incomplete", says="status 0",
        ask=lambda world: command("index", parts(world.place / "in"), "--name", "p", "--encoder", "gradients", "--incomplete", "--home",
                                  world.place / "home"),
    )  # fmt: skip


def _parts(place: Path, numbers: tuple[int, ...]) -> Path:
    for number in numbers:
        tar(place / f"train-{number:05d}-of-00003.tar", {f"{number}.png": png(number), f"{number}.cls": b"1"})
    return place


def _numbered_classes(place: Path) -> Path:
    for number in (1, 2):
        tar(place / f"class_{number}.tar", _members(f"{number}.png"))
    return place


def _img2dataset(folder: Path, form: str) -> Path:
    columns: dict[str, Any] = {"url": ["u", "v"], "key": ["000000000", "000000001"], "status": ["success", "failed"]}
    if form == "parquet":
        columns["jpg"] = pa.array([png(), None], pa.binary())
    table(folder / "00000.parquet", columns)
    written(folder / "00000_stats.json", "{}")
    if form == "webdataset":
        tar(folder / "00000.tar", {f"000000000.{end}": png() for end in ("jpg", "json", "txt")})
    elif form == "files":
        for end in ("jpg", "json", "txt"):
            written(folder / "00000" / f"000000000.{end}", png())
    return folder


def _odd_files() -> Iterator[Case]:
    def link(place: Path, name: str) -> Path:
        written(place / "b.txt") if name.endswith(".tar") else _beside(place, "b.txt")
        (place / name).symlink_to("nowhere")
        return place

    def pipe(place: Path, name: str) -> Path:
        _beside(place, "b.txt") if name.endswith(".jpg") else written(place / "b.txt")
        os.mkfifo(place / name)
        return place

    for name in ("c.jpg", "folder", "c.tar"):
        yield _refused(
            f"{name}, a link to nothing",
            lambda place, name=name: link(place, name),  # type: ignore[misc]
            "a link to nothing. Restore",
        )
    for name in ("p.jpg", "p.tar", "p.parquet"):
        yield _refused(
            f"{name}, a pipe",
            lambda place, name=name: pipe(place, name),  # type: ignore[misc]
            "it is a pipe. Put a file in its place",
        )
    yield _keys("a hidden link to nothing", lambda place: link(place, ".c.jpg"), ["a"])
    yield _keys("a hidden pipe", lambda place: pipe(place, ".p.jpg"), ["a"])
    for kind in ("zip", "tar"):
        for inside, keys in (("", ["a/2", "a/b/1"]), ("a", ["2", "b/1"]), ("a/*.png", ["2"])):
            yield _keys(
                f"{kind}://{inside}::FILE",
                lambda place, kind=kind, inside=inside: _chain(place, kind, inside),  # type: ignore[misc]
                keys,
            )
    yield Case(
        kind="archives", name="a remote listing that loops", ask=_loop, error=DataError, says="leads back to itself"
    )
    yield _refused(
        "two images of one key",
        lambda place: (_beside(place, "a.jpg"), written(place / "a.jpg", png()))[0],
        "a.jpg.*a.png|a.png.*a.jpg",
    )
    yield Case(
        kind="archives", name="an image that shrinks after it was listed", error=DataError, says="shorter|listed|size", ask=_shrinking,
    )  # fmt: skip


def _chain(place: Path, kind: str, inside: str) -> str:
    archive = place / f"x.{kind}"
    members = {"a/b/1.png": png(1), "a/2.png": png(2)}
    if kind == "tar":
        tar(archive, members, tarfile.USTAR_FORMAT)
    else:
        with zipfile.ZipFile(archive, "w") as out:
            for name, data in members.items():
                out.writestr(name, data)
    return f"{kind}://{inside}::{archive}"


def _loop(_: World) -> Any:
    class Loop:
        protocol = "loop"

        def ls(self, path: str, detail: bool) -> list[dict[str, object]]:
            return [{"name": f"{path}/again", "type": "directory"}, {"name": path, "type": "directory"}]

    return list(walk(RemoteFiles("loop://root", Loop(), "/root")))


def _shrinking(world: World) -> Any:
    place = tar(world.place / "shard-0.tar", _members("a.png", "b.png"))
    found = open_collection(place)
    os.truncate(place, 600)
    return found.read(1)


CASES: tuple[Case, ...] = (
    *_folders_in_tars(), *_broken_tars(), *_tars_of_tars(), *_passed_over(), *_webdataset(), *_odd_files(),
)  # fmt: skip
