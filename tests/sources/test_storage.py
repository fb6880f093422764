"""Files below one root: a folder and a URL answer the same questions in the same way, and say what is wrong alike."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest

from plada.errors import DataError, RequestError
from plada.sources.storage import Files, LocalFiles, RemoteFiles, open_files, suffix_of

CONTENT = {"a/one.png": b"0123456789", "a/two.jpg": b"", "b.tar": bytes(range(256))}


@pytest.fixture(params=["folder", "memory"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Files]:
    """The same three files on disk and behind a URL."""
    if request.param == "folder":
        for name, data in CONTENT.items():
            (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "root" / name).write_bytes(data)
        yield open_files(tmp_path / "root")[0]
        return
    system = fsspec.filesystem("memory")
    for name, data in CONTENT.items():
        system.pipe_file(f"/plada-storage/{name}", data)
    yield open_files("memory://plada-storage")[0]
    system.rm("/plada-storage", recursive=True)


def test_a_folder_is_listed(files: Files) -> None:
    assert {(e.name, e.is_folder) for e in files.entries("") if e.name} == {("a", True), ("b.tar", False)}
    assert {(e.name, e.size) for e in files.entries("a") if e.name} == {("one.png", 10), ("two.jpg", 0)}


@pytest.mark.parametrize(
    ("offset", "size", "expected"),
    [(0, None, b"0123456789"), (3, None, b"3456789"), (3, 4, b"3456"), (8, 10, b"89"), (0, 0, b""), (10, 5, b"")],
)
def test_any_part_of_a_file(files: Files, offset: int, size: int | None, expected: bytes) -> None:
    assert files.read("a/one.png", offset, size) == expected
    with files.reader("a/one.png") as read:
        assert read(offset, len(expected)) == expected


def test_random_ranges_are_those_of_the_bytes(files: Files) -> None:
    rng = np.random.default_rng(0)
    with files.reader("b.tar") as read, files.open("b.tar") as stream:
        for start, stop in np.sort(rng.integers(0, 257, (40, 2)), axis=1).tolist():
            assert read(start, stop - start) == CONTENT["b.tar"][start:stop]
            stream.seek(start)
            assert stream.read(stop - start) == CONTENT["b.tar"][start:stop]


def _read_all(files: Files, path: str) -> bytes:
    with files.reader(path) as read:
        return read(0, 10)


@pytest.mark.parametrize(
    "ask", [lambda f: f.read("a/gone.png"), lambda f: f.open("a/gone.png"), lambda f: _read_all(f, "a/gone.png")]
)
def test_a_file_that_is_gone_is_named(files: Files, ask: Callable[[Files], object]) -> None:
    with pytest.raises(DataError, match=r"a/gone\.png"):
        ask(files)


def test_a_folder_that_is_gone_is_named(files: Files) -> None:
    with pytest.raises(DataError, match="nowhere: cannot be listed"):
        files.entries("nowhere")


def test_what_tells_that_a_file_has_changed(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"1")
    files = LocalFiles(tmp_path)
    before = files.stamp("x")
    os.utime(tmp_path / "x", ns=(1, 1))
    assert files.stamp("x") not in ("", before)
    assert files.stamp("gone") == ""


def test_a_wildcard_means_the_names_that_match(tmp_path: Path) -> None:
    for name in ("train-1.tar", "train-2.tar", "test-1.tar"):
        (tmp_path / name).write_bytes(b"x")
        fsspec.filesystem("memory").pipe_file(f"/plada-wild/{name}", b"x")
    for place in (str(tmp_path / "train-*.tar"), "memory://plada-wild/train-*.tar"):
        files, one = open_files(place)
        assert one == ""
        assert sorted(e.name for e in files.entries("") if e.name) == ["train-1.tar", "train-2.tar"]
        assert files.location.endswith("train-*.tar")
    fsspec.filesystem("memory").rm("/plada-wild", recursive=True)


def test_one_file_is_a_root_and_a_name(tmp_path: Path) -> None:
    (tmp_path / "one.tar").write_bytes(b"abc")
    files, name = open_files(tmp_path / "one.tar")
    assert (files.read(name), name) == (b"abc", "one.tar")
    files, name = open_files((tmp_path / "one.tar").as_uri())
    assert (files.read(name), files.remote) == (b"abc", False)
    fsspec.filesystem("memory").pipe_file("/plada-one.tar", b"abc")
    files, name = open_files("memory://plada-one.tar")
    assert (files.read(name), name, files.remote) == (b"abc", "plada-one.tar", True)
    assert isinstance(files, RemoteFiles)
    fsspec.filesystem("memory").rm("/plada-one.tar")


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("no/such/folder", "expected a folder of images, of tar or of parquet files; there is none"),
        ("no/such/*.tar", "there is none"),
        ("nosuchkind://place/x", "cannot be read here"),
        ("memory://plada-nothing-here", "nothing can be reached there"),
    ],
)
def test_a_place_that_is_none(place: str, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        open_files(place)


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("a.v2.JPEG", ".JPEG"), ("a", ""), (".hidden", ""), ("..png", ""), ("a.", ""), ("x.tar/b", ""), ("é.png", ".png")],
)
def test_extensions(name: str, suffix: str) -> None:
    assert suffix_of(name) == suffix
