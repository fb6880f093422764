"""The registry: facts that add up, places that are looked in, options, and counts that are said."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from plada.cli import app
from plada.common.units import group_digits
from plada.errors import DataError, RequestError, UnknownName
from plada.sources.catalogue.counts import class_count, source_count_note, target_count_note
from plada.sources.catalogue.datasets import list_datasets
from plada.sources.catalogue.known import KNOWN
from plada.sources.catalogue.places import find_target, looked_in
from plada.sources.collection import Collection
from plada.sources.registry import known_counts_note, open_source, open_target
from plada.sources.targets.layouts import LAYOUTS
from plada.sources.targets.target import Split, Target, open_folder_target, split_off
from tests.conftest import picture
from tests.sources import published


def test_every_name_of_the_plan_is_there() -> None:
    assert set(KNOWN) == {
        "glyphs", "digits", "imagenet1k", "imagenet21k", "imagenet21k-winter21", "tiny-imagenet", "food101", "cifar10",
        "cifar100", "caltech101", "cub200", "dtd", "fgvc-aircraft", "flowers102", "pets", "places365", "resisc45", "stl10",
        "eurosat", "gtsrb", "bloodmnist", "dermamnist", "retinamnist", "nct-crc-he",
    }  # fmt: skip


def test_counts_are_those_of_the_papers_table() -> None:
    table = {
        "caltech101": (8_677, None), "cifar10": (60_000, 10_000), "places365": (1_839_960, 36_500), "cub200": (11_788, None),
        "fgvc-aircraft": (10_000, 3_333), "food101": (101_000, 25_250), "flowers102": (8_189, 6_149),
        "pets": (7_349, 3_669), "resisc45": (31_500, None),
    }  # fmt: skip
    for name, (images, test) in table.items():
        assert KNOWN[name].images == images
        assert test is None or KNOWN[name].splits["test"] == test
    assert KNOWN["imagenet21k"].images == 14_197_122
    assert KNOWN["imagenet1k"].images == 1_281_167
    # DTD is listed there with one published third less.
    assert KNOWN["dtd"].images - KNOWN["dtd"].splits["validation"] == 3_760


@pytest.mark.parametrize("name", KNOWN)
def test_an_entry_is_whole(name: str) -> None:
    known = KNOWN[name]
    assert known.role in ("reference", "target", "both")
    assert known.paper_split in ("", "same", "pooled", "train-only")
    assert "all" not in known.splits or len(known.splits) == 1
    assert known.licence and known.obtain and known.split and known.figures and known.expects
    assert set(known.layouts) <= set(LAYOUTS)
    assert known.built_in or known.role == "reference" or known.layouts
    assert known.classes is not None or name == "glyphs"


def test_places_are_tried_in_order(home: Path) -> None:
    places = [str(place.relative_to(home)) for place in looked_in(home, "food101")]
    assert places == ["datasets/food101/food-101", "datasets/food-101", "datasets/food101"]
    assert find_target(home, "food101") is None
    published.food101(home / "datasets" / "food-101")  # where torchvision unpacks it
    assert find_target(home, "food101") == (home / "datasets" / "food-101", "food101")
    shutil.move(home / "datasets" / "food-101", home / "datasets" / "food101")
    assert open_target("food101", home).name == "food101"


def test_a_registered_name_as_plain_folders(home: Path) -> None:
    published.folders(home / "datasets" / "cifar10", {"train": 4, "test": 2}, ("cat", "dog"), ".png")
    target = open_target("cifar10", home)
    assert (len(target.train) + len(target.validation), len(target.test or ())) == (8, 4)
    assert "8 of 50 000 training images, 4 of 10 000 test images, 2 of 10 classes" in target.note


def test_validation_folders_that_are_the_test(home: Path, tmp_path: Path) -> None:
    root = published.folders(home / "datasets" / "places365", {"train": 4, "val": 2}, ("airfield", "beach"))
    known, path = open_target("places365", home), open_target(root, home)
    assert (len(known.test or ()), "test: the published validation images" in known.note) == (4, True)
    assert (path.test, len(path.validation)) == (None, 4)


def test_of_both_the_training_images_are_the_reference(home: Path) -> None:
    published.tiny_imagenet(home / "datasets" / "tiny-imagenet" / "tiny-imagenet-200")
    reference = open_source("tiny-imagenet", home)
    assert (len(reference), str(reference.keys[0])) == (8, "n01/images/n01_0")
    assert len(open_target("tiny-imagenet", home).test or ()) == 3


def test_the_official_split_and_the_papers(home: Path) -> None:
    published.cub(home / "datasets" / "cub200" / "CUB_200_2011")
    official, again = open_target("cub200", home), open_target("cub200:split=official", home)
    assert official.test is not None and again.test is not None
    assert official.test.positions.tolist() == again.test.positions.tolist()
    assert len(official.test) == 10
    paper, other = open_target("cub200:split=paper", home), open_target("cub200:split=paper,seed=5", home)
    assert paper.test is not None and other.test is not None
    assert len(paper.test) == len(other.test) == 4  # 20 % of all 20
    assert paper.test.positions.tolist() != other.test.positions.tolist()
    assert "as in the paper: all images pooled" in paper.note
    parts = [part.positions for part in (paper.train, paper.validation, paper.test)]
    assert sorted(np.concatenate(parts).tolist()) == list(range(20))


def test_the_paper_leaves_validation_images_of_dtd_out(home: Path) -> None:
    published.dtd(home / "datasets" / "dtd" / "dtd")
    official, paper = open_target("dtd", home), open_target("dtd:split=paper", home)
    assert (len(official.train), len(official.validation), len(official.test or ())) == (4, 4, 4)
    assert (len(paper.train) + len(paper.validation), len(paper.test or ())) == (4, 4)
    assert set(paper.train.positions.tolist()) < set(official.train.positions.tolist())


def test_the_papers_draw_needs_one_folder(home: Path) -> None:
    published.folders(home / "datasets" / "cub200", {"train": 5, "test": 5}, ("a", "b"))
    with pytest.raises(RequestError, match="must lie in one folder as published"):
        open_target("cub200:split=paper", home)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("cub200:split=mine", "there are split=official and split=paper"),
        ("resisc45:split=official", "has no official split"),
        ("gtsrb:split=paper", "the paper's split is not known"),
        ("cub200:partition=2", "no option 'partition' for this set"),
        ("cub200:seed=x", "seed is a whole number"),
        ("cub200:seed=-1", "seed is a whole number from 0 on"),
        ("cub200:seed", "OPTION=VALUE"),
        ("digits:seed=1", "takes no options"),
        ("glyphs", "a reference, no target"),
        ("imagenet21k", "a reference, no target"),
        ("pets", r"not on this machine; looked in .*pets\. Put it there .* From: Oxford VGG"),
        ("stl10", "is there, but not in its layout"),
    ],
)
def test_what_a_name_cannot_be_asked_for(spec: str, words: str, home: Path) -> None:
    published.cub(home / "datasets" / "cub200")
    published.folders(home / "datasets" / "resisc45", {"": 5}, ("airplane", "wetland"))
    published.gtsrb(home / "datasets" / "gtsrb")
    published.image(home / "datasets" / "stl10" / "images" / "x.png", 0)
    with pytest.raises(RequestError, match=words):
        open_target(spec, home)


def test_a_colon_in_a_path_is_no_option(tmp_path: Path, home: Path) -> None:
    root = published.folders(tmp_path / "a:seed=3", {"train": 5}, ("x", "y"))
    assert open_target(root, home).name == "a:seed=3"


def unsplit(root: Path, counts: dict[str, int]) -> Path:
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            picture(number, (8, 8)).save(root / name / f"{number}.png")
    return root


def test_class_folders_alone_are_split(tmp_path: Path, home: Path) -> None:
    root = unsplit(tmp_path / "set", {"a": 20, "b": 10, "c": 2})
    one, again, other = open_target(root, home), open_target(root, home), open_target(root, home, seed=1)
    for target in (one, again, other):
        assert target.test is not None
        assert np.bincount(target.test.labels).tolist() == [4, 2, 1]
        parts = [part.positions for part in (target.train, target.validation, target.test)]
        assert sorted(np.concatenate(parts).tolist()) == list(range(32))
    assert one.test is not None and again.test is not None and other.test is not None
    assert one.test.positions.tolist() == again.test.positions.tolist()
    assert one.test.positions.tolist() != other.test.positions.tolist()
    assert "test: 20% of all images, split here, stratified, seed 0" in one.note
    assert "seed 1" in other.note


def test_what_is_not_split(tmp_path: Path) -> None:
    one = unsplit(tmp_path / "one", {"a": 3})
    with pytest.raises(RequestError, match="there is no train/"):
        open_folder_target(one)
    loose = unsplit(tmp_path / "loose", {"a": 3, "b": 3})
    picture(0).save(loose / "c.png")
    with pytest.raises(RequestError, match="there is no train/"):
        open_folder_target(loose)
    tested = unsplit(tmp_path / "tested", {"test": 3, "b": 3})
    with pytest.raises(RequestError, match="there is no train/"):
        open_folder_target(tested)
    empty = unsplit(tmp_path / "empty", {"a": 3, "b": 3, "c": 0})
    with pytest.raises(DataError, match="no image of class 'c'"):
        open_folder_target(empty)


@pytest.mark.parametrize(("name", "total", "test"), [("caltech101", 8_677, 1_736), ("cub200", 11_788, 2_358)])
def test_own_splits_have_the_papers_sizes(name: str, total: int, test: int) -> None:
    classes = KNOWN[name].classes
    assert classes is not None
    labels = np.sort(np.random.default_rng(0).integers(0, classes, total))
    split = Split(open_digits_collection(), np.arange(total), labels)
    rest, held = split_off(split, classes)
    assert (len(rest), len(held)) == (total - test, test)
    wanted, got = 0.2 * np.bincount(labels), np.bincount(held.labels)
    assert np.abs(wanted - got).max() < 1.0


def open_digits_collection() -> Collection:
    return open_source("digits", Path("unused"))


def target_of(train: int, validation: int, test: int | None, classes: int) -> Target:
    def split(count: int) -> Split:
        return Split(open_digits_collection(), np.zeros(count, np.int64), np.zeros(count, np.int64))

    names = tuple(str(number) for number in range(classes))
    return Target("x", names, split(train), split(validation), None if test is None else split(test))


def test_counts_of_targets() -> None:
    gtsrb = KNOWN["gtsrb"]
    assert target_count_note(gtsrb, target_of(30_000, 9_209, 12_630, 43)) == ""
    assert (
        target_count_note(gtsrb, target_of(26_640, 0, 12_630, 43))
        == "counts of torchvision's archive GTSRB-Training_fixed"
    )
    assert (
        target_count_note(gtsrb, target_of(26_641, 0, 12_630, 43))
        == "not the known counts: 26 641 of 39 209 training images"
    )
    assert target_count_note(gtsrb, target_of(39_209, 0, None, 42)) == (
        "not the known counts: 0 of 12 630 test images, 42 of 43 classes"
    )
    caltech = KNOWN["caltech101"]
    assert target_count_note(caltech, target_of(5_000, 1_941, 1_736, 101)) == ""
    assert (
        target_count_note(caltech, target_of(5_000, 1_941, 1_737, 101)) == "not the known counts: 8 678 of 8 677 images"
    )


def test_counts_of_references() -> None:
    winter = KNOWN["imagenet21k-winter21"]
    assert source_count_note(winter, 13_153_500, 19_167) == ""
    assert "timm/imagenet-w21-wds" in source_count_note(winter, 13_151_276, None)
    assert source_count_note(winter, 13_153_500, 19_166) == "not the known counts: 19 166 of 19 167 classes"
    assert source_count_note(KNOWN["imagenet1k"], 40_000, 200) == (
        "not the known counts: 40 000 of 1 281 167 images, 200 of 1 000 classes"
    )
    assert source_count_note(KNOWN["glyphs"], 20_000, None) == ""


def test_classes_are_counted_from_sorted_keys() -> None:
    keys = sorted([f"n{label}/{number}" for label in (1, 10, 2) for number in range(5)] + ["n1.x/0", "n1-y/a/b", "é/1"])
    assert class_count(pa.array(keys)) == 6
    assert class_count(pa.chunked_array([keys[:4], keys[4:]])) == 6
    assert class_count(pa.array(["a", "b"])) is None
    assert class_count(pa.array([], pa.string())) == 0


def test_the_list_says_what_is_here(home: Path) -> None:
    published.food101(home / "datasets" / "food101")
    published.image(home / "datasets" / "stl10" / "images" / "x.png", 0)
    found = {entry.name: entry for entry in list_datasets(home)}
    assert list(found) == list(KNOWN)
    assert (found["food101"].present, found["food101"].layout, found["food101"].state()) == (True, "food101", "here")
    assert (found["food101"].found_images, found["food101"].problem) == (None, "")
    assert (found["stl10"].present, found["stl10"].state()) == (False, "not in its layout")
    assert "a folder is here, but not in its layout. Expected: train_X.bin" in found["stl10"].problem
    assert (found["digits"].present, found["digits"].path, found["pets"].present) == (True, None, False)
    assert found["pets"].path == str(home / "datasets" / "pets")


def test_a_check_counts(home: Path, pictures: Path) -> None:
    published.food101(home / "datasets" / "food101")
    published.cub(home / "datasets" / "cub200")
    (home / "datasets" / "cub200" / "classes.txt").unlink()
    shutil.copytree(pictures, home / "datasets" / "imagenet21k")
    found = {entry.name: entry for entry in list_datasets(home, check=True)}
    food, cub, imagenet = (found[name] for name in ("food101", "cub200", "imagenet21k"))
    assert (food.found_images, food.found_classes, food.counted) == (12, 2, "files")
    assert (
        food.problem == "not the known counts: 8 of 75 750 training images, 4 of 25 250 test images, 2 of 101 classes"
    )
    assert food.state() == "here, 12 counted, see below"
    assert (imagenet.found_images, imagenet.found_classes) == (24, 3)
    assert "24 of 14 197 122 images, 3 of 21 841 classes" in imagenet.problem
    assert "classes.txt: missing" in cub.problem
    assert cub.found_images is None


def test_a_stored_manifest_tells_the_count(home: Path, pictures: Path) -> None:
    root = home / "datasets" / "imagenet1k"
    shutil.copytree(pictures, root)
    folder = home / "references" / "imagenet1k"
    folder.mkdir(parents=True)
    (folder / "reference.json").write_text(json.dumps({"location": str(root), "images": 1_281_166}))
    (home / "references" / "other").mkdir()
    (home / "references" / "other" / "reference.json").write_text("{")
    entry = list_datasets(home, name="imagenet1k")[0]
    assert (entry.found_images, entry.counted) == (1_281_166, "manifest")
    assert entry.problem == "not the known counts: 1 281 166 of 1 281 167 images"


def test_one_of_the_list(home: Path) -> None:
    entry = list_datasets(home, name="cub200")[0]
    details = entry.details()
    assert details["images"] == "train 5 994, test 5 794"
    assert "its own 80/20" in details["the paper's"]
    assert details["looks in"].splitlines()[0].endswith("cub200/CUB_200_2011")
    assert {"licence", "obtain", "official split", "expects"} <= set(details)
    assert json.loads(json.dumps(entry.to_dict()))["splits"] == {"train": 5_994, "test": 5_794}
    with pytest.raises(UnknownName, match="did you mean 'cub200'"):
        list_datasets(home, name="cub20")


def test_a_reference_by_name_that_is_not_here(home: Path) -> None:
    with pytest.raises(RequestError, match="imagenet21k-winter21: not on this machine"):
        open_source("imagenet21k-winter21", home)


def test_an_index_of_a_part_of_a_set_says_so(home: Path, pictures: Path) -> None:
    shutil.copytree(pictures, home / "datasets" / "imagenet1k")
    said = CliRunner().invoke(app, ["index", "imagenet1k", "--encoder", "gradients", "--home", str(home), "--quiet"])
    assert said.exit_code == 0
    assert "imagenet1k: not the known counts: 24 of 1 281 167 images, 3 of 1 000 classes" in said.stderr
    assert known_counts_note("imagenet1k", open_source("imagenet1k", home)).startswith("not the known counts")
    assert known_counts_note(pictures, open_source(pictures, home)) == ""
    assert known_counts_note("glyphs:count=5", open_source("glyphs:count=5", home)) == ""
    assert list_datasets(home, name="imagenet1k")[0].counted == "manifest"


def test_the_commands_say_what_the_list_says(home: Path) -> None:
    published.food101(home / "datasets" / "food101")
    listed = CliRunner().invoke(app, ["datasets", "--check", "--home", str(home)]).stdout
    assert max(map(len, (line for line in listed.splitlines() if line[:1] in "│┃"))) <= 100
    assert "here, 12 counted, see below" in listed
    assert "food101: not the known counts: 8 of 75 750 training images" in listed
    one = CliRunner().invoke(app, ["datasets", "food101", "--home", str(home)]).stdout
    assert "ETH Zurich" in one and "Foodspotting" in one
    assert CliRunner().invoke(app, ["datasets", "food", "--home", str(home)]).exit_code == 2


def test_digits_in_groups() -> None:
    assert [group_digits(count) for count in (7, 1_000, 14_197_122)] == ["7", "1 000", "14 197 122"]


@pytest.mark.parametrize(
    ("name", "said"), [("train/data-0.arrow", r"load_from_disk\(FOLDER\)\.to_parquet"), ("x.tar.gz", "unpack it first")]
)
def test_a_target_that_is_packed_is_named(name: str, said: str, tmp_path: Path, home: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(RequestError, match=rf"there is no such layout here \(.*{name}: .*{said}"):
        open_target(tmp_path if "arrow" not in name else tmp_path / "train", home)
