"""Files below one root: a folder and a URL answer the same questions in the same way, and say what is wrong alike."""

import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import numpy as np
import pytest

from plada.errors import DataError, RequestError
from plada.sources.formats.detect import open_collection
from plada.sources.storage import Files, LocalFiles, RemoteFiles, join_url, open_files, split_url, suffix_of, walk

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


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize(
    ("inside", "keys"), [("", ["a/2", "a/b/1"]), ("a", ["2", "b/1"]), ("a/*.png", ["2"]), ("a/b/", ["1"])]
)
def test_an_archive_is_read_through_a_chain_of_urls(kind: str, inside: str, keys: list[str], tmp_path: Path) -> None:
    archive = tmp_path / f"x.{kind}"
    for name in ("a/b/1.png", "a/2.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    with zipfile.ZipFile(archive, "w") if kind == "zip" else tarfile.open(archive, "w") as out:
        add = out.write if isinstance(out, zipfile.ZipFile) else out.add
        for name in ("a/b/1.png", "a/2.png"):
            add(tmp_path / name, name)
    found = open_collection(f"{kind}://{inside}::{archive}")
    assert found.keys.to_pylist() == keys
    assert found.read(0) in (b"a/b/1.png", b"a/2.png")
    assert open_collection(found.location).keys.to_pylist() == keys


@pytest.mark.parametrize(
    ("url", "name", "joined"),
    [
        ("zip://::/x.zip", "a/b.png", "zip://a/b.png::/x.zip"),
        ("simplecache::s3://bucket/a/", "b", "simplecache::s3://bucket/a/b"),
        ("zip://in::https://host/x.zip", "b", "zip://in/b::https://host/x.zip"),
        ("memory://a", "b", "memory://a/b"),
    ],
)
def test_a_path_is_joined_to_the_link_that_has_paths(url: str, name: str, joined: str) -> None:
    assert join_url(url, name) == joined
    assert split_url(joined)[1] == name.rpartition("/")[2]


def test_a_remote_listing_that_leads_back_to_itself_ends() -> None:
    class Loop:
        protocol = "loop"

        def ls(self, path: str, detail: bool) -> list[dict[str, object]]:
            return [{"name": f"{path}/again", "type": "directory"}, {"name": path, "type": "directory"}]

    with pytest.raises(DataError, match="more than 64 folders deep, so this listing leads back to itself"):
        list(walk(RemoteFiles("loop://root", Loop(), "/root")))


@pytest.mark.parametrize("name", ["a.jpg", "n0", "a.tar"])
def test_a_link_to_nothing_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_bytes(b"x")
    (tmp_path / ".hidden.jpg").symlink_to("nowhere")
    assert len(open_collection(tmp_path)) == 1
    (tmp_path / name).symlink_to("nowhere")
    with pytest.raises(
        DataError, match=rf"/{name}: cannot be read, it is a link to nothing\. Restore what it leads to, or remove it"
    ):
        open_collection(tmp_path)


@pytest.mark.parametrize("name", ["p.jpg", "p.tar", "p.parquet"])
def test_a_pipe_is_named_and_never_waited_for(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    os.mkfifo(tmp_path / "control")
    for place in (tmp_path, tmp_path / name) if name != "p.jpg" else (tmp_path,):
        with pytest.raises(
            DataError, match=rf"/{name}: cannot be read, it is a pipe\. Put a file in its place, or remove it"
        ):
            open_collection(place)
    files = LocalFiles(tmp_path)
    with pytest.raises(DataError, match="control: listed but cannot be read"):
        files.read("control", 0, 10)
    with files.open("control") as stream:
        assert stream.read() == b""


def test_a_file_that_is_gone_before_it_is_seen_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    scandir = os.scandir

    @contextmanager
    def late(path: Path) -> Iterator[list[os.DirEntry[str]]]:
        with scandir(path) as found:
            listed = list(found)
        (tmp_path / "a.jpg").unlink(missing_ok=True)
        yield listed

    monkeypatch.setattr("plada.sources.storage.os.scandir", late)
    with pytest.raises(
        DataError, match=r"a\.jpg: cannot be read, it is gone since the folder was listed\. Wait until nothing changes"
    ):
        list(walk(LocalFiles(tmp_path)))
