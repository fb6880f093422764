"""Every published layout is read as it is published, and what is missing from it is named."""

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from plada.errors import DataError, PladaError, RequestError
from plada.sources.decode import decode
from plada.sources.formats.arrays import netpbm
from plada.sources.registry import open_source, open_target
from plada.sources.targets.flowers102 import CLASSES as FLOWERS
from plada.sources.targets.layouts import LAYOUTS, find_layout
from plada.sources.targets.target import Split, Target
from tests.sources import published
from tests.sources.published import pixels

Make = Callable[[Path], Path]


def sizes(target: Target) -> tuple[int, int]:
    """Training (validation included) and test images."""
    return len(target.train) + len(target.validation), len(target.test) if target.test else 0


def named(target: Target, split: Split | None) -> dict[str, str]:
    """Key to class of one part."""
    assert split is not None
    keys = [str(split.collection.keys[int(position)]) for position in split.positions]
    return dict(zip(keys, (target.classes[label] for label in split.labels), strict=True))


def stored(split: Split | None, row: int) -> npt.NDArray[np.uint8]:
    assert split is not None
    return np.asarray(decode(split.collection.read(int(split.positions[row]))))


CASES: dict[str, tuple[Make, str, tuple[str, ...], tuple[int, int], tuple[str, str]]] = {
    # layout: (maker, layout found, classes, (train + validation, test), (key, class) of a test image)
    "food101": (published.food101, "food101", ("pie", "soup"), (8, 4), ("soup/5", "soup")),
    "dtd": (published.dtd, "dtd", ("banded", "zigzagged"), (8, 4), ("zigzagged/zigzagged_0005", "zigzagged")),
    "aircraft": (published.aircraft, "aircraft", ("707-320", "F/A-18", "Boeing 717"), (9, 3), ("0001010", "F/A-18")),
    "flowers": (published.flowers102, "flowers102", ("pink primrose", "blackberry lily"), (6, 6), ("image_00007", "blackberry lily")),
    "pets": (published.pets, "pets", ("Abyssinian", "american_bulldog"), (8, 4), ("american_bulldog_5", "american_bulldog")),
    "cub": (
        published.cub, "cub", ("001.Black_footed_Albatross", "002.Laysan_Albatross"), (10, 10),
        ("002.Laysan_Albatross/bird_0011", "002.Laysan_Albatross"),
    ),
    "tiny": (published.tiny_imagenet, "tiny-imagenet", ("n01", "n02"), (8, 3), ("val_0", "n02")),
    "gtsrb": (published.gtsrb, "gtsrb", ("00000", "00001"), (8, 3), ("00000", "00001")),
    "gtsrb of torchvision": (
        lambda root: published.gtsrb(root, torchvision=True), "gtsrb", ("00000", "00001"), (8, 3), ("00001", "00000"),
    ),
    "places": (
        published.places365, "places365", ("airfield", "apartment_building/outdoor"), (8, 2),
        ("Places365_val_00000001", "apartment_building/outdoor"),
    ),
    "places of torchvision": (
        lambda root: published.places365(root, data="data_large_standard", val="val_large"), "places365",
        ("airfield", "apartment_building/outdoor"), (8, 2), ("Places365_val_00000002", "airfield"),
    ),
    "crc": (published.crc, "crc", ("ADI", "TUM"), (8, 4), ("TUM/1", "TUM")),
    "cifar10": (published.cifar10, "cifar-binary", ("airplane", "automobile"), (20, 4), ("test/0000001", "automobile")),
    "cifar100": (published.cifar100, "cifar-binary", ("apple", "aquarium_fish", "baby"), (8, 4), ("test/0000002", "baby")),
    "stl10": (published.stl10, "stl10", ("airplane", "bird"), (6, 3), ("test/0000001", "bird")),
    "medmnist": (
        lambda root: published.medmnist(root, "retinamnist"), "medmnist", ("0", "1", "2", "3", "4"), (15, 5),
        ("test/0000003", "3"),
    ),
    "parquet": (
        lambda root: published.parquet(root / "data", {"train": 10, "test": 4}, names=["cat", "dog"]), "parquet",
        ("cat", "dog"), (10, 4), ("test/image_3", "dog"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_published_layout_is_read(case: str, tmp_path: Path, home: Path) -> None:
    make, layout, classes, counts, (key, label) = CASES[case]
    make(tmp_path / "set")
    root = tmp_path / "set"
    assert find_layout(root) == layout
    target = open_target(root, home)
    assert target.classes == classes
    assert sizes(target) == counts
    assert named(target, target.test)[key] == label
    everything = {**named(target, target.train), **named(target, target.validation)}
    assert len(everything) == counts[0]
    assert set(everything.values()) == set(classes)
    for split in (target.train, target.validation, target.test):
        assert split is not None
        collection = split.collection
        keys = collection.keys.to_pylist()
        assert keys == sorted(keys)
        assert stored(split, 0).ndim == 3
        assert all(collection.read(position) == data for position, data in collection.stream(0, len(collection)))


def test_published_validation_images_are_the_validation(tmp_path: Path, home: Path) -> None:
    for make in (published.dtd, published.aircraft, published.flowers102, published.medmnist):
        target = open_target(make(tmp_path / make.__name__), home)
        assert len(target.validation) < len(target.train) or make is published.dtd
        assert "validation" not in target.note
    assert list(named(target, target.validation)) == [f"validation/{row:07d}" for row in range(8)]
    drawn = open_target(published.pets(tmp_path / "pets"), home)
    assert drawn.note == "validation: 20% of the training images, stratified, seed 0"


@pytest.mark.parametrize("make", [published.cifar10, published.cifar100, published.stl10, published.medmnist])
def test_pixels_of_arrays_are_those_that_were_put_in(make: Make, tmp_path: Path, home: Path) -> None:
    target = open_target(make(tmp_path / "set"), home)
    first = {"cifar10": (20, 32), "cifar100": (8, 32), "stl10": (6, 96), "medmnist": (200, 28)}[make.__name__]
    for row in (0, 2):
        assert np.array_equal(stored(target.test, row), pixels(first[0] + row, first[1]))
    assert target.test is not None
    collection = target.test.collection
    assert all(len(collection.read(position)) == collection.sizes[position] for position in range(len(collection)))
    copy = pickle.loads(pickle.dumps(collection))
    assert copy.read(len(copy) - 1) == collection.read(len(collection) - 1)


def test_training_images_of_all_batches(tmp_path: Path, home: Path) -> None:
    target = open_target(published.cifar10(tmp_path / "set"), home)
    collection = target.train.collection
    assert [bytes(collection.read(4 + row)) for row in range(20)] == [netpbm(pixels(row, 32)) for row in range(20)]


def test_an_array_set_is_a_reference_too(tmp_path: Path, home: Path) -> None:
    published.stl10(home / "datasets" / "stl10" / "stl10_binary")
    assert open_source("stl10", home).keys.to_pylist()[:2] == ["test/0000000", "test/0000001"]
    assert len(open_source("stl10", home)) == 9


def test_grey_images_are_pgm(tmp_path: Path, home: Path) -> None:
    target = open_target(published.medmnist(tmp_path / "set", "pneumoniamnist", grey=True), home)
    assert target.train.collection.read(0).startswith(b"P5\n28 28\n")
    assert target.classes == ("0", "1")


def test_sizes_of_medmnist(tmp_path: Path, home: Path) -> None:
    root = home / "datasets" / "bloodmnist"
    for side in (28, 64):
        published.medmnist(root, side=side)
    with pytest.raises(RequestError, match=r"holds the sizes 28, 64\. Say which one: bloodmnist:size=28"):
        open_target("bloodmnist", home)
    assert stored(open_target("bloodmnist:size=64", home).test, 0).shape == (64, 64, 3)
    with pytest.raises(RequestError, match="holds the sizes 28, 64"):
        open_target("bloodmnist:size=128", home)
    (root / "bloodmnist.npz").unlink()
    assert stored(open_target("bloodmnist", home).test, 0).shape == (64, 64, 3)
    assert open_target(root / "bloodmnist_64.npz", home).classes[0] == "basophil"
    published.medmnist(root, "dermamnist")
    assert open_target("bloodmnist", home).classes[0] == "basophil"
    with pytest.raises(RequestError, match=r"several sets \(bloodmnist, dermamnist\)"):
        open_target(published.medmnist(published.medmnist(tmp_path / "both"), "dermamnist"), home)


def test_a_medmnist_file_without_whole_arrays_is_refused(tmp_path: Path, home: Path) -> None:
    file = published.medmnist(tmp_path / "a") / "bloodmnist.npz"
    file.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(DataError, match=r"bloodmnist\.npz: not a whole \.npz archive"):
        open_target(tmp_path / "a", home)
    rng = np.random.default_rng(0)
    for name, changed, words in (
        ("volumes", {"train_images": rng.integers(0, 255, (4, 8, 8, 8), np.uint8)}, "Volumes are not read"),
        ("many", {"train_labels": np.zeros((16, 14), np.uint8)}, "one class an image"),
        ("objects", {"val_labels": np.array([{}], object)}, "cannot be read"),
        ("fewer", {"test_labels": np.zeros((3, 1), np.uint8)}, "8 test images, but 3 labels"),
        ("class", {"test_labels": np.full((8, 1), 8, np.uint8)}, "labels 8 to 8, but 8 classes"),
    ):
        path = published.medmnist(tmp_path / name) / "bloodmnist.npz"
        with np.load(path) as archive:
            arrays = {**archive, **changed}
        np.savez(path, **arrays)
        with pytest.raises(DataError, match=words):
            open_target(tmp_path / name, home)
    np.savez(path, train_images=np.zeros((2, 4, 4), np.uint8))
    with pytest.raises(DataError, match="holds no array 'val_images'"):
        open_target(path.parent, home)


def test_another_partition_of_dtd(tmp_path: Path, home: Path) -> None:
    published.dtd(home / "datasets" / "dtd")
    one, two = (open_target(spec, home) for spec in ("dtd", "dtd:partition=2"))
    assert set(named(one, one.test)) != set(named(two, two.test))
    assert "partition 2 of 10" in two.note
    with pytest.raises(RequestError, match="partitions 1 to 10"):
        open_target("dtd:partition=11", home)
    with pytest.raises(DataError, match=r"train3\.txt: missing"):
        open_target("dtd:partition=3", home)


def test_caltech_without_its_background(tmp_path: Path, home: Path) -> None:
    target = open_target(published.caltech101(tmp_path / "caltech101"), home)
    assert target.classes == ("anchor", "ant")
    assert sizes(target) == (16, 4)
    assert "BACKGROUND_Google is left out" in target.note
    assert "test: 20% of all images, split here, stratified, seed 0" in target.note


def test_the_names_of_the_flowers() -> None:
    assert len(FLOWERS) == len(set(FLOWERS)) == 102
    assert (FLOWERS[0], FLOWERS[52], FLOWERS[-1]) == ("pink primrose", "primula", "blackberry lily")


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("fine", [False, True])
def test_cifar_in_pickles_is_read_without_running_them(tmp_path: Path, home: Path, fine: bool, protocol: int) -> None:
    root = tmp_path / "anything"
    root.mkdir()
    rows = np.stack([pixels(row, 32).transpose(2, 0, 1).reshape(-1) for row in range(4)])
    for name in ("train", "test") if fine else (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        batch = {
            "data": rows,
            "fine_labels" if fine else "labels": [0, 1, 0, 1],
            "filenames": ["a"] * 4,
            "batch_label": "x",
        }
        (root / name).write_bytes(
            pickle.dumps({key.encode(): value for key, value in batch.items()}, protocol=protocol)
        )
    meta = {"fine_label_names" if fine else "label_names": ["airplane", "automobile"]}
    (root / ("meta" if fine else "batches.meta")).write_bytes(pickle.dumps(meta, protocol=protocol))
    assert find_layout(root) == "cifar-python"
    target = open_target(root, home)
    assert target.classes == ("airplane", "automobile")
    assert sizes(target) == (4 if fine else 20, 4)
    assert np.array_equal(stored(target.test, 3), pixels(3, 32))
    file = root / ("test" if fine else "test_batch")
    for content in ({"data": rows}, {"data": rows[:, :9], "labels": [0] * 4, "fine_labels": [0] * 4}, ["data"]):
        file.write_bytes(pickle.dumps(content))
        with pytest.raises(DataError, match="Unpack the archive again"):
            open_target(root, home)


@pytest.mark.parametrize(
    ("make", "gone", "words"),
    [
        (published.food101, "images/pie/1.jpg", r"meta/train\.txt names pie/1, which is not in"),
        (published.food101, "meta/test.txt", r"meta/test\.txt: missing"),
        (published.dtd, "images/banded/banded_0005.jpg", r"test1\.txt names banded/banded_0005"),
        (published.dtd, "labels/val1.txt", r"val1\.txt: missing"),
        (published.aircraft, "data/images/0001007.jpg", r"images_variant_val\.txt names 0001007"),
        (published.aircraft, "data/images_variant_test.txt", r"images_variant_test\.txt: missing"),
        (published.flowers102, "jpg/image_00008.jpg", r"setid\.mat names image_00008"),
        (published.flowers102, "imagelabels.mat", r"imagelabels\.mat: missing"),
        (published.pets, "images/Abyssinian_6.jpg", r"test\.txt names Abyssinian_6"),
        (published.pets, "annotations/test.txt", r"test\.txt: missing"),
        (published.cub, "images/001.Black_footed_Albatross/bird_0002.jpg", r"train_test_split\.txt names 001"),
        (published.cub, "image_class_labels.txt", r"image_class_labels\.txt: missing"),
        (published.cub, "classes.txt", r"classes\.txt: missing"),
        (published.tiny_imagenet, "val/images/val_1.JPEG", r"val_annotations\.txt names val_1"),
        (published.gtsrb, "GTSRB/Final_Test/Images/00002.ppm", r"GT-final_test\.csv names 00002"),
        (published.gtsrb, "GT-final_test.csv", r"none of GT-final_test\.csv is there"),
        (published.places365, "val_256", "none of val_256, val_large is there"),
        (published.places365, "places365_train_standard.txt", r"places365_train_standard\.txt: missing"),
        (published.places365, "data_256/a/airfield/00000003.jpg", r"standard\.txt names a/airfield/00000003"),
        (published.cifar10, "data_batch_3.bin", r"data_batch_3\.bin: missing"),
        (published.cifar10, "test_batch.bin", r"test_batch\.bin: missing"),
        (published.cifar10, "batches.meta.txt", r"batches\.meta\.txt: missing"),
        (published.stl10, "train_y.bin", r"train_y\.bin: missing"),
        (published.stl10, "test_X.bin", r"test_X\.bin: missing"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(make: Make, gone: str, words: str, tmp_path: Path, home: Path) -> None:
    root = make(tmp_path / "set")
    path = root / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(DataError, match=words) as said:
        open_target(root, home)
    assert any(remedy in str(said.value) for remedy in ("again", "Fetch it from"))


@pytest.mark.parametrize(
    ("make", "file", "content", "words"),
    [
        (published.cub, "train_test_split.txt", b"1 1\n77 0\n", "image 77 has no path or no class"),
        (published.cub, "images.txt", b"1\n", "fewer than 2 columns"),
        (published.pets, "annotations/trainval.txt", b"Abyssinian_1 cat 1 1\n", "expected a class number, found 'cat'"),
        (published.aircraft, "data/images_variant_test.txt", b"0001009 Concorde\n", "class 'Concorde' is none of the 3"),
        (published.gtsrb, "GT-final_test.csv", b"Filename,ClassId\n0,1\n", "expected columns Filename and ClassId"),
        (published.gtsrb, "GT-final_test.csv", b"Filename;ClassId\n00000.ppm\n", "expected a class number, found ''"),
        (published.gtsrb, "GT-final_test.csv", b"Filename;ClassId\n\xff;1\n", "cannot be read .*Unpack the archive again"),
        (published.places365, "categories_places365.txt", b"/a/airfield x\n", "expected a class number, found 'x'"),
        (published.places365, "places365_val.txt", b"Places365_val_00000001.jpg 2\n", "a class number beyond 1"),
        (published.dtd, "labels/test1.txt", b"\xff\xfe\n", "cannot be read"),
        (published.cifar10, "data_batch_2.bin", bytes(3073 + 5), "not a whole number of records of 3073 bytes"),
        (published.stl10, "train_y.bin", bytes([1, 2, 3]), "6 train images, but 3 labels"),
        (published.stl10, "test_y.bin", bytes([1, 2, 3]), "labels 0 to 2, but 2 classes"),
        (published.flowers102, "setid.mat", b"no matlab file" * 20, "holds no numbers called 'trnid'"),
    ],
)  # fmt: skip
def test_what_is_damaged_is_named(
    make: Make, file: str, content: bytes, words: str, tmp_path: Path, home: Path
) -> None:
    root = make(tmp_path / "set")
    (root / file).write_bytes(content)
    with pytest.raises(DataError, match=words):
        open_target(root, home)


def test_a_class_without_training_images_is_named(tmp_path: Path, home: Path) -> None:
    root = published.aircraft(tmp_path / "set")
    with (root / "data" / "variants.txt").open("a") as file:
        file.write("Concorde\n")
    with pytest.raises(DataError, match="no training image of class 'Concorde'"):
        open_target(root, home)


def test_a_file_that_shrank_is_named(tmp_path: Path, home: Path) -> None:
    root = published.cifar10(tmp_path / "set")
    target = open_target(root, home)
    (root / "test_batch.bin").write_bytes(bytes(3000))
    with pytest.raises(DataError, match=r"test_batch\.bin: ends inside image 0"):
        stored(target.test, 0)
    (root / "test_batch.bin").unlink()
    with pytest.raises(DataError, match=r"test_batch\.bin: listed but cannot be read"):
        stored(target.test, 0)


def test_plain_folders_come_last() -> None:
    assert list(LAYOUTS)[-2:] == ["folders", "classes"]


def test_parquet_keys_and_order(tmp_path: Path, home: Path) -> None:
    root = published.parquet(tmp_path / "set", {"train": 25, "test": 4}, names=["cat", "dog"], shards=2)
    target = open_target(root, home)
    whole = sorted(target.train.positions.tolist() + target.validation.positions.tolist())
    assert whole == list(range(25))
    assert "train/image_10" in target.train.collection.keys.to_pylist()
    for split in (target.train, target.validation, target.test):
        assert split is not None
        for row, position in enumerate(split.positions.tolist()):
            number = int(str(split.collection.keys[position]).rpartition("_")[2])
            assert np.array_equal(stored(split, row), pixels(number))
            assert split.labels[row] == number % 2
    copy = pickle.loads(pickle.dumps(target.train.collection))
    assert copy.read(7) == target.train.collection.read(7)


def test_parquet_without_paths_counts_rows(tmp_path: Path, home: Path) -> None:
    for number, paths in enumerate((lambda _: None, lambda _: "image.jpg")):
        root = published.parquet(tmp_path / str(number), {"train": 6}, names=["a", "b"], paths=paths)
        target = open_target(root, home)
        assert target.train.collection.keys.to_pylist()[3] == "train/00000003"
        assert target.test is None


def test_parquet_without_a_description(tmp_path: Path, home: Path) -> None:
    texts = published.parquet(tmp_path / "texts", {"train": 6}, label=lambda row: "dog" if row % 2 else "cat")
    assert open_target(texts, home).classes == ("cat", "dog")
    numbers = published.parquet(tmp_path / "numbers", {"train": 24}, label=lambda row: row % 12)
    assert open_target(numbers, home).classes == tuple(str(number) for number in range(12))


def test_parquet_whose_test_has_no_labels(tmp_path: Path, home: Path) -> None:
    root = published.parquet(tmp_path / "set", {"train": 6}, names=["a", "b"])
    published.parquet(root, {"test": 4}, names=["a", "b"], label=lambda _: -1)
    target = open_target(root, home)
    assert target.test is None
    assert "test: left out, it has no labels" in target.note
    published.parquet(root, {"test": 4}, names=["a", "b"], label=lambda row: row % 3 - 1)
    with pytest.raises(DataError, match="test rows without a label"):
        open_target(root, home)


def test_validation_of_parquet_is_the_test_where_the_set_has_no_other(home: Path) -> None:
    root = home / "datasets" / "food101"
    published.parquet(root / "data", {"train": 10, "validation": 4}, names=["pie", "soup"])
    known, path = open_target("food101", home), open_target(root, home)
    assert sizes(known) == (10, 4)
    assert "test: the published validation images" in known.note
    assert path.test is None
    assert len(path.validation) == 4


def test_what_is_wrong_with_parquet_is_named(tmp_path: Path, home: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    root = published.parquet(tmp_path / "shard", {"train": 9}, names=["a", "b"], shards=3)
    (root / "train-00001-of-00003.parquet").unlink()
    with pytest.raises(DataError, match=r"files are missing: 1 of 3 \(train-00001-of-00003\)"):
        open_target(root, home)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "train.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match="not a whole parquet file"):
        open_target(tmp_path / "cut", home)
    for name, columns, words in (
        ("none", {"text": ["x"], "label": [0]}, "no column of images"),
        ("unlabelled", {"image": [b"x"], "group": [0]}, "no label column among image, group"),
    ):
        (tmp_path / name).mkdir()
        pq.write_table(pa.table(columns), tmp_path / name / "train.parquet")
        with pytest.raises(DataError, match=words):
            open_target(tmp_path / name, home)
    beyond = published.parquet(tmp_path / "beyond", {"train": 4}, names=["a", "b"], label=lambda row: row)
    with pytest.raises(DataError, match="label 3, but 2 class names"):
        open_target(beyond, home)


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("train.parquet", ()),
        ("bloodmnist.npz", ()),
        ("batches.meta", ("data_batch_1", "test_batch")),
        ("GTSRB/GT-final_test.csv", ("GTSRB/Training/0/a.ppm", "GTSRB/Final_Test/Images/b.ppm")),
        ("images.txt", ("train_test_split.txt", "classes.txt", "image_class_labels.txt", "images/a/b.jpg")),
    ],
)
def test_a_pipe_in_a_target_is_never_waited_for(name: str, others: tuple[str, ...], tmp_path: Path, home: Path) -> None:
    for place in (name, *others):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(b"1 x\n")
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(PladaError, match=r"pipe|no such layout"):
        open_target(tmp_path, home)
