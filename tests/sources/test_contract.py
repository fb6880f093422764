"""What every collection promises, whatever it is stored as: keys in order, bytes by position, parts, and a copy for workers."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from plada.errors import DataError
from plada.sources.collection import Collection, part_of
from plada.sources.decode import decode
from plada.sources.formats.arrays import load_member
from plada.sources.formats.builtin import open_digits, open_glyphs
from plada.sources.formats.detect import open_collection
from plada.sources.manifest import load_manifest
from plada.sources.reference import open_reference
from plada.sources.scan import scan_manifest
from plada.sources.targets.flowers102 import CLASSES as FLOWERS
from plada.sources.targets.layouts import find_layout, read_layout
from plada.sources.targets.target import TargetRequest
from tests.sources import published
from tests.sources.formats.test_detect import FORMS
from tests.sources.targets.test_layouts import CASES


def keeps_its_promises(collection: Collection) -> None:
    keys, count = collection.keys.to_pylist(), len(collection)
    assert len(keys) == len(collection.sizes) == count > 0
    encoded = [key.encode() for key in keys]
    assert encoded == sorted(set(encoded)), "keys are sorted by their bytes, and no two are alike"
    data = [collection.read(position) for position in range(count)]
    for size, stored in zip(collection.sizes.tolist(), data, strict=True):
        assert size in (-1, len(stored))
    for start, stop in ((0, count), (count // 3, count - count // 4), (count - 1, count), (1, 1)):
        assert dict(collection.stream(start, stop)) == {at: data[at] for at in range(start, stop)}
    first, last = count // 4, count - count // 3
    part = part_of(collection, first, last)
    assert part.keys.to_pylist() == keys[first:last]
    assert [part.read(at) for at in range(last - first)] == data[first:last]
    assert dict(part.stream(0, last - first)) == dict(enumerate(data[first:last]))
    for sent in (collection, part):
        again: Collection = pickle.loads(pickle.dumps(sent))
        assert again.keys.to_pylist() == sent.keys.to_pylist()
        assert again.read(len(again) - 1) == sent.read(len(sent) - 1)
        assert dict(again.stream(0, len(again))) == dict(sent.stream(0, len(sent)))


@pytest.mark.parametrize("form", ["folder", *FORMS])
def test_collections_of_pictures(form: str, pictures: Path, tmp_path: Path) -> None:
    keeps_its_promises(open_collection(FORMS[form](pictures, tmp_path) if form in FORMS else pictures))


@pytest.mark.parametrize("case", CASES)
def test_collections_of_published_sets(case: str, tmp_path: Path) -> None:
    root = CASES[case][0](tmp_path / "set")
    layout = find_layout(root)
    assert layout is not None
    target = read_layout(root, layout, TargetRequest("set", 0))
    splits = [split for split in (target.train, target.validation, target.test) if split is not None]
    for collection in {id(split.collection): split.collection for split in splits}.values():
        keeps_its_promises(collection)
    for split in splits:
        assert len(split.labels) == len(split.positions) == len(set(split.positions.tolist()))
        assert all(0 <= label < len(target.classes) for label in split.labels.tolist())


@pytest.mark.parametrize("make", [lambda: open_glyphs({"count": "12"}), lambda: open_digits().train.collection])
def test_collections_that_are_built_in(make: Callable[[], Collection]) -> None:
    collection = make()
    keeps_its_promises(part_of(collection, 0, 12))
    assert decode(collection.read(3)).size == decode(collection.read(4)).size


def test_the_same_seed_draws_the_same_glyphs() -> None:
    one, same, other = (open_glyphs({"count": "8", "seed": seed}) for seed in ("3", "3", "4"))
    assert [one.read(at) for at in range(8)] == [same.read(at) for at in range(8)]
    assert [one.read(at) for at in range(8)] != [other.read(at) for at in range(8)]
    longer = open_glyphs({"count": "20", "seed": "3"})
    assert [longer.read(at) for at in range(8)] == [one.read(at) for at in range(8)]


def test_a_null_of_lance_keeps_its_position_and_files_that_are_gone_are_named(pictures: Path, tmp_path: Path) -> None:
    import lance
    import pyarrow as pa

    place = tmp_path / "holes.lance"
    images = pa.array([b"1", None, b"3"], pa.binary())
    lance.write_dataset(pa.table({"key": ["a", "b", "c"], "image": images}), place)
    collection = open_collection(place)
    assert collection.read(0) == b"1"
    assert [collection.read(at) for at in (1, 2)] == [b"", b"3"]
    gone = FORMS["lance"](pictures, tmp_path)
    collection = open_collection(gone)
    for file in (gone / "data").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"cannot be read .*Restore the data set"):
        collection.read(0)


def test_a_lance_set_of_structs_is_refused(tmp_path: Path) -> None:
    import lance
    import pyarrow as pa

    rows = pa.array([{"bytes": b"1", "path": "a.png"}])
    lance.write_dataset(pa.table({"image": rows}), tmp_path / "x.lance")
    with pytest.raises(
        DataError, match="expected a binary column of images beside a text column 'key', found a struct"
    ):
        open_collection(tmp_path / "x.lance")


def test_a_manifest_lets_go_of_what_it_read(pictures: Path, home: Path) -> None:
    manifest = open_reference(open_collection(pictures), home).manifest
    before = [manifest.hash_at(position) for position in range(24)]
    manifest.forget()
    assert [manifest.hash_at(position) for position in range(24)] == before
    assert manifest.row(5) == load_manifest(manifest.path).row(5)


def test_a_manifest_that_another_program_wrote_is_refused(pictures: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    made = scan_manifest(open_collection(pictures), tmp_path / "m.parquet")
    said = pq.ParquetFile(made.path).metadata.metadata
    table = pq.read_table(made.path).replace_schema_metadata(
        {name: said[name] for name in said if b"ARROW" not in name}
    )
    pq.write_table(table, tmp_path / "other.parquet", row_group_size=5)
    with pytest.raises(DataError, match="another program wrote it"):
        load_manifest(tmp_path / "other.parquet")
    pq.write_table(table.drop_columns(["width"]), tmp_path / "fewer.parquet")
    with pytest.raises(DataError, match="not a manifest of format"):
        load_manifest(tmp_path / "fewer.parquet")


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda path: path.write_bytes(b"no archive"), "cannot be read"),
        (lambda path: np.savez(path, other=np.zeros(3)), "holds no array 'images'"),
        (lambda path: np.savez(path, images=np.array([{"a": 1}], object)), "cannot be read"),
        (lambda path: None, "missing, but a part of this set"),
    ],
    ids=["no archive", "another name", "objects", "no file"],
)
def test_an_archive_without_the_array_is_named(write: Callable[[Path], object], said: str, tmp_path: Path) -> None:
    write(tmp_path / "x.npz")
    with pytest.raises(DataError, match=said):
        load_member(tmp_path / "x.npz", "images")


@pytest.mark.parametrize(
    ("labels", "ids", "said"),
    [
        (np.array([[1, 2, 103]]), np.array([[1]]), "expected class numbers 1 to 102"),
        (np.array([[0, 2, 3]]), np.array([[1]]), "expected class numbers 1 to 102"),
        (np.array([[1, 2, 3]]), np.array([[4]]), "names image 4, imagelabels.mat has 3"),
    ],
)
def test_lists_of_flowers_that_cannot_be_right(labels: np.ndarray, ids: np.ndarray, said: str, tmp_path: Path) -> None:
    from scipy.io import savemat  # type: ignore[import-untyped]

    root = published.flowers102(tmp_path / "flowers")
    savemat(root / "imagelabels.mat", {"labels": labels})
    savemat(root / "setid.mat", dict.fromkeys(("trnid", "valid", "tstid"), ids))
    with pytest.raises(DataError, match=said):
        read_layout(root, "flowers102", TargetRequest("flowers", 0))
    assert len(FLOWERS) == 102
