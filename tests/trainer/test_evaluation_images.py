"""What a model is tested on, in every form that a folder of test images has; and pictures and models that are none."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import plada
from plada.cli import app
from plada.errors import DataError, RequestError
from plada.networks.network import NetworkSpec, build_network, seed_everything
from plada.networks.recipe import Recipe
from plada.trainer.evaluation_images import open_test, with_classes
from plada.trainer.model_file import read_card, save_model
from plada.trainer.network_student import NetworkStudent

OWN = ("dim", "mist", "bright")  # not in the order of folders, and one that the target has not


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model of three classes, with random weights."""
    seed_everything(0)
    network = build_network(NetworkSpec(name="small_cnn"), classes=3)
    NetworkStudent(network, OWN, Recipe()).save(tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def counts(place: str | Path, *, held_out: bool = False) -> dict[str, int]:
    """How many images of each class are tested."""
    target = with_classes(OWN, open_test(place, Path("/none"), held_out=held_out), whose="the model's")
    assert target.test is not None
    assert target.classes == OWN
    keys = target.test.collection.keys.to_pylist()
    for position, label in zip(target.test.positions, target.test.labels, strict=True):
        assert OWN[label] in keys[position]
    return dict(zip(OWN, np.bincount(target.test.labels, minlength=3).tolist(), strict=True))


def test_every_form_of_a_folder_of_test_images(target_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, five, ten = {"dim": 5, "mist": 0, "bright": 5}, target_folder / "test", target_folder / "train"
    assert counts(target_folder) == counts(five) == counts(f"file://{five}") == whole
    assert counts(ten) == {"dim": 10, "mist": 0, "bright": 10}
    assert counts(ten, held_out=True) == {"dim": 2, "mist": 0, "bright": 2}
    monkeypatch.chdir(target_folder)
    assert counts(".") == counts("test") == whole
    monkeypatch.chdir(five)
    assert counts(".") == whole
    monkeypatch.chdir("/")
    shutil.rmtree(five / "dim")  # a class alone
    assert counts(five) == {"dim": 0, "mist": 0, "bright": 5}
    shutil.rmtree(ten)
    assert counts(target_folder) == {"dim": 0, "mist": 0, "bright": 5}
    assert counts(target_folder, held_out=True) == counts(target_folder)  # as `train --target` does
    note = open_test(target_folder, Path("/none"), held_out=False).note
    assert note == "test: test/; there is no train/"
    five.rename(target_folder / "val")
    assert counts(target_folder) == {"dim": 0, "mist": 0, "bright": 5}


def test_what_is_no_test_is_refused(model: Path, target_folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(target_folder / "test")
    with pytest.raises(RequestError, match=r"has no test images\. Add a folder test/CLASS/"):
        plada.evaluate(model, target=target_folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match="a target is a folder with"):
        open_test(tmp_path / "empty", tmp_path, held_out=False)
    (target_folder / "train" / "dim").rename(target_folder / "train" / "Dim")
    target = open_test(target_folder / "train", tmp_path, held_out=False)
    with pytest.raises(DataError, match=r"its 2 classes \(Dim, bright\) are not the model's 3 .*: unknown Dim\."):
        with_classes(OWN, target, whose="the model's")


def test_evaluating_by_name(model: Path, target_folder: Path) -> None:
    done = CliRunner().invoke(app, ["evaluate", str(model), "--target", str(target_folder / "test")])
    assert done.exit_code == 0, done.output
    assert "test: all images of the class folders" in done.stderr
    assert "no image of 1 of the model's 3 classes (mist)" in done.stderr
    found = plada.evaluate(model, target=target_folder / "test").evaluation
    assert [(each.name, each.images) for each in found.classes] == [("dim", 5), ("mist", 0), ("bright", 5)]


def test_pictures_that_are_none_end_with_status_5(model: Path, target_folder: Path, tmp_path: Path) -> None:
    good, text, empty, pipe = (target_folder / "test/dim/0.png", *(tmp_path / name for name in ("a.txt", "b.png", "c")))
    text.write_text("words")
    empty.write_bytes(b"")
    os.mkfifo(pipe)
    words = ["predict", *map(str, (text, good, empty, pipe)), "--model", str(model)]
    done = CliRunner().invoke(app, [*words, "--quiet"])
    assert done.exit_code == 5
    shown = done.stdout.splitlines()
    assert [" cannot be read: " in line for line in shown] == [True, False, True, True]
    assert "a pipe, which may have no end" in shown[-1]
    assert done.stderr.startswith("plada: predict: 3 of 4 pictures cannot be read, such as ")
    as_json = CliRunner().invoke(app, [*words, "--json", "--quiet"])
    assert as_json.exit_code == json.loads(as_json.stderr)["code"] == 5
    assert [bool(each["classes"]) for each in json.loads(as_json.stdout)["predictions"]] == [False, True, False, False]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(bad: float, model: Path, target_folder: Path) -> None:
    import safetensors.torch

    state: Any = safetensors.torch.load_file(model)
    state["head.weight"][0, 0] = bad
    save_model(model, state, read_card(model))
    with pytest.raises(DataError, match=r"head.weight holds weights that are not numbers|its answers are not finite"):
        plada.predict(target_folder / "test", model=model)
    with pytest.raises(DataError, match=r"head.weight holds weights that are not numbers|logits that are not finite"):
        plada.evaluate(model, target=target_folder)
