"""One set of pictures in every form that people have them in: one order, one key id, one content id."""

import io
import pickle
import random
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import plada
from plada.errors import DataError, RequestError
from plada.sources.collection import Collection
from plada.sources.formats.detect import open_collection
from plada.sources.formats.parquet import ParquetCollection
from plada.sources.scan import scan_manifest
from tests.sources.test_collections import as_tars


def named(folder: Path) -> list[tuple[str, bytes]]:
    """(path below the folder, bytes) of every picture, shuffled: no form may depend on the order it was written in."""
    files = [(str(path.relative_to(folder)), path.read_bytes()) for path in sorted(folder.rglob("*.*"))]
    random.Random(1).shuffle(files)
    return files


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def as_shards(folder: Path, out: Path, *, kind: int = tarfile.USTAR_FORMAT) -> Path:
    """WebDataset shards of seven samples, each an image and a .cls, images not adjacent in key order."""
    out.mkdir()
    files = named(folder)
    for number in range(0, len(files), 7):
        with tarfile.open(out / f"shard-{number // 7:06d}.tar", "w", format=kind) as tar:
            for name, data in files[number : number + 7]:
                key, _, suffix = name.rpartition(".")
                add(tar, f"{key}.{suffix.upper()}", data)
                add(tar, f"{key}.cls", b"3")
    return out


def as_parquet(folder: Path, out: Path, *, group: int = 5) -> Path:
    """Hugging Face's layout below data/, in two files of small row groups."""
    (out / "data").mkdir(parents=True)
    files = named(folder)
    for number, part in enumerate((files[:9], files[9:])):
        images = [{"bytes": data, "path": name} for name, data in part]
        table = pa.table({"image": images, "label": pa.array([0] * len(part), pa.int64())})
        pq.write_table(table, out / "data" / f"train-0000{number}-of-00002.parquet", row_group_size=group)
    return out


def as_bytes_parquet(folder: Path, out: Path) -> Path:
    """Bytes beside a key column, one file."""
    keys, images = zip(*((name.rpartition(".")[0], data) for name, data in named(folder)), strict=True)
    pq.write_table(pa.table({"key": keys, "jpg": pa.array(images, pa.binary())}), out)
    return out


def as_lance(folder: Path, out: Path) -> Path:
    import lance

    keys, images = zip(*((name.rpartition(".")[0], data) for name, data in named(folder)), strict=True)
    lance.write_dataset(pa.table({"key": keys, "image": pa.array(images, pa.binary())}), out, max_rows_per_file=10)
    return out


