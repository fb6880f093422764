"""The fast walk over tars against tarfile's own, over whatever archives can be made; and headers that lie."""

import io
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plada.errors import DataError
from plada.sources.formats.tar_members import walk_tar
from plada.sources.storage import LocalFiles

NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0\\", exclude_categories=["Cs"]), min_size=1, max_size=30
)
PATHS = st.lists(NAMES.filter(lambda name: name not in (".", "..")), min_size=1, max_size=6).map("/".join)
MEMBERS = st.dictionaries(PATHS, st.binary(max_size=1500), min_size=1, max_size=8)


def write(path: Path, members: dict[str, bytes], dialect: int) -> None:
    with tarfile.open(path, "w", format=dialect) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def walked(path: Path) -> dict[str, bytes]:
    found = walk_tar(LocalFiles(path.parent), path.name, path.stat().st_size)
    data = path.read_bytes()
    spans = zip(found.offsets.tolist(), found.sizes.tolist(), strict=True)
    return dict(zip(found.names.to_pylist(), (data[at : at + size] for at, size in spans), strict=True))


@given(members=MEMBERS, dialect=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_the_walk_finds_what_tarfile_finds(members: dict[str, bytes], dialect: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.tar"
        write(path, members, dialect)
        with tarfile.open(path) as tar:
            expected = {each.name: tar.extractfile(each).read() for each in tar if each.isreg()}  # type: ignore[union-attr]
        assert walked(path) == {name.removeprefix("./"): data for name, data in expected.items()}


@given(members=MEMBERS, share=st.floats(0, 1, exclude_max=True))
def test_every_cut_is_refused(members: dict[str, bytes], share: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.tar"
        write(path, members, tarfile.GNU_FORMAT)
        with tarfile.open(path) as tar:
            end = max(each.offset_data + (each.size + 511) // 512 * 512 for each in tar)
        path.write_bytes(path.read_bytes()[: int(end * share)])
        with pytest.raises(DataError):
            walked(path)


@pytest.mark.parametrize(
    ("at", "lie"),
    [(124, b"99999999999\0"), (124, b"not a size!\0"), (148, b"1234567\0"), (0, b"\xff\xfe")],
    ids=["too large", "no number", "checksum", "name"],
)
def test_a_header_that_lies_is_refused(at: int, lie: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    write(path, {"a.png": b"1" * 600, "b.png": b"2" * 10}, tarfile.USTAR_FORMAT)
    data = bytearray(path.read_bytes())
    data[at : at + len(lie)] = lie
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"x\.tar"):
        walked(path)


def test_a_tar_of_nothing_has_no_members(tmp_path: Path) -> None:
    write(tmp_path / "x.tar", {}, tarfile.USTAR_FORMAT)
    assert walked(tmp_path / "x.tar") == {}


def test_sizes_that_octal_digits_cannot_hold_are_for_tarfile(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    info = tarfile.TarInfo("a.png")
    info.size = 3
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\x80" + (3).to_bytes(11, "big")  # base 256, as for more than 8 GiB
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path.write_bytes(bytes(header) + b"abc" + bytes(509) + bytes(1024))
    assert walked(path) == {"a.png": b"abc"}


@pytest.mark.parametrize("size", [b"\x80" + b"\x7f" * 11, b"\xff" * 11 + b"\x80"])
def test_a_size_that_no_file_has_is_refused(size: bytes, tmp_path: Path) -> None:
    write(tmp_path / "x.tar", {"a": b"1", "b": b"2"}, tarfile.GNU_FORMAT)
    data = bytearray((tmp_path / "x.tar").read_bytes())
    data[124:136] = size
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(DataError, match=r"not a whole tar file|it was cut"):
        walked(tmp_path / "x.tar")
