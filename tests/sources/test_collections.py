"""Folders and tars: canonical order, one key for one picture, and nothing dropped without a word."""

import io
import os
import random
import tarfile
from pathlib import Path

import pytest

from plada.errors import DataError, RequestError, UnknownName
from plada.sources.collection import is_image_name, key_of
from plada.sources.formats.folder import open_folder
from plada.sources.formats.listing import ListingWriter
from plada.sources.formats.tars import open_tars
from plada.sources.manifest import key_id
from plada.sources.registry import open_source
from plada.sources.scan import scan_manifest


def as_tars(folder: Path, out: Path) -> Path:
    """The same pictures as one tar for each top folder, members in random order."""
    out.mkdir()
    for synset in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = sorted(synset.iterdir())
        random.Random(0).shuffle(files)
        with tarfile.open(out / f"{synset.name}.tar", "w") as tar:
            for path in files:
                tar.add(path, path.name)
    return out


def test_keys() -> None:
    assert key_of("n1/a.JPEG") == "n1/a"
    assert key_of("a.v2.jpg") == "a.v2"
    assert key_of("no_extension") == "no_extension"
    assert is_image_name("x.JPG")
    assert not is_image_name(".x.jpg")
    assert not is_image_name("x.txt")


def test_the_order_is_that_of_utf8_bytes() -> None:
    keys = ["n10/a", "n2/a", "é/a", "Z/a", "n1/b", "\U0001f600/a", "￿/a"]
    writer = ListingWriter("here")
    for number, key in enumerate(keys):
        writer.add(key, 1, 0, number)
    listing = writer.finish(("part",))
    assert listing.keys.to_pylist() == sorted(keys, key=lambda key: key.encode())
    assert [keys[i] for i in listing.offsets] == listing.keys.to_pylist()


def test_a_folder_lists_images_alone(pictures: Path) -> None:
    (pictures / "n0" / "notes.txt").write_text("no image")
    (pictures / "n0" / ".hidden.jpg").write_bytes(b"")
    (pictures / ".cache").mkdir()
    (pictures / ".cache" / "x.jpg").write_bytes(b"")
    found = open_folder(pictures)
    assert len(found) == 24
    assert found.keys.to_pylist() == sorted(found.keys.to_pylist())
    assert found.read(0) == (pictures / "n0" / "image_00.png").read_bytes()
    assert found.sizes[0] == len(found.read(0))


def test_folder_and_tars_are_one_reference(pictures: Path, tmp_path: Path) -> None:
    folder, tars = open_folder(pictures), open_tars(as_tars(pictures, tmp_path / "tars"))
    assert folder.keys.to_pylist() == tars.keys.to_pylist()
    one, other = scan_manifest(folder, tmp_path / "1"), scan_manifest(tars, tmp_path / "2")
    assert (one.key_id, one.content_id) == (other.key_id, other.content_id)
    assert all(folder.read(p) == tars.read(p) for p in range(24))


@pytest.mark.parametrize("other", ["._n01440764", "README", "__MACOSX/n01440764/._a.png", "__MACOSX/n01440764/a.png"])
def test_what_is_no_image_has_no_say_in_the_keys_of_a_tar(other: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "n01440764.tar", "w") as tar:
        for name in ("n01440764/a.png", "n01440764/b.png", other):
            tar.addfile(tarfile.TarInfo(name))
    assert open_tars(tmp_path).keys.to_pylist() == ["n01440764/a", "n01440764/b"]


def test_the_key_id_sees_where_a_key_ends(pictures: Path) -> None:
    import pyarrow as pa

    assert key_id(pa.array(["ab", "c"])) != key_id(pa.array(["a", "bc"]))
    whole = pa.array(["x", "ab", "c", "y"])
    assert key_id(whole.slice(1, 2)) == key_id(pa.array(["ab", "c"]))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image found"):
        open_folder(tmp_path)


