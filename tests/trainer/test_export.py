"""Each export comes back, by its framework's ordinary loader, with the positions, keys and labels of the payload."""

import csv
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tfrecord
from PIL import Image

import plada
from plada.errors import ReferenceMismatch, RequestError
from plada.payload.payload import Payload
from plada.trainer.export_images import extension
from plada.trainer.payload_images import ReferenceCopy

CLASSES = ("a", 'b,"b"', "ç ü", "nobody")
Row = tuple[int, str, int, str, bytes]


@pytest.fixture
def sent(pictures: Path, tmp_path: Path) -> Path:
    """A payload of twelve pictures; one class has a single image, one none."""
    (pictures / "n0__x").mkdir()
    (pictures / "n0" / "x__y.png").write_bytes((pictures / "n0" / "image_00.png").read_bytes())
    (pictures / "n0__x" / "y.png").write_bytes((pictures / "n0" / "image_06.png").read_bytes())
    manifest = plada.open_images(pictures).manifest
    positions = np.arange(0, 26, 2)
    labels = np.where(positions == 4, 2, positions // 2 % 2)
    Payload(positions, labels, CLASSES, 26, manifest.key_id, manifest.content_id).save(tmp_path / "x.plada")
    return tmp_path / "x.plada"


def wanted(sent: Path, pictures: Path) -> list[Row]:
    """(position, key, label, class, stored bytes) as the payload means them."""
    payload, reference = plada.read_payload(sent), plada.open_images(pictures)
    keys = reference.manifest.keys_at(payload.positions)
    return [
        (position, key, label, payload.classes[label], reference.read(position))
        for position, key, label in zip(payload.positions.tolist(), keys, payload.labels.tolist(), strict=True)
    ]


def test_folder_and_its_table(sent: Path, pictures: Path, tmp_path: Path) -> None:
    plada.export(sent, to="folder", out=tmp_path / "f")
    with (tmp_path / "f" / "metadata.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = [
        (int(r["position"]), r["key"], int(r["label"]), r["class"], (tmp_path / "f" / r["file_name"]).read_bytes())
        for r in rows
    ]
    assert found == wanted(sent, pictures)
    assert len({r["file_name"] for r in rows}) == len(rows)
    assert not (tmp_path / "f" / "nobody").exists()


def test_a_folder_that_torchvision_reads(sent: Path, pictures: Path, tmp_path: Path) -> None:
    from plada.common.packages import import_timm

    import_timm()  # makes torchvision loadable
    from torchvision.datasets import ImageFolder

    plada.export(sent, to="folder", out=tmp_path / "f")
    images = ImageFolder(str(tmp_path / "f"))
    names = {Path(path).name: images.classes[label] for path, label in images.samples}
    assert len(names) == len(wanted(sent, pictures))
    assert sorted(names.values()) == sorted(row[3] for row in wanted(sent, pictures))
    assert images[0][0].size == (40, 30)


def test_names_that_fall_together_stay_apart(pictures: Path, tmp_path: Path) -> None:
    (pictures / "n0__x").mkdir()
    for path in ("n0/x__y.png", "n0__x/y.png"):
        (pictures / path).write_bytes((pictures / "n0" / "image_00.png").read_bytes())
    manifest = plada.open_images(pictures).manifest
    positions = [p for p in range(26) if manifest.keys_at([p])[0] in ("n0/x__y", "n0__x/y")]
    Payload(np.array(positions), np.zeros(2, np.int64), ("a",), 26, manifest.key_id, manifest.content_id).save(
        tmp_path / "x.plada"
    )
    plada.export(tmp_path / "x.plada", to="folder", out=tmp_path / "f")
    assert sorted(p.name for p in (tmp_path / "f" / "a").iterdir()) == [f"n0__x__y-{positions[1]}.png", "n0__x__y.png"]


def test_a_key_that_no_file_can_have(pictures: Path, tmp_path: Path) -> None:
    root = tmp_path / "table"
    root.mkdir()
    data = (pictures / "n0" / "image_00.png").read_bytes()
    long = "/".join(["long" * 25] * 5)
    pq.write_table(pa.table({"key": ["a_b", long], "image": [data, data]}), root / "x.parquet")
    manifest = plada.open_images(root).manifest
    payload = Payload(np.arange(2), np.zeros(2, np.int64), ("a",), 2, manifest.key_id, manifest.content_id)
    plada.export(payload, to="folder", out=tmp_path / "out", reference=root)
    assert sorted(path.name for path in (tmp_path / "out" / "a").iterdir()) == [
        "a_b.png",
        f"{long.replace('/', '__')[:200]}-1.png",
    ]


def test_links_instead_of_copies(sent: Path, pictures: Path, tmp_path: Path) -> None:
    plada.export(sent, to="folder", out=tmp_path / "f", link=True)
    paths = list((tmp_path / "f").glob("*/*"))
    assert all(path.is_symlink() and pictures in path.resolve().parents for path in paths)
    assert sorted(path.read_bytes() for path in paths) == sorted(row[4] for row in wanted(sent, pictures))
    with pytest.raises(RequestError, match="--link makes a folder"):
        plada.export(sent, to="hf", out=tmp_path / "h", link=True)


def test_what_is_no_file_cannot_be_linked_to(tmp_path: Path) -> None:
    images = plada.open_images("glyphs:count=30")
    payload = Payload(
        np.arange(3), np.zeros(3, np.int64), ("a",), 30, images.manifest.key_id, images.manifest.content_id
    )
    with pytest.raises(RequestError, match="no files of their own"):
        plada.export(payload, to="folder", out=tmp_path / "f", link=True, reference="glyphs:count=30")
    assert not (tmp_path / "f").exists()


def test_webdataset_shards(sent: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plada.trainer.export_images._SHARD", 5)
    plada.export(sent, to="webdataset", out=tmp_path / "w")
    shards = sorted((tmp_path / "w").iterdir())
    assert [path.name for path in shards] == ["000000.tar", "000001.tar", "000002.tar"]
    samples: dict[str, dict[str, bytes]] = {}
    for path in shards:
        with tarfile.open(path) as tar:
            assert {(entry.mtime, entry.uid, entry.gid) for entry in tar} == {(0, 0, 0)}
            for entry in tar:
                stem, _, suffix = entry.name.partition(".")
                samples.setdefault(stem, {})[suffix] = tar.extractfile(entry).read()  # type: ignore[union-attr]
    found = []
    for sample in samples.values():
        about = json.loads(sample["json"])
        assert int(sample["cls"]) == about["label"]
        image = next(data for suffix, data in sample.items() if suffix in ("png", "jpg"))
        found.append((about["position"], about["key"], about["label"], about["class"], image))
    assert found == wanted(sent, pictures)
    again = {path.name: path.read_bytes() for path in shards}
    plada.export(sent, to="webdataset", out=tmp_path / "again")
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()} == again


def test_webdataset_by_webdataset(sent: Path, pictures: Path, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    plada.export(sent, to="webdataset", out=tmp_path / "w")
    data = webdataset.WebDataset(str(tmp_path / "w" / "000000.tar"), shardshuffle=False)
    samples = data.decode("pil").to_tuple("jpg;png", "cls", "json")
    found = [(about["position"], about["key"], label, about["class"]) for _, label, about in samples]
    assert found == [row[:4] for row in wanted(sent, pictures)]
    assert {image.size for image, _, _ in samples} == {(40, 30)}


def test_webdataset_is_a_reference_that_plada_reads(sent: Path, pictures: Path, tmp_path: Path) -> None:
    plada.export(sent, to="webdataset", out=tmp_path / "w")
    images = plada.open_images(tmp_path / "w")
    assert [images.read(p) for p in range(len(images))] == [row[4] for row in wanted(sent, pictures)]


def test_tfrecords(sent: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plada.trainer.export_images._SHARD", 5)
    plada.export(sent, to="tfrecord", out=tmp_path / "t")
    paths = sorted(map(str, (tmp_path / "t").iterdir()))
    read = [row for path in paths for row in tfrecord.tfrecord_loader(path, None)]
    assert as_rows(read) == wanted(sent, pictures)
    plada.export(sent, to="tfrecord", out=tmp_path / "again")
    for path in map(Path, paths):
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def as_rows(records: Iterable[dict[str, Any]]) -> list[Row]:
    return [
        (r["position"].item(), r["key"].decode(), r["label"].item(), r["class"].decode(), r["image"]) for r in records
    ]


def test_tfrecords_by_tensorflow(sent: Path, pictures: Path, tmp_path: Path) -> None:
    tensorflow = pytest.importorskip("tensorflow", reason="tensorflow is not installed")
    plada.export(sent, to="tfrecord", out=tmp_path / "t")
    kinds = {"position": "int64", "key": "string", "label": "int64", "class": "string", "image": "string"}
    form = {name: tensorflow.io.FixedLenFeature([], kind) for name, kind in kinds.items()}
    data = tensorflow.data.TFRecordDataset(sorted(map(str, (tmp_path / "t").iterdir())))
    parsed = [tensorflow.io.parse_single_example(record, form) for record in data]
    assert as_rows({name: value.numpy() for name, value in row.items()} for row in parsed) == wanted(sent, pictures)


def test_hugging_faces_layout(sent: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq

    monkeypatch.setattr("plada.trainer.export_images._SHARD", 5)
    monkeypatch.setattr("plada.trainer.export_images._ROWS", 2)
    plada.export(sent, to="hf", out=tmp_path / "h")
    paths = sorted((tmp_path / "h" / "data").iterdir())
    assert [path.name for path in paths] == [f"train-0000{n}-of-00003.parquet" for n in range(3)]
    features = json.loads(pq.read_schema(paths[0]).metadata[b"huggingface"])["info"]["features"]
    assert features["label"] == {"names": list(CLASSES), "_type": "ClassLabel"}
    rows = [row for path in paths for row in pq.read_table(path).to_pylist()]
    found = [(r["position"], r["key"], r["label"], CLASSES[r["label"]], r["image"]["bytes"]) for r in rows]
    assert found == wanted(sent, pictures)


def test_hugging_faces_layout_by_datasets(
    sent: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    plada.export(sent, to="hf", out=tmp_path / "h")
    data = datasets.load_dataset(str(tmp_path / "h"), split="train", cache_dir=str(tmp_path / "cache"))
    names = data.features["label"].names
    assert names == list(CLASSES)
    found = [(r["position"], r["key"], r["label"], names[r["label"]]) for r in data.remove_columns("image")]
    assert found == [row[:4] for row in wanted(sent, pictures)]
    for row, (*_, stored) in zip(data, wanted(sent, pictures), strict=True):
        assert np.array_equal(
            np.asarray(row["image"].convert("RGB")), np.asarray(Image.open(io.BytesIO(stored)).convert("RGB"))
        )
    folder = tmp_path / "f"
    plada.export(sent, to="folder", out=folder)
    table = datasets.load_dataset("imagefolder", data_dir=str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert sorted((r["position"], r["key"]) for r in table.remove_columns("image")) == [
        r[:2] for r in wanted(sent, pictures)
    ]


def test_croissant(sent: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own validator finds no fault, and reads the same rows by it; the same export gives the same bytes."""
    monkeypatch.setattr("plada.trainer.export_images._SHARD", 5)
    plada.export(sent, to="hf", out=tmp_path / "h")
    plada.export(sent, to="hf", out=tmp_path / "again")
    path = tmp_path / "h" / "croissant.json"
    assert path.read_bytes() == (tmp_path / "again" / "croissant.json").read_bytes()
    about = json.loads(path.read_text())
    for file in about["distribution"][:-1]:
        assert file["sha256"] == hashlib.sha256((tmp_path / "h" / file["contentUrl"]).read_bytes()).hexdigest()
    assert len(about["distribution"]) == 4
    mlcroissant = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    data = mlcroissant.Dataset(str(path))
    assert not data.metadata.ctx.issues.errors
    classes = [row["classes/name"] for row in data.records("classes")]
    assert classes == list(CLASSES)
    records = sorted(data.records("images"), key=lambda row: row["images/position"])
    rows = [
        (row["images/position"], row["images/key"].decode(), row["images/label"], classes[row["images/label"]])
        for row in records
    ]
    assert rows == [row[:4] for row in wanted(sent, pictures)]
    first = records[0]["images/image"]
    assert np.array_equal(
        np.asarray(first.convert("RGB")),
        np.asarray(Image.open(io.BytesIO(wanted(sent, pictures)[0][4])).convert("RGB")),
    )


@pytest.mark.parametrize("form", ["folder", "webdataset", "tfrecord", "hf"])
def test_missing_and_changed_images(form: str, sent: Path, pictures: Path, tmp_path: Path) -> None:
    rows = wanted(sent, pictures)
    gone, changed = rows[1], rows[3]
    path_of = {key: next(pictures.glob(f"{key}.*")) for _, key, *_ in (gone, changed)}
    path_of[gone[1]].unlink()
    data = path_of[changed[1]].read_bytes()
    path_of[changed[1]].write_bytes(data[:-1] + b"\0")
    with pytest.raises(ReferenceMismatch) as refused:
        plada.export(sent, to=form, out=tmp_path / "o", reference=pictures)
    message = str(refused.value)
    assert "2 of the payload's images are missing or changed" in message
    assert f"{gone[1]} (missing), {changed[1]} (changed)" in message
    assert not list(tmp_path.glob("o*"))
    plada.export(sent, to=form, out=tmp_path / "o", reference=ReferenceCopy(location=pictures, skip_changed=True))
    if form == "hf":
        import pyarrow.parquet as pq

        kept = [r["key"] for r in pq.read_table(next((tmp_path / "o" / "data").iterdir())).to_pylist()]
        assert kept == [key for _, key, *_ in rows if key not in path_of]


def test_an_output_that_is_there(sent: Path, tmp_path: Path) -> None:
    (tmp_path / "o").mkdir()
    for form in ("folder", "webdataset", "tfrecord", "hf"):
        with pytest.raises(RequestError, match="already there"):
            plada.export(sent, to=form, out=tmp_path / "o")


KINDS = [
    (b"\xff\xd8\xff\xe0", ".jpg"),
    (b"\x89PNG\r\n", ".png"),
    (b"GIF89a", ".gif"),
    *(
        (f"P{kind}{space}1 1".encode(), f".p{suffix}")
        for kind, suffix in zip("123456fF", ["bm", "gm", "pm"] * 2 + ["fm"] * 2, strict=True)
        for space in " \n\t"
    ),
    (b"\0\0\0\x1cftypavif", ".avif"),
    (b"BM", ".bmp"),
    (b"RIFF\0\0\0\0WEBPVP8 ", ".webp"),
    (b"II*\0", ".tif"),
]


@pytest.mark.parametrize(("data", "suffix"), KINDS)
def test_extensions_by_content(data: bytes, suffix: str) -> None:
    assert extension(data) == suffix
