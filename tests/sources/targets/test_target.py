"""Targets: classes, splits, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from plada.errors import DataError, RequestError, UnknownName
from plada.sources.formats.builtin import open_digits
from plada.sources.registry import open_target
from plada.sources.targets.target import open_folder_target
from tests.conftest import picture


def test_digits_have_their_fixed_split() -> None:
    digits = open_digits()
    assert digits.test is not None
    assert [len(split) for split in (digits.train, digits.validation, digits.test)] == [898, 300, 599]
    parts = [set(split.positions.tolist()) for split in (digits.train, digits.validation, digits.test)]
    assert set().union(*parts) == set(range(1797))
    assert all(position % 3 == 2 for position in parts[2])
    assert digits.classes == tuple("0123456789")
    assert digits.recipe["mirror"] is False


def test_a_folder_target(target_folder: Path) -> None:
    target = open_folder_target(target_folder)
    assert target.test is not None
    assert (target.name, target.classes) == ("shades", ("bright", "dim"))
    assert [len(split) for split in (target.train, target.validation, target.test)] == [16, 4, 10]
    assert np.bincount(target.validation.labels).tolist() == [2, 2]
    again = open_folder_target(target_folder)
    assert again.validation.positions.tolist() == target.validation.positions.tolist()
    other = open_folder_target(target_folder, seed=1)
    assert other.validation.positions.tolist() != target.validation.positions.tolist()


def test_a_validation_folder_is_used(target_folder: Path) -> None:
    shutil.copytree(target_folder / "test", target_folder / "val")
    target = open_folder_target(target_folder)
    assert (len(target.train), len(target.validation)) == (20, 10)


def test_a_class_with_one_image_keeps_it_for_training(target_folder: Path) -> None:
    for path in sorted((target_folder / "train" / "dim").iterdir())[1:]:
        path.unlink()
    target = open_folder_target(target_folder)
    assert np.bincount(target.train.labels).tolist() == [8, 1]


def test_a_target_without_test_images(target_folder: Path) -> None:
    shutil.rmtree(target_folder / "test")
    assert open_folder_target(target_folder).test is None


def test_what_is_no_target(target_folder: Path, home: Path) -> None:
    with pytest.raises(RequestError, match="there is no train/"):
        open_folder_target(target_folder / "train" / "dim")
    with pytest.raises(RequestError, match="no such layout here"):
        open_target(target_folder / "train" / "dim", home)
    with pytest.raises(RequestError, match="there is none"):
        open_target(target_folder / "other", home)
    with pytest.raises(RequestError, match="must lie on this machine"):
        open_target("s3://bucket/target", home)
    (target_folder / "train" / "empty").mkdir()
    with pytest.raises(DataError, match="no image of class 'empty'"):
        open_folder_target(target_folder)
    (target_folder / "train" / "empty").rmdir()
    (target_folder / "test" / "other").mkdir()
    picture(0).save(target_folder / "test" / "other" / "x.png")
    with pytest.raises(DataError, match="class 'other' has no training images"):
        open_folder_target(target_folder)
    picture(0).save(target_folder / "train" / "loose.png")
    with pytest.raises(DataError, match="'loose' lies outside any class folder"):
        open_folder_target(target_folder)
    with pytest.raises(UnknownName, match="did you mean 'digits'"):
        open_target("digit", home)


def food(root: Path) -> Path:
    for number in range(12):
        path = root / "images" / ("pie", "soup")[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(path)
    (root / "meta").mkdir()
    lines = [f"{('pie', 'soup')[number % 2]}/{number}" for number in range(12)]
    (root / "meta" / "train.txt").write_text("\n".join(lines[:8]) + "\n")
    (root / "meta" / "test.txt").write_text("\n".join(lines[8:]) + "\n")
    return root


def test_food101_as_published(tmp_path: Path, home: Path) -> None:
    target = open_target(food(tmp_path / "food-101"), home)
    assert target.test is not None
    assert target.classes == ("pie", "soup")
    assert (len(target.train) + len(target.validation), len(target.test)) == (8, 4)
    assert [str(target.test.collection.keys[int(p)]) for p in target.test.positions] == [
        "pie/8",
        "soup/9",
        "pie/10",
        "soup/11",
    ]
    assert target.test.labels.tolist() == [0, 1, 0, 1]
    (tmp_path / "food-101" / "images" / "pie" / "8.jpg").unlink()
    with pytest.raises(DataError, match=r"test\.txt names pie/8"):
        open_target(tmp_path / "food-101", home)


def test_what_a_target_passes_over_is_said(target_folder: Path) -> None:
    split = next(path for path in (target_folder / "test").iterdir() if path.is_dir())
    (split / "a.jfif").write_bytes(b"x")
    assert "test: passed over 1 .jfif, such as" in open_folder_target(target_folder).note
    (target_folder / "train" / "new").mkdir()
    (target_folder / "train" / "new" / "b.avif").write_bytes(b"x")
    with pytest.raises(DataError, match=r"no image of class 'new' \(.*passed over 1 \.avif, such as new/b\.avif"):
        open_folder_target(target_folder)
