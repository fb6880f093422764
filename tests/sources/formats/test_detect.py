"""One set of pictures in every form that people have them in: one order, one key id, one content id."""

import io
import pickle
import random
import re
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import plada
from plada.common.progress import Progress
from plada.errors import DataError, RequestError, Unreadable
from plada.sources.collection import Collection
from plada.sources.decode import decode
from plada.sources.formats.detect import open_collection
from plada.sources.formats.parquet import ParquetCollection
from plada.sources.registry import open_source
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


def test_a_null_image_keeps_its_position(tmp_path: Path) -> None:
    """A download that failed, as img2dataset writes it, and Hugging Face's struct with a path alone."""
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": b"1", "path": "a.jpg"}, {"bytes": None, "path": "b.jpg"}, None], struct)
    pq.write_table(pa.table({"image": images, "key": ["a", "b", "c"]}), tmp_path / "hf.parquet")
    pq.write_table(pa.table({"key": ["a", "b", "c"], "jpg": [b"1", None, None]}), tmp_path / "img2dataset.parquet")
    for name in ("hf", "img2dataset"):
        found = open_collection(tmp_path / f"{name}.parquet")
        assert dict(found.stream(0, 3)) == {0: b"1", 1: b"", 2: b""}
        with pytest.raises(Unreadable, match="empty: 0 bytes"):
            decode(found.read(1))


