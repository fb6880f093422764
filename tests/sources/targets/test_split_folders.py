"""Parts of a split under the names that people give them: understood, or refused; never taken for classes."""

from pathlib import Path

import pytest

from plada.errors import DataError, RequestError
from plada.sources.registry import open_target
from plada.sources.targets.split_folders import read_name
from plada.sources.targets.target import Target
from tests.conftest import picture


def fill(root: Path, *folders: str, count: int = 5) -> Path:
    for number, folder in enumerate(folders):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for image in range(count):
            picture(number * count + image, (8, 8)).save(root / folder / f"{image}.png")
    return root


def sizes(target: Target) -> tuple[int, int, int]:
    test = len(target.test) if target.test is not None else 0
    return len(target.train), len(target.validation), test


def parts(*names: str) -> list[str]:
    return [f"{name}/{label}" for name in names for label in ("cat", "dog")]


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (parts("Train", "Test"), (8, 2, 10)),
        (parts("TRAIN", "VAL", "TEST"), (10, 10, 10)),
        (parts("training_set", "test_set"), (8, 2, 10)),
        (parts("training_set/training_set", "test_set/test_set"), (8, 2, 10)),
        ([*parts("seg_train/seg_train", "seg_test/seg_test"), "seg_pred/seg_pred"], (8, 2, 10)),
        (parts("Training", "Testing"), (8, 2, 10)),
        (parts("Training", "Test"), (8, 2, 10)),
        (parts("TrainingSet", "TestImages"), (8, 2, 10)),
        (parts("train", "dev", "test"), (10, 10, 10)),
        (parts("train", "eval"), (8, 2, 10)),
        (parts("train", "eval", "test"), (10, 10, 10)),
        (parts("training", "validation", "evaluation"), (10, 10, 10)),
        (parts("train2017", "val2017"), (10, 10, 0)),
        (parts("ILSVRC2012_img_train", "ILSVRC2012_img_val"), (10, 10, 0)),
        (["train/cat", "train/dog", "test/cat", "test/dog", "train_masks/a", "test_masks/a"], (8, 2, 10)),
        ([*parts("train", "test"), "__MACOSX/train/cat"], (8, 2, 10)),
        ([*parts("train", "test"), "train/__MACOSX"], (8, 2, 10)),
    ],
)
def test_known_parts_are_understood(
    folders: list[str], expected: tuple[int, int, int], tmp_path: Path, home: Path
) -> None:
    target = open_target(fill(tmp_path / "set", *folders), home)
    assert target.classes == ("cat", "dog")
    assert sizes(target) == expected


def test_what_was_made_of_unusual_names_is_said(tmp_path: Path, home: Path) -> None:
    target = open_target(fill(tmp_path / "set", *parts("seg_train", "seg_test"), "seg_pred"), home)
    assert "train: seg_train/; test: seg_test/; left out: seg_pred/" in target.note
    assert "left out" not in open_target(fill(tmp_path / "plain", *parts("train", "test")), home).note


def test_classes_alone_without_the_litter_of_archives(tmp_path: Path, home: Path) -> None:
    target = open_target(fill(tmp_path / "set", "cat", "dog", "__MACOSX"), home)
    assert target.classes == ("cat", "dog")
    # What a word says beside others is no part.
    target = open_target(fill(tmp_path / "words", "bullet_train", "test_tube", "cat", "training shoe"), home)
    assert target.classes == ("bullet_train", "cat", "test_tube", "training shoe")


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (parts("train1", "test1")[:2], "train1/ looks like a part of a split and is not understood"),
        ([*parts("train"), "test1"], "test1/ looks like a part of a split and is not understood"),
        (parts("test", "val"), "there is no train/"),
        (parts("Train", "training"), "Train/ and training/ are both the train part"),
        (parts("train", "test", "val", "eval"), "eval/ is a third part beside test/ and val/"),
    ],
)
def test_what_looks_like_a_part_and_is_not_understood_is_refused(
    folders: list[str], said: str, tmp_path: Path, home: Path
) -> None:
    with pytest.raises(RequestError, match=said):
        open_target(fill(tmp_path / "set", *folders), home)


def test_classes_that_hold_folders_are_said_or_refused(tmp_path: Path, home: Path) -> None:
    nested = fill(tmp_path / "nested", "cat/old", "cat/young", "dog/old")
    assert "2 class folder(s) hold folders, such as cat/old/" in open_target(nested, home).note
    for name, folders in (
        ("parts", parts("first", "second")),
        ("masks", ["sick/images", "sick/masks", "well/images", "well/masks"]),
        ("within", ["train/a/cat", "train/a/dog", "train/b/cat", "train/b/dog"]),
    ):
        with pytest.raises(DataError, match="both hold the folders"):
            open_target(fill(tmp_path / name, *folders), home)


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("trainset", "train", ()),
        ("testData", "test", ()),
        ("Validation", "validation", ()),
        ("trainval", "train", ()),
        ("train-clean-100", "train", ("clean", "100")),
        ("train_test", None, ()),
        ("cat", None, ("cat",)),
        ("trainer", None, ("trainer",)),
        ("contest", None, ("contest",)),
    ],
)
def test_names_are_read_by_words(name: str, kind: str | None, words: tuple[str, ...]) -> None:
    assert read_name(name) == (kind, words)