FORMS = {
    "tars": lambda folder, out: as_tars(folder, out / "tars"),
    "webdataset": lambda folder, out: as_shards(folder, out / "shards"),
    "webdataset with pax headers": lambda folder, out: as_shards(folder, out / "pax", kind=tarfile.PAX_FORMAT),
    "parquet": lambda folder, out: as_parquet(folder, out / "hf"),
    "parquet of bytes": lambda folder, out: as_bytes_parquet(folder, out / "images.parquet"),
    "lance": lambda folder, out: as_lance(folder, out / "images.lance"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_reference(form: str, pictures: Path, tmp_path: Path) -> None:
    folder = open_collection(pictures)
    other = open_collection(FORMS[form](pictures, tmp_path))
    assert other.keys.to_pylist() == folder.keys.to_pylist()
    assert all(other.read(p) == folder.read(p) for p in range(24))
    assert sorted(other.stream(3, 20)) == [(p, folder.read(p)) for p in range(3, 20)]
    one, two = scan_manifest(folder, tmp_path / "1"), scan_manifest(other, tmp_path / "2")
    assert (one.key_id, one.content_id) == (two.key_id, two.content_id)
    # It travels to a worker process, and its location opens it again.
    again: Collection = pickle.loads(pickle.dumps(other))
    assert again.read(5) == folder.read(5)
    assert open_collection(other.location).keys.to_pylist() == folder.keys.to_pylist()


def test_all_forms_of_real_photographs_are_one_reference(shared: Path, tmp_path: Path) -> None:
    import subprocess
    import sys

    forms = ("folder", "tars", "wds", "parquet")
    options = [word for form in forms for word in ("--as", form)]
    command = [sys.executable, str(shared / "unpack.py"), str(tmp_path), *options, "--limit-per-class", "6"]
    subprocess.run(command, check=True)
    manifests = [scan_manifest(open_collection(tmp_path / f"reference-{f}"), tmp_path / f) for f in forms]
    assert {len(manifest) for manifest in manifests} == {1200}
    assert len({(manifest.key_id, manifest.content_id) for manifest in manifests}) == 1
    assert manifests[0].row(0).width == 64


def test_a_url_and_a_path_are_one_reference(pictures: Path, tmp_path: Path) -> None:
    """The same code reads a disk and a remote store; memory:// is fsspec's own."""
    import fsspec

    store = fsspec.filesystem("memory")
    for form, root in (
        ("folder", pictures),
        *((form, FORMS[form](pictures, tmp_path)) for form in ("tars", "parquet")),
    ):
        for path in [path for path in root.rglob("*") if path.is_file()]:
            store.pipe_file(f"/plada-test/{form}/{path.relative_to(root)}", path.read_bytes())
    folder = open_collection(pictures)
    try:
        for form in ("folder", "tars", "parquet"):
            found = open_collection(f"memory://plada-test/{form}")
            assert found.location == f"memory://plada-test/{form}"
            assert found.keys.to_pylist() == folder.keys.to_pylist()
            assert found.read(7) == folder.read(7)
            assert dict(found.stream(0, 24)) == {p: folder.read(p) for p in range(24)}
        one = plada.open_images("memory://plada-test/tars").manifest
        assert one.key_id == plada.open_images(pictures).manifest.key_id
        tars = open_collection("memory://plada-test/tars")
        store.rm("/plada-test/tars/n1.tar")
        with pytest.raises(DataError, match=r"memory://plada-test/tars/n1\.tar: listed but cannot be read"):
            dict(tars.stream(0, 24))
    finally:
        store.rm("/plada-test", recursive=True)
    with pytest.raises(RequestError, match="nothing can be reached there"):
        open_collection("memory://plada-test/none")


def test_a_wildcard_means_the_files_that_match(pictures: Path, tmp_path: Path) -> None:
    root = as_parquet(pictures, tmp_path / "hf") / "data"
    (root / "test-00000.parquet").write_bytes((root / "train-00000-of-00002.parquet").read_bytes())
    with pytest.raises(DataError, match="have the same key"):
        open_collection(root)
    found = open_collection(root / "train-*.parquet")
    assert len(found) == 24
    assert len(open_collection(found.location)) == 24


def test_a_key_ends_at_the_first_dot_in_a_shard(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "part-00.tar", "w") as tar:
        for name in ("a.v1/x.jpg", "a.v1/y.left.JPG", "z.webp", "z.json", "._z.jpg", ".hidden/q.png", "notes.txt"):
            add(tar, name, name.encode())
    found = open_collection(tmp_path)
    assert found.keys.to_pylist() == ["a.v1/x", "a.v1/y", "z"]
    assert found.read(1) == b"a.v1/y.left.JPG"


def test_two_images_of_one_sample_are_refused(tmp_path: Path) -> None:
    for number, name in enumerate(("a.jpg", "a.png")):
        with tarfile.open(tmp_path / f"part-{number}.tar", "w") as tar:
            add(tar, name, b"x")
    with pytest.raises(
        DataError, match=r"part-0\.tar \(a, byte 512\) and part-1\.tar \(a, byte 512\) have the same key"
    ):
        open_collection(tmp_path)


@pytest.mark.parametrize(
    ("tars", "members", "form", "key"),
    [
        ("n01443537", ["n01443537_1.JPEG"], "tars", "n01443537/n01443537_1"),
        ("n01443537", ["n01443537/n01443537_1.JPEG"], "tars", "n01443537/n01443537_1"),
        ("n01443537", ["n01443537_1.JPEG", "n01443537_1.json"], "tars", "n01443537/n01443537_1"),
        ("cats", ["1.jpg"], "tars", "cats/1"),
        ("cats", ["1.jpg", "1.cls"], "webdataset", "1"),
        ("imagenet_w21-train-0001", ["n01_1.jpg"], "webdataset", "n01_1"),
        ("00012", ["a/1.jpg"], "webdataset", "a/1"),
    ],
)
def test_tars_of_synsets_and_shards_are_told_apart(
    tars: str, members: list[str], form: str, key: str, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / f"{tars}.tar", "w") as tar:
        for member in members:
            add(tar, member, b"x")
    found = open_collection(tmp_path)
    assert found.keys.to_pylist() == [key]
    said = open_collection(f"webdataset:{tmp_path}" if form == "tars" else f"tars:{tmp_path}")
    assert said.location.partition(":")[0] in ("tars", "webdataset")
    assert open_collection(said.location).keys.to_pylist() == said.keys.to_pylist()


def test_one_tar_or_one_parquet_file_is_a_collection(pictures: Path, tmp_path: Path) -> None:
    tars = as_tars(pictures, tmp_path / "tars")
    one = open_collection(tars / "n1.tar")
    assert len(one) == 8
    assert one.location == str(tars / "n1.tar")
    assert all(key.startswith("n1/") for key in one.keys.to_pylist())
    with pytest.raises(RequestError, match="a file of another kind"):
        open_collection(pictures / "n0" / "image_00.png")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": [1]}, "no column of images among label"),
        ({"image": [b"x"]}, "no column that names them"),
        ({"image": [{"bytes": b"x", "path": None}]}, "row 0 has an image but no name"),
        ({"image": [b"x", b"y"], "key": ["a", "a"]}, "have the same key 'a'"),
        ({"image": [b"x"], "key": [""]}, "row 0 has an image but no name"),
    ],
)
def test_a_parquet_file_without_identity_is_refused(
    columns: dict[str, list[object]], message: str, tmp_path: Path
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    with pytest.raises(DataError, match=message):
        open_collection(tmp_path)


def test_parquet_images_without_bytes_are_named(tmp_path: Path) -> None:
    images = pa.array([{"bytes": None, "path": "a/b.jpg"}], pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    pq.write_table(pa.table({"image": images}), tmp_path / "p.parquet")
    with pytest.raises(DataError, match=r"image 0 \(a/b\) has no bytes"):
        open_collection(tmp_path).read(0)


def test_parquet_files_that_are_damaged_or_differ_are_named(pictures: Path, tmp_path: Path) -> None:
    root = as_parquet(pictures, tmp_path / "hf") / "data"
    whole = (root / "train-00001-of-00002.parquet").read_bytes()
    (root / "train-00001-of-00002.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"train-00001-of-00002\.parquet: not a whole parquet file"):
        open_collection(root)
    as_bytes_parquet(pictures, root / "train-00001-of-00002.parquet")
    with pytest.raises(DataError, match="Give files of one kind"):
        open_collection(root)


def test_a_parquet_file_that_changed_is_named(pictures: Path, tmp_path: Path) -> None:
    path = as_bytes_parquet(pictures, tmp_path / "images.parquet")
    found = open_collection(path)
    table = pq.read_table(path)
    pq.write_table(table.slice(2), path)
    with pytest.raises(DataError, match="has other rows than when it was listed"):
        found.read(0)
    path.write_bytes(b"gone")
    with pytest.raises(DataError, match="cannot be read"):
        found.read(3)


def test_a_lance_data_set_stays_at_its_version(pictures: Path, tmp_path: Path) -> None:
    import lance

    path = as_lance(pictures, tmp_path / "images.lance")
    found = open_collection(path)
    lance.write_dataset(pa.table({"key": ["zz"], "image": pa.array([b"new"], pa.binary())}), path, mode="append")
    assert found.read(23) == open_collection(pictures).read(23)
    assert len(open_collection(path)) == 25
    (tmp_path / "empty.lance").mkdir()
    with pytest.raises(RequestError, match="no Lance data set"):
        open_collection(tmp_path / "empty.lance")


def test_parquet_reads_each_row_group_once_when_it_streams(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = open_collection(as_parquet(pictures, tmp_path / "hf"))
    loads: list[tuple[str, int]] = []
    load = ParquetCollection._load

    def counted(self: ParquetCollection, path: str, part: int, group: int) -> object:
        loads.append((path, group))
        return load(self, path, part, group)

    monkeypatch.setattr(ParquetCollection, "_load", counted)
    monkeypatch.setattr("plada.sources.formats.parquet._HELD", 0)
    assert sum(1 for _ in found.stream(0, 24)) == 24
    assert len(loads) == len(set(loads)) == 5


def test_streams_cross_windows_and_gaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images larger than a window, windows that end in the middle of a tar, other files between images."""
    monkeypatch.setattr("plada.sources.formats.tars._WINDOW", 3000)
    monkeypatch.setattr("plada.sources.formats.tars._GAP", 2000)
    rng = np.random.default_rng(0)
    wanted = {}
    for part in range(2):
        with tarfile.open(tmp_path / f"n0000000{part}.tar", "w") as tar:
            for number in range(20):
                data = rng.bytes(int(rng.integers(1, 5000)))
                add(tar, f"{number:02d}.jpg", data)
                wanted[f"n0000000{part}/{number:02d}"] = data
                if number % 5 == 0:
                    add(tar, f"{number:02d}.txt", rng.bytes(4000))
    found = open_collection(tmp_path)
    assert {found.keys[p].as_py(): data for p, data in found.stream(0, 40)} == wanted
    assert dict(found.stream(17, 23)) == {p: wanted[found.keys[p].as_py()] for p in range(17, 23)}
    assert list(found.stream(4, 4)) == []