def test_two_files_with_one_key_are_named(pictures: Path) -> None:
    (pictures / "n0" / "image_00.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match=r"n0/image_00\.(png|jpg) and n0/image_00\.(png|jpg) have the same key"):
        open_folder(pictures)


def test_a_name_that_is_not_utf8_is_refused(pictures: Path) -> None:
    Path(os.fsdecode(os.fsencode(pictures) + b"/n0/\xff.jpg")).write_bytes(b"x")
    with pytest.raises(DataError, match="not UTF-8"):
        open_folder(pictures)


def test_a_link_to_a_folder_above_is_refused(pictures: Path) -> None:
    (pictures / "n0" / "loop").symlink_to(pictures)
    with pytest.raises(DataError, match="leads back"):
        open_folder(pictures)


def test_a_file_that_vanished_is_named(pictures: Path) -> None:
    found = open_folder(pictures)
    (pictures / "n0" / "image_00.png").unlink()
    with pytest.raises(DataError, match=r"image_00\.png: listed but cannot be read"):
        found.read(0)


@pytest.mark.parametrize(
    ("cut", "reason"),
    [
        (700, "not a whole tar"),  # inside the first image
        (1536, "end-of-archive"),  # between two members
        (1800, "end-of-archive|not a whole tar"),  # inside the second header
        (3072, "end-of-archive"),  # behind the last member
        (3584, "end-of-archive"),  # in the middle of the mark
    ],
)
def test_a_cut_tar_is_refused(tmp_path: Path, cut: int, reason: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("a.jpg", "b.jpg"):
            member = tarfile.TarInfo(name)
            member.size = 900
            tar.addfile(member, io.BytesIO(b"x" * 900))
    (tmp_path / "n1.tar").write_bytes(buffer.getvalue()[:cut])
    with pytest.raises(DataError, match=reason):
        open_tars(tmp_path)


def test_concatenated_tars_are_refused(pictures: Path, tmp_path: Path) -> None:
    tars = as_tars(pictures, tmp_path / "tars")
    joined = (tars / "n0.tar").read_bytes() + (tars / "n1.tar").read_bytes()
    (tars / "n0.tar").write_bytes(joined)
    with pytest.raises(DataError, match="several tars in one"):
        open_tars(tars)


def test_a_file_that_is_no_tar_is_refused(tmp_path: Path) -> None:
    (tmp_path / "n1.tar").write_bytes(b"not a tar" * 200)
    with pytest.raises(DataError, match="not a whole tar"):
        open_tars(tmp_path)


def test_tars_beside_images_are_refused(pictures: Path, tmp_path: Path, home: Path) -> None:
    tars = as_tars(pictures, tmp_path / "tars")
    (tars / "readme.txt").write_text("fine")
    (tars / ".cache").mkdir()
    assert len(open_source(tars, home)) == 24
    (tars / "n0").mkdir()
    (tars / "n0" / "a.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match=r"holds tar files and also n0/a\.jpg"):
        open_source(tars, home)


def test_a_tar_that_shrank_is_named(pictures: Path, tmp_path: Path) -> None:
    tars = as_tars(pictures, tmp_path / "tars")
    found = open_tars(tars)
    (tars / "n2.tar").write_bytes(b"")
    with pytest.raises(DataError, match="shorter than when listed"):
        found.read(len(found) - 1)
    (tars / "n2.tar").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        found.read(len(found) - 1)


def test_a_spec_is_a_name_a_path_or_a_url(pictures: Path, tmp_path: Path, home: Path) -> None:
    assert len(open_source(pictures, home)) == 24
    assert len(open_source(f"file://{pictures}", home)) == 24
    assert len(open_source(as_tars(pictures, tmp_path / "tars"), home)) == 24
    assert len(open_source("glyphs:count=7,seed=2", home)) == 7
    assert len(open_source("digits", home)) == 1797


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("glyfs", UnknownName, "did you mean 'glyphs'"),
        ("imagenet21k", RequestError, "not on this machine; looked in .*imagenet21k"),
        ("/no/such/folder", RequestError, "there is none"),
        ("nosuch://bucket/images", RequestError, "cannot be read here"),
        ("glyphs:count=many", RequestError, "whole numbers"),
        ("glyphs:size=3", RequestError, "glyphs takes count"),
        ("glyphs:count", RequestError, "OPTION=VALUE"),
    ],
)
def test_a_bad_spec_says_what_to_do(spec: str, error: type[Exception], message: str, home: Path) -> None:
    with pytest.raises(error, match=message):
        open_source(spec, home)


def test_a_file_is_no_collection(pictures: Path, home: Path) -> None:
    with pytest.raises(RequestError, match="this is a file"):
        open_source(pictures / "n0" / "image_00.png", home)


def test_a_registered_name_is_looked_for_in_the_home(pictures: Path, home: Path) -> None:
    (home / "datasets").mkdir(parents=True)
    (home / "datasets" / "imagenet1k").symlink_to(pictures)
    assert len(open_source("imagenet1k", home)) == 24
