"""Listings: canonical order at any size, kept while the files stay as they are, and never half of one."""

import os
import random
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from plada.errors import DataError
from plada.sources.formats import folder as folders
from plada.sources.formats import listing
from plada.sources.formats import tars as tarred
from plada.sources.formats.folder import open_folder
from plada.sources.formats.listing import Listing, ListingWriter, load_listing
from plada.sources.formats.tar_members import Members, walk_tar
from plada.sources.formats.tars import open_tars
from plada.sources.storage import Files
from tests.sources.test_collections import as_tars


def listed(keys: list[str], *, spill: int, folder: Path | None = None, batch: int = 7) -> Listing:
    with ListingWriter("here", folder=folder, spill=spill) as writer:
        for start in range(0, len(keys), batch):
            part = keys[start : start + batch]
            rows = np.arange(start, start + len(part))
            writer.add_rows(pa.array(part), rows * 10, start // batch % 3, rows)
        return writer.finish(("a", "b", "c"), {"note": 1})


@pytest.mark.parametrize("order", ["sorted", "reversed", "shuffled"])
@pytest.mark.parametrize("spill", [10, 64, 1000])
def test_the_order_does_not_depend_on_memory(order: str, spill: int, tmp_path: Path) -> None:
    keys = sorted({f"n{number % 17}/é{number * 37 % 1009}" for number in range(900)})
    fed = {"sorted": keys, "reversed": keys[::-1], "shuffled": random.Random(0).sample(keys, len(keys))}[order]
    found = listed(fed, spill=spill, folder=tmp_path / "kept" / "listing")
    assert found.keys.to_pylist() == keys
    assert [fed[offset] for offset in found.offsets] == keys
    assert (found.sizes == found.offsets * 10).all()
    assert (found.part_of == found.offsets // 7 % 3).all()
    kept = load_listing(tmp_path / "kept" / "listing", lambda note: note["note"] == 1)
    if spill < len(keys):
        assert kept is not None
        assert kept.keys.to_pylist() == keys
        assert kept.parts == ("a", "b", "c")
        assert [path.name for path in (tmp_path / "kept").iterdir()] == ["listing"]
    else:
        assert kept is None


@pytest.mark.parametrize("spill", [10, 1000])
@pytest.mark.parametrize("place", [0, 31, 62])
def test_twins_are_found_at_any_size(spill: int, place: int, tmp_path: Path) -> None:
    keys = [f"{number:03d}" for number in range(63)]
    with pytest.raises(DataError, match=f"have the same key '{place:03d}'"):
        listed([*keys, f"{place:03d}"], spill=spill, folder=tmp_path / "listing")
    assert not list(tmp_path.iterdir())


def test_a_large_listing_without_a_folder_goes_with_its_arrays() -> None:
    import gc

    found = listed([f"{number:03d}" for number in range(100)], spill=10)
    path = Path(found.sizes.filename)  # type: ignore[attr-defined]
    assert path.exists()
    del found
    gc.collect()
    assert not path.parent.exists()


def aged(root: Path) -> None:
    """Everything an hour old, so that a listing of it is settled."""
    hour_ago = time.time() - 3600
    for path in (root, *root.rglob("*")):
        os.utime(path, (hour_ago, hour_ago))


def test_a_folder_is_listed_again_when_it_changed(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "SPILL", 5)
    cache = tmp_path / "cache"
    assert len(open_folder(pictures, cache=cache)) == 24
    assert load_listing(next(cache.iterdir()), lambda note: bool(note["folders"])) is None, "too young to be trusted"
    (pictures / "n1" / "x.avif").write_bytes(b"x")
    aged(pictures)
    open_folder(pictures, cache=cache)
    monkeypatch.setattr(folders, "is_image_name", lambda name: pytest.fail("it was listed again"))
    again = open_folder(pictures, cache=cache)
    assert again.listing.remark == "passed over 1 .avif, such as n1/x.avif. .avif is not read: save as PNG or JPEG"
    assert again.read(3) == (pictures / f"{again.keys[3]}{again.listing.parts[again.listing.part_of[3]]}").read_bytes()
    monkeypatch.undo()
    monkeypatch.setattr(listing, "SPILL", 5)
    (pictures / "n1" / "image_01.jpg").rename(pictures / "n1" / "image_99.jpg")
    assert "n1/image_99" in open_folder(pictures, cache=cache).keys.to_pylist()


def test_tars_are_walked_again_when_one_changed(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "SPILL", 5)
    tars, cache = as_tars(pictures, tmp_path / "tars"), tmp_path / "cache"
    aged(tars)
    walked: list[str] = []

    def counted(files: Files, path: str, length: int) -> Members:
        walked.append(path)
        return walk_tar(files, path, length)

    monkeypatch.setattr(tarred, "walk_tar", counted)
    one = open_tars(tars, cache=cache)
    assert len(walked) == 3
    two = open_tars(tars, cache=cache)
    assert len(walked) == 3, "the form is kept with the listing"
    assert (two.form, two.read(20)) == (one.form, one.read(20))
    (tars / "n3.tar").write_bytes((tars / "n0.tar").read_bytes())
    assert len(open_tars(tars, cache=cache)) == 32
    (next(cache.iterdir()) / "size.npy").write_bytes(b"damaged")
    aged(tars)
    assert len(open_tars(tars, cache=cache)) == 32


def test_a_full_disk_while_listing_leaves_nothing(tmp_path: Path) -> None:
    """The limit on a file's size is the kernel's own refusal to write on, in the middle of a write."""
    code = f"""
import resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from plada.errors import ResourceError
from tests.sources.formats.test_listing import listed
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    listed([f"{{n:05d}}" for n in range(5000)], spill=1000, folder=Path({str(tmp_path)!r}) / "listing", batch=500)
except ResourceError as err:
    print(err)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "no room to list the collection" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["../x.jpg", "a/../../x.jpg", "/etc/x.jpg"])
def test_a_member_that_leads_out_of_its_tar_is_refused(name: str, tmp_path: Path) -> None:
    import io

    with tarfile.open(tmp_path / "n1.tar", "w") as tar:
        member = tarfile.TarInfo(name)
        member.size = 3
        tar.addfile(member, io.BytesIO(b"abc"))
    with pytest.raises(DataError, match=r"n1\.tar: member 0, '.*x\.jpg', leads out of the collection"):
        open_tars(tmp_path)


def test_a_link_in_a_tar_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "n1.tar", "w") as tar:
        member = tarfile.TarInfo("a.jpg")
        member.type, member.linkname = tarfile.SYMTYPE, "b.jpg"
        tar.addfile(member)
    with pytest.raises(DataError, match=r"member 'a\.jpg' is a link"):
        open_tars(tmp_path)


def test_a_member_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "n1.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo(os.fsdecode(b"\xff.jpg")))
    with pytest.raises(DataError, match=r"n1\.tar: the member name b'\\xff\.jpg' is not UTF-8"):
        open_tars(tmp_path)


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_folders_are_read_in_every_dialect(kind: int, tmp_path: Path) -> None:
    import io

    long = f"{'d' * 90}/{'e' * 60}/{'f' * 40}.jpg"
    with tarfile.open(tmp_path / "n1.tar", "w", format=kind) as tar:
        for name in ("plain.jpg", long, "after.png"):
            member = tarfile.TarInfo(name)
            member.size, member.mtime = 5, 1.5
            tar.addfile(member, io.BytesIO(name[-5:].encode()))
        folder = tarfile.TarInfo("sub.jpg")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    found = open_tars(tmp_path)
    assert found.keys.to_pylist() == ["n1/after", f"n1/{long[:-4]}", "n1/plain"]
    assert found.read(1) == long[-5:].encode()


def test_a_folder_that_may_not_be_read_is_named() -> None:
    with tempfile.TemporaryDirectory() as root:  # pytest's own folders are closed to other users
        Path(root).chmod(0o755)
        for name in ("a", "b"):
            (Path(root) / name).mkdir()
            (Path(root) / name / "x.jpg").write_bytes(b"x")
        (Path(root) / "b").chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)  # root may read everything
        try:
            with pytest.raises(DataError, match=r"/b: cannot be listed \(Permission denied\)\. Mend the permissions"):
                open_folder(Path(root))
        finally:
            os.seteuid(user)
        (Path(root) / "b").chmod(0o755)
        (Path(root) / "b" / "x.jpg").chmod(0)
        found = open_folder(Path(root))
        if user == 0:
            os.seteuid(65534)
        try:
            with pytest.raises(DataError, match=r"/b/x\.jpg: listed but cannot be read \(Permission denied\)"):
                found.read(1)
        finally:
            os.seteuid(user)
