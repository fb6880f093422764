"""Parquet targets as Hugging Face lays them out: files that go, are cut or lie without their images are named."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from plada.errors import DataError
from plada.sources.decode import decode
from plada.sources.targets.layouts import read_layout
from plada.sources.targets.target import Target, TargetRequest
from tests.sources import published
from tests.sources.published import pixels, png


def opened(root: Path) -> Target:
    return read_layout(root, "parquet", TargetRequest("set", 0))


def test_a_file_that_goes_while_it_is_read_is_named(tmp_path: Path) -> None:
    root = published.parquet(tmp_path / "set", {"train": 8}, names=["a", "b"], shards=2)
    images = opened(root).train.collection
    assert decode(images.read(0)).size == (6, 6)
    for file in root.glob("*.parquet"):
        file.unlink()
    with pytest.raises(DataError, match=r"train-00001-of-00002\.parquet: listed but cannot be read .*Restore it"):
        images.read(7)


def test_a_file_that_is_cut_while_it_is_read_is_named(tmp_path: Path) -> None:
    root = published.parquet(tmp_path / "set", {"train": 8}, names=["a", "b"])
    images = opened(root).train.collection
    (file,) = root.glob("*.parquet")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match="cannot be read"):
        images.read(0)


def test_a_damaged_page_of_images_is_named(tmp_path: Path) -> None:
    root = published.parquet(tmp_path / "set", {"train": 8}, names=["a", "b"])
    (file,) = root.glob("*.parquet")
    data = bytearray(file.read_bytes())
    at = pq.ParquetFile(file).metadata.row_group(0).column(0).data_page_offset
    data[at : at + 8] = b"\xff" * 8
    file.write_bytes(data)
    with pytest.raises(DataError, match="cannot be read"):
        opened(root)


@pytest.mark.parametrize("other", ["picture", "image"])
def test_a_file_whose_images_lie_elsewhere_is_named(other: str, tmp_path: Path) -> None:
    """In a column of another name, or of that name, which holds no bytes."""
    root = published.parquet(tmp_path / "set", {"train": 8}, names=["a", "b"], shards=2)
    images = opened(root).train.collection
    file = max(root.glob("*.parquet"))
    table = pq.read_table(file)
    moved = table.column("image") if other != "image" else pa.array([1] * len(table))
    size = pq.ParquetFile(file).metadata.row_group(0).num_rows
    pq.write_table(table.drop_columns(["image"]).append_column(other, moved), file, row_group_size=size)
    with pytest.raises(DataError, match=r"column image(\.bytes)? does not hold images"):
        images.read(7)


def test_files_of_other_columns_and_paths_that_are_no_text(tmp_path: Path) -> None:
    root = published.parquet(tmp_path / "set", {"train": 8}, names=["a", "b"], shards=2)
    file = max(root.glob("*.parquet"))
    table = pq.read_table(file)
    pq.write_table(table.drop_columns(["image"]), file)
    with pytest.raises(DataError, match="has no column image, as the files beside it have"):
        opened(root)
    (tmp_path / "b").mkdir()
    rows = pa.array([{"bytes": png(pixels(row)), "path": b"x"} for row in range(2)])
    pq.write_table(pa.table({"image": rows, "label": [0, 1]}), tmp_path / "b" / "train.parquet")
    assert opened(tmp_path / "b").train.collection.keys.to_pylist() == ["train/00000000", "train/00000001"]


def test_a_file_whose_name_is_no_text_is_named(tmp_path: Path) -> None:
    root = published.parquet(tmp_path / "set", {"train": 8}, names=["a", "b"])
    (file,) = root.glob("*.parquet")
    file.rename(root / os.fsdecode(b"train-\x89.parquet"))
    with pytest.raises(DataError, match=r"cannot be read|not a whole parquet file"):
        opened(root)


def test_a_row_without_bytes_keeps_its_position(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    rows = [{"bytes": png(pixels(row)) if row != 2 else None, "path": f"{row}.png"} for row in range(4)]
    table = pa.table({"image": rows, "label": [0, 1, 0, 1]})
    described = {"huggingface": json.dumps({"info": {"features": {"label": {"names": ["x", "y"]}}}})}
    pq.write_table(table.replace_schema_metadata(described), root / "train.parquet")
    target = opened(root)
    images = target.train.collection
    keys = images.keys.to_pylist()
    assert decode(images.read(keys.index("train/0"))).size == (6, 6)
    assert images.read(keys.index("train/2")) == b""
    rows = pa.array([{**row, "bytes": None} for row in rows], table.schema.field("image").type)
    pq.write_table(pa.table({"image": rows, "label": [0, 1, 0, 1]}), root / "train.parquet")
    with pytest.raises(DataError, match="no train image has bytes, at most a path"):
        opened(root)


def test_of_two_columns_of_images_the_one_called_image_is_meant(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    first, second = (
        [{"bytes": png(pixels(row + shift)), "path": f"{row}.png"} for row in range(4)] for shift in (0, 9)
    )
    pq.write_table(pa.table({"mask": second, "image": first, "label": [0, 1, 0, 1]}), root / "train.parquet")
    images = opened(root).train.collection
    assert images.read(0) == first[0]["bytes"]
    pq.write_table(pa.table({"left": first, "right": second, "label": [0, 1, 0, 1]}), root / "train.parquet")
    with pytest.raises(DataError, match="several columns of images: left, right"):
        opened(root)


def test_many_row_groups_are_read_in_any_order(tmp_path: Path) -> None:
    root = published.parquet(tmp_path / "set", {"train": 40}, names=["a", "b"], shards=4)
    images = opened(root).train.collection
    by_key = {key: place for place, key in enumerate(images.keys.to_pylist())}
    order = [7, 39, 0, 20, 21, 8, 38, 1, 30, 11, 7, 39]
    for row in order:
        assert images.read(by_key[f"train/image_{row}"]) == png(pixels(row))
    assert dict(images.stream(0, 40)) == {place: images.read(place) for place in range(40)}


def test_two_rows_of_one_path_are_called_by_their_rows(tmp_path: Path) -> None:
    root = published.parquet(tmp_path / "set", {"train": 6}, names=["a", "b"], paths=lambda row: f"{row // 2}.png")
    assert opened(root).train.collection.keys.to_pylist() == [f"train/{row:08d}" for row in range(6)]


@pytest.mark.parametrize(
    "place", ["data/train-00000-of-00001.parquet", "train.parquet", "train/0000.parquet", "train_0.parquet"]
)
def test_every_way_that_files_are_laid_out(place: str, tmp_path: Path) -> None:
    made = next(published.parquet(tmp_path / "made", {"train": 6}, names=["a", "b"]).glob("*.parquet"))
    path = tmp_path / "set" / place
    path.parent.mkdir(parents=True)
    path.write_bytes(made.read_bytes())
    target = opened(tmp_path / "set")
    assert len(target.train) + len(target.validation) == 6
    assert target.classes == ("a", "b")


@pytest.mark.parametrize(
    "described",
    [b"{", b"[]", b'{"info": 3}', b'{"info": {"features": [1]}}', b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": "ab"}}}}'],
)  # fmt: skip
def test_a_damaged_description_of_the_columns_is_refused(described: bytes, tmp_path: Path) -> None:
    root = published.parquet(tmp_path / "set", {"train": 4}, names=["a", "b"])
    file = next(root.glob("*.parquet"))
    pq.write_table(pq.read_table(file).replace_schema_metadata({b"huggingface": described}), file)
    with pytest.raises(DataError, match="Hugging Face's description of its c"):
        opened(root)


@pytest.mark.parametrize("names", [["a", "b"], None])
def test_a_row_without_a_label_is_no_class_of_its_own(names: list[str] | None, tmp_path: Path) -> None:
    root = published.parquet(
        tmp_path / "set", {"train": 6}, names=names, label=lambda row: None if row == 3 else row % 2
    )
    with pytest.raises(DataError, match="train rows without a label"):
        opened(root)