def test_parquet_with_paths_alone_is_refused(tmp_path: Path) -> None:
    images = pa.array([{"bytes": None, "path": "a/b.jpg"}], pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    pq.write_table(pa.table({"image": images}), tmp_path / "p.parquet")
    with pytest.raises(DataError, match=r"no image has bytes, at most a path\. Embed the images in the files"):
        open_collection(tmp_path)


def as_img2dataset(folder: Path, form: str) -> Path:
    """Two shards of two downloads, of which one failed, as img2dataset writes them."""
    folder.mkdir()
    for shard in range(2):
        names, data = [f"{shard:05d}{row:04d}" for row in range(2)], [f"{shard}".encode(), None]
        columns: dict[str, object] = {"url": ["u", "v"], "key": names, "status": ["success", "failed_to_download"]}
        if form == "parquet":
            columns["jpg"] = pa.array(data, pa.binary())
        pq.write_table(pa.table(columns), folder / f"{shard:05d}.parquet")
        (folder / f"{shard:05d}_stats.json").write_text("{}")
        if form == "webdataset":
            with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
                for ending in ("jpg", "json", "txt"):
                    add(tar, f"{names[0]}.{ending}", data[0] or b"")
        elif form == "files":
            (folder / f"{shard:05d}").mkdir()
            for ending in ("jpg", "json", "txt"):
                (folder / f"{shard:05d}" / f"{names[0]}.{ending}").write_bytes(data[0] or b"")
    return folder


@pytest.mark.parametrize(
    ("form", "keys", "said"),
    [
        ("webdataset", ["000000000", "000010000"], "read as WebDataset shards: .*tars:"),
        ("files", ["00000/000000000", "00001/000010000"], "passed over 4 .json, 2 .parquet, 2 .txt, .*parquet:PLACE"),
        (
            "parquet",
            ["000000000", "000000001", "000010000", "000010001"],
            "read as parquet: images in column jpg, keys in key",
        ),
    ],
)
def test_what_img2dataset_writes_is_read_as_it_is(form: str, keys: list[str], said: str, tmp_path: Path) -> None:
    remarks = Remarks()
    found = open_collection(as_img2dataset(tmp_path / "out", form), report=remarks)
    assert found.keys.to_pylist() == keys
    assert [found.read(at) for at in range(0, len(keys), len(keys) // 2)] == [b"0", b"1"]
    assert re.search(said, remarks.text)


def test_parquet_without_images_says_what_is_missing(tmp_path: Path) -> None:
    pq.write_table(pa.table({"url": ["u"]}), tmp_path / "00000.parquet")
    with pytest.raises(DataError, match="no column of images among url"):
        open_collection(tmp_path)


def as_tar_of_tars(path: Path, folder: str = "", extra: tuple[str, ...] = ()) -> Path:
    with tarfile.open(path, "w") as outer:
        for synset in ("n00000002", "n00000001"):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as tar:
                for number in range(2):
                    add(tar, f"{synset}_{number}.JPEG", f"{synset} {number}".encode())
            add(outer, f"{folder}{synset}.tar", inner.getvalue())
        for name in extra:
            add(outer, name, b"x")
    return path


@pytest.mark.parametrize(("name", "folder"), [("fall11_whole", ""), ("winter21_whole", "winter21_whole/")])
def test_a_tar_of_tars_is_read_in_place(name: str, folder: str, tmp_path: Path) -> None:
    """As ImageNet-21K is published: the same keys as a folder of the inner tars."""
    place = as_tar_of_tars(tmp_path / f"{name}.tar", folder, ("README.md", "._n1.tar"))
    remarks = Remarks()
    found = open_collection(place, report=remarks)
    keys = [f"{synset}/{synset}_{number}" for synset in ("n00000001", "n00000002") for number in range(2)]
    assert found.keys.to_pylist() == keys == open_collection(tmp_path).keys.to_pylist()
    assert dict(found.stream(0, 4)) == {at: f"{key.partition('/')[0]} {at % 2}".encode() for at, key in enumerate(keys)}
    assert "passed over 1 .md, such as" in remarks.text
    assert open_collection(found.location).read(3) == b"n00000002 1"


def test_a_damaged_tar_in_a_tar_is_named(tmp_path: Path) -> None:
    place = as_tar_of_tars(tmp_path / "whole.tar")
    place.write_bytes(place.read_bytes().replace(b"n00000001_1.JPEG", b"n00000001_9.JPEG"))
    with pytest.raises(DataError, match=r"whole\.tar: n00000001\.tar: ends without the end-of-archive mark"):
        open_collection(place)


class Remarks:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.text = ""

    def __call__(self, progress: Progress) -> None:
        self.text += progress.note and f"{progress.note}\n"


def test_nothing_is_passed_over_without_a_word(tmp_path: Path) -> None:
    for name in ("a.png", "b.jfif", "c.JFIF", "d.avif", "e.zip", "f.tar.gz", ".hidden", "Thumbs.db", "x/README"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    remarks = Remarks()
    assert open_collection(tmp_path, report=remarks).keys.to_pylist() == ["a"]
    assert remarks.text.count("\n") == 1
    assert "passed over 2 .jfif, 1 .avif, 1 .zip, 1 .tar.gz, 1 without an ending, such as b.jfif. " in remarks.text
    for advice in (
        "rename to .jpg",
        "save as PNG or JPEG",
        "give zip://::FILE",
        "unpack it once with `gunzip -k FILE`",
    ):
        assert advice in remarks.text


def test_a_compressed_tar_beside_tars_is_said(pictures: Path, tmp_path: Path) -> None:
    tars = as_tars(pictures, tmp_path / "tars")
    (tars / "n3.tar.gz").write_bytes(b"x")
    remarks = Remarks()
    assert len(open_collection(tars, report=remarks)) == 24
    assert "passed over 1 .tar.gz, such as n3.tar.gz. .tar.gz is compressed: unpack it once" in remarks.text
    assert "read as one tar a class" in remarks.text


def test_what_a_tar_holds_besides_images_is_counted(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "shard-000.TAR", "w") as tar:
        for name in ("a.jpg", "a.cls", "b.heic", "c.heic", "._a.jpg", "README"):
            add(tar, name, b"x")
    remarks = Remarks()
    assert open_collection(tmp_path, report=remarks).keys.to_pylist() == ["a"]
    assert "passed over 2 .heic, 1 without an ending, such as shard-000.TAR/b.heic" in remarks.text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "winter21_whole.tar.gz",
            r"1 \.tar\.gz, such as .*unpack it once with `gunzip -k FILE`; a tar is then read as it is",
        ),
        ("images.zip", "zip://::FILE"),
        ("train/data-00000-of-00001.arrow", r"datasets\.load_from_disk\(FOLDER\)\.to_parquet\(FILE\)"),
        ("a.jxl", "save as PNG or JPEG"),
    ],
)
def test_what_holds_images_in_another_way_is_named(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=f"no image found, passed over .*{said}"):
        open_collection(tmp_path)
    with pytest.raises(RequestError, match=f"this is a file of another kind. .*{said.rpartition('such as ')[2]}"):
        open_collection(tmp_path / name)


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


@pytest.mark.parametrize("kind", ["parquet", "tar"])
def test_a_missing_part_is_refused_unless_it_is_meant(kind: str, pictures: Path, tmp_path: Path) -> None:
    if kind == "parquet":
        root = as_parquet(pictures, tmp_path / "hf") / "data"
        (root / "train-00000-of-00002.parquet").rename(root / "train-00000-of-00003.parquet")
        (root / "train-00001-of-00002.parquet").rename(root / "train-00002-of-00003.parquet")
    else:
        root = as_shards(pictures, tmp_path / "shards")
        for number, path in enumerate(sorted(root.iterdir())):
            path.rename(root / f"train-{number + (number > 0):05d}-of-00005.tar")
    with pytest.raises(
        DataError, match=r"files are missing: 1 of \d \(train-00001-of-0000\d\)\. Fetch them; or go on without"
    ):
        open_collection(root)
    remarks = Remarks()
    found = open_collection(f"incomplete:{root}", report=remarks)
    assert len(found) == 24
    assert "1 of" in remarks.text
    assert found.location == f"incomplete:{root}"
    assert open_collection(found.location).keys.to_pylist() == found.keys.to_pylist()
    assert open_source(f"incomplete:{root}", tmp_path).location == found.location
    only = sorted(root.iterdir())[0]
    assert open_collection(only).location == str(only)
