"""A client from the payload to a model: students of every kind, what they are worth, and everything that can be wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import plada
from plada.cli import app
from plada.common.files import home_directory
from plada.errors import DataError, ReferenceMismatch, RequestError, UnknownName, Unreadable
from plada.labeler.scores import margin
from plada.networks.data import load_images
from plada.networks.linear_head import STUDENT_PENALTY, fit_head
from plada.networks.network import NetworkSpec, read_safetensors
from plada.payload.payload import Payload
from plada.sources.formats.folder import FolderCollection
from plada.trainer.expand import expand
from plada.trainer.model_file import read_card, save_model
from plada.trainer.payload_images import PayloadImages, ReferenceCopy, open_payload_images
from plada.trainer.run import RunOptions, TrainingSummary, payload_digest

SMALL = NetworkSpec(name="test_resnet", image_size=32)
QUICK = {"epochs": 2, "batch_size": 8}


def payload_of(pictures: Path, positions: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> Payload:
    manifest = plada.open_images(pictures).manifest
    return Payload(positions, labels, classes, len(manifest), manifest.key_id, manifest.content_id)


@pytest.fixture
def sent(pictures: Path) -> Payload:
    positions = np.arange(0, 24, 2)
    return payload_of(pictures, positions, positions // 2 % 2, ("bright", "dim"))


@pytest.fixture
def model(sent: Payload, pictures: Path, tmp_path: Path) -> Path:
    plada.train(sent, reference=pictures, student=SMALL, recipe=QUICK, out=tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def test_the_card_says_what_the_model_is(model: Path, sent: Payload, pictures: Path) -> None:
    card = read_card(model)
    assert card["network"] == "test_resnet"
    assert card["classes"] == ["bright", "dim"]
    assert card["recipe"]["epochs"] == 2
    assert card["run"]["payload"] == payload_digest(sent)
    manifest = plada.open_images(pictures).manifest
    assert (card["run"]["key_id"], card["run"]["content_id"]) == (manifest.key_id.hex(), manifest.content_id.hex())
    assert card["run"]["images"] == 12
    assert {"plada", "python", "torch", "timm"} <= set(card["versions"])


def test_timm_loads_the_model(model: Path) -> None:
    import torch

    from plada.common.packages import import_timm
    from plada.trainer.model import load_model

    timm = import_timm()
    theirs = timm.create_model("test_resnet", num_classes=2, checkpoint_path=str(model)).eval()
    loaded, card = load_model(model), read_card(model)
    pixels = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3), dtype=np.uint8)
    floats = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    inputs = (floats - torch.tensor(card["mean"]).view(1, 3, 1, 1)) / torch.tensor(card["std"]).view(1, 3, 1, 1)
    with torch.inference_mode():
        np.testing.assert_allclose(loaded.logits(pixels), theirs(inputs).numpy(), atol=1e-5)


def test_predicting(model: Path, pictures: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"broken")
    found = plada.predict([pictures / "n0", broken, pictures / "n1" / "image_01.jpg"], model=model, top=5)
    assert [prediction.image for prediction in found] == [
        *map(str, sorted((pictures / "n0").iterdir())), str(broken), str(pictures / "n1" / "image_01.jpg"),
    ]  # fmt: skip
    assert "not an image" in found[-2].problem
    assert found[-2].best == ()
    for prediction in (*found[:-2], found[-1]):
        (first, p), (second, q) = prediction.best
        assert {first, second} == {"bright", "dim"}
        assert p >= q
        assert p + q == pytest.approx(1)
    alone = plada.predict(pictures / "n1" / "image_01.jpg", model=model)[0].best
    assert [name for name, _ in found[-1].best] == [name for name, _ in alone]
    assert found[-1].best[0][1] == pytest.approx(alone[0][1], abs=1e-5)
    with pytest.raises(RequestError, match="no such picture"):
        plada.predict(tmp_path / "none.png", model=model)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match="no picture was named"):
        plada.predict(tmp_path / "empty", model=model)
    with pytest.raises(RequestError, match="top = 0"):
        plada.predict(broken, model=model, top=0)


def test_files_that_are_no_models(tmp_path: Path, model: Path) -> None:
    import safetensors.numpy

    other = tmp_path / "other.safetensors"
    safetensors.numpy.save_file({"x": np.zeros(2)}, other)
    text = tmp_path / "text.safetensors"
    text.write_text("no model")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(model.read_bytes()[:-100])
    for path, error, words in (
        (other, DataError, "no card in it"),
        (text, DataError, "no card in it"),
        (cut, DataError, "its checksum is wrong"),
        (tmp_path / "none", RequestError, "cannot be read"),
    ):
        with pytest.raises(error, match=words):
            plada.predict(tmp_path, model=path)
    state = read_safetensors(model)
    state.pop(max(state))
    save_model(other, state, read_card(model))
    with pytest.raises(DataError, match="not those of test_resnet"):
        plada.predict(model.parent, model=other)


def test_evaluating(model: Path, target_folder: Path, tmp_path: Path) -> None:
    (target_folder / "test" / "dim" / "0.png").write_bytes(b"broken")
    found = plada.evaluate(model, target=target_folder, confusion=tmp_path / "c.png")
    assert (found.evaluation.images, found.evaluation.unreadable, found.target) == (9, 1, "shades")
    assert found.to_dict()["accuracy"] == found.evaluation.accuracy == found.evaluation.right / 9
    assert sum(map(sum, found.evaluation.confusion)) == 9
    with Image.open(tmp_path / "c.png") as picture:
        assert min(picture.size) > 60
    done = CliRunner().invoke(app, ["evaluate", str(model), "--target", str(target_folder)])
    assert done.exit_code == 0, done.output
    assert "1 test images do not count" in done.stdout
    assert "expected error" in done.stdout
    as_json = CliRunner().invoke(app, ["evaluate", str(model), "--target", str(target_folder), "--json"])
    assert json.loads(as_json.stdout.splitlines()[-1])["evaluation"]["right"] == found.evaluation.right
    shutil.rmtree(target_folder / "test")
    with pytest.raises(RequestError, match="has no test images"):
        plada.evaluate(model, target=target_folder)
    (target_folder / "train" / "third").mkdir()
    shutil.copy(target_folder / "train" / "dim" / "1.png", target_folder / "train" / "third")
    with pytest.raises(DataError, match=r"its 3 classes .* are not the model's 2"):
        plada.evaluate(model, target=target_folder)


def test_training_tells_what_the_student_is_worth(
    sent: Payload, pictures: Path, target_folder: Path, tmp_path: Path
) -> None:
    made = plada.train(
        sent, reference=pictures, student="small_cnn", recipe=QUICK, target=target_folder, confusion=tmp_path / "c.png"
    )
    assert made.evaluation is not None
    assert made.accuracy == made.evaluation.accuracy
    assert made.evaluation.low <= made.accuracy <= made.evaluation.high
    assert (tmp_path / "c.png").exists()
    with pytest.raises(RequestError, match="name a --target"):
        plada.train(sent, reference=pictures, student="small_cnn", confusion=tmp_path / "c.png")


def test_a_log_by_the_command(sent: Payload, pictures: Path, tmp_path: Path) -> None:
    sent.save(tmp_path / "x.plada")
    arguments = [
        "train",
        tmp_path / "x.plada",
        "--reference",
        pictures,
        "--student",
        "small_cnn",
        "--recipe",
        "epochs=3",
    ]
    arguments += ["--log", tmp_path / "loss.csv", "-o", tmp_path / "m"]
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    head, row = (tmp_path / "loss.csv").read_text().splitlines()
    assert head == "step,epoch,loss,learning_rate"
    assert row.split(",")[0] == "3"
    assert 0 < float(row.split(",")[2]) < 10


def test_predict_on_the_command_line(model: Path, pictures: Path) -> None:
    done = CliRunner().invoke(app, ["predict", str(pictures / "n0"), "--model", str(model), "--top", "1"])
    assert done.exit_code == 0, done.output
    assert len(done.stdout.splitlines()) == 8
    assert all(line.endswith("%") and ("bright" in line or "dim" in line) for line in done.stdout.splitlines())
    as_json = CliRunner().invoke(app, ["predict", str(pictures / "n0"), "--model", str(model), "--json", "--quiet"])
    last = json.loads(as_json.stdout.splitlines()[-1])
    assert len(last["predictions"]) == 8
    assert set(last["predictions"][0]["classes"][0]) == {"class", "probability"}


def test_a_linear_student_on_the_clients_own_index(glyph_home: Path, digits_file: Path, tmp_path: Path) -> None:
    sent = plada.read_payload(digits_file, home=glyph_home)
    out = tmp_path / "l.safetensors"

    def again(**more: object) -> TrainingSummary:
        return plada.train(sent, student="linear", target="digits", out=out, home=glyph_home, **more)  # type: ignore[arg-type]

    made = again(reference="glyphs:count=1500")
    assert made.images == len(sent)
    assert made.accuracy is not None
    assert made.accuracy > 0.8
    bytes_then = out.read_bytes()
    assert again().finished_before
    assert again(encoder="glyphs", run=RunOptions(restart=True)).accuracy == made.accuracy
    assert out.read_bytes() == bytes_then
    found = plada.evaluate(out, target="digits")
    assert found.evaluation.accuracy == made.accuracy
    by_encoder = again(encoder="gradients", run=RunOptions(restart=True))
    assert by_encoder.accuracy == pytest.approx(made.accuracy, abs=0.05)
    with pytest.raises(RequestError, match=r"holds another run: embeddings is gradients there, glyphs here"):
        again()
    with pytest.raises(RequestError, match="fitted at once"):
        again(recipe={"epochs": 3})
    with pytest.raises(UnknownName, match="unknown index or encoder 'glyfs'; did you mean 'glyphs'"):
        again(encoder="glyfs")


def test_a_linear_student_without_an_index(sent: Payload, pictures: Path) -> None:
    with pytest.raises(RequestError, match=r"no index here is of these images\. Name an encoder instead"):
        plada.train(sent, reference=pictures, student="linear")
    plada.index(pictures.parent / "pictures" / "n0", name="other", encoder="gradients")
    with pytest.raises(RequestError, match="index 'other' is of other images"):
        plada.train(sent, reference=pictures, student="linear", encoder="other")
    assert plada.train(sent, reference=pictures, student="linear", encoder="gradients").images == 12
    with pytest.raises(RequestError, match="--encoder is for --student linear, or --expand"):
        plada.train(sent, reference=pictures, student="small_cnn", encoder="gradients")


def test_more_images_than_were_sent(glyph_home: Path, digits_file: Path, tmp_path: Path) -> None:
    """The surest of each class by a linear student, none twice, and those that were sent as they were sent."""
    sent = plada.read_payload(digits_file, home=glyph_home)
    more = expand(sent, 7, home=glyph_home)
    assert more is not None
    wide = more.labels
    same = np.isin(wide.positions, sent.positions)
    assert np.array_equal(wide.positions[same], sent.positions)
    assert np.array_equal(wide.labels[same], sent.labels)
    added = np.bincount(wide.labels[~same], minlength=10)
    assert added.max() == 7
    index = plada.open_index("glyphs", home=glyph_home)
    vectors = index.vectors(np.arange(len(index))).astype(np.float32)
    head = fit_head(vectors[sent.positions], sent.labels, classes=10, mean=index.mean, penalty=STUDENT_PENALTY)
    logits = head.logits(vectors)
    named, margins = logits.argmax(axis=1), margin(logits)
    rest = np.setdiff1d(np.arange(len(index)), sent.positions)
    for label in range(10):
        mine = rest[named[rest] == label]
        best = mine[np.argsort(-margins[mine], kind="stable")[:7]]
        assert set(best.tolist()) == set(wide.positions[~same & (wide.labels == label)].tolist())
    made = plada.train(
        sent, reference="glyphs:count=1500", student="small_cnn", recipe=QUICK, expand=7, home=glyph_home,
        out=tmp_path / "w.safetensors",
    )  # fmt: skip
    assert (made.images, made.added) == (len(wide), added.sum())
    run = read_card(tmp_path / "w.safetensors")["run"]
    assert run["payload"] == payload_digest(sent)
    assert "expanded" in run
    assert made.held is not None
    assert made.held > 0.7
    assert (
        f"{made.added} images were added that were not sent, labelled by a linear student on index glyphs"
        in made.remarks[-1]
    )
    with pytest.raises(RequestError, match="holds another run"):
        plada.train(
            sent, reference="glyphs:count=1500", student="small_cnn", recipe=QUICK, home=glyph_home,
            out=tmp_path / "w.safetensors",
        )  # fmt: skip


def test_more_images_need_an_index_of_the_reference(sent: Payload, pictures: Path, glyph_home: Path) -> None:
    with pytest.raises(RequestError, match="there is none here"):
        expand(sent, 3, home=glyph_home)
    with pytest.raises(ReferenceMismatch, match="index 'glyphs' is of other images"):
        expand(sent, 3, home=glyph_home, index="glyphs")
    with pytest.raises(RequestError, match="expected 1 or more"):
        expand(sent, -1, home=glyph_home)
    assert expand(sent, home=glyph_home) is None
    with pytest.raises(RequestError, match="learns nothing"):
        plada.train(sent, reference=pictures, student="linear", expand=3)


def test_an_index_that_could_not_read_some(pictures: Path) -> None:
    (pictures / "n0" / "image_00.png").write_bytes(b"broken")
    sent = payload_of(pictures, np.arange(6), np.arange(6) % 2, ("a", "b"))
    plada.index(pictures, name="p", encoder="gradients")
    made = plada.train(sent, reference=pictures, student="linear")
    assert (made.images, made.left_out) == (5, 1)
    assert plada.train(sent, reference=pictures, student="linear", encoder="gradients").images == 5


def lose(pictures: Path, sent: Payload) -> tuple[list[str], Path]:
    """Take away one of the payload's images, and change another; the keys of both in order, and a copy of the first."""
    keys = plada.open_images(pictures).manifest.keys_at(sent.positions)
    gone, changed = (next(pictures.glob(f"{key}.*")) for key in keys[2:4])
    kept = pictures.parent / gone.name
    gone.rename(kept)
    changed.write_bytes(changed.read_bytes() + b"\0")
    return keys[2:4], kept


def skipping(pictures: Path) -> ReferenceCopy:
    return ReferenceCopy(location=pictures, skip_changed=True)


@pytest.mark.parametrize("student", ["small_cnn", "linear"])
def test_missing_and_changed_images_are_named_or_left_out(student: str, sent: Payload, pictures: Path) -> None:
    (gone, changed), _ = lose(pictures, sent)
    asked = {"encoder": "gradients"} if student == "linear" else {"recipe": QUICK}

    def train(skip_changed: bool = False) -> TrainingSummary:
        copy = ReferenceCopy(location=pictures, skip_changed=skip_changed)
        return plada.train(sent, reference=copy, student=student, **asked)

    with pytest.raises(ReferenceMismatch) as refused:
        train()
    assert f"{gone} (missing), {changed} (changed)" in str(refused.value)
    assert "--skip-changed" in str(refused.value)
    made = train(skip_changed=True)
    assert (made.images, made.left_out, made.changed, made.emptied) == (10, 0, (gone, changed), ())


def test_the_servers_manifest_lets_a_copy_in_that_has_lost_images(
    sent: Payload, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = plada.open_images(pictures).manifest.path
    (gone, changed), _ = lose(pictures, sent)
    theirs = tmp_path / "client"
    with pytest.raises(ReferenceMismatch, match=r"here are 23 .*--manifest FILE --skip-changed"):
        plada.train(sent, reference=skipping(pictures), student="small_cnn", recipe=QUICK, home=theirs)
    copy = replace(skipping(pictures), manifest=manifest)
    made = plada.train(sent, reference=copy, student="small_cnn", recipe=QUICK, home=theirs)
    assert (made.images, made.changed) == (10, (gone, changed))
    said: list[str] = []
    out = tmp_path / "folder"
    plada.export(
        sent, to="folder", out=out, reference=copy, home=theirs, report=lambda progress: said.append(progress.note)
    )
    assert sum(path.is_file() for path in out.rglob("*")) >= 10
    assert f"left out, since missing or changed: 2 images, the first is {gone}" in said
    with pytest.raises(ReferenceMismatch, match=rf"{gone} \(missing\), {changed} \(changed\)"):
        plada.export(sent, to="folder", out=tmp_path / "x", reference=replace(copy, skip_changed=False), home=theirs)
    found = plada.verify(pictures, against=manifest, home=theirs)
    assert (found.ok, found.missing) == (False, 1)
    other = plada.open_images(tmp_path / "pictures" / "n1").manifest.path
    with pytest.raises(ReferenceMismatch, match=r"a manifest of .* images with content id .*Ask the sender"):
        plada.train(sent, reference=replace(copy, manifest=other), student="small_cnn", home=theirs)
    with pytest.raises(RequestError, match="no such manifest"):
        plada.train(sent, reference=replace(copy, manifest=tmp_path / "none"), student="small_cnn", home=theirs)


def test_streamed_images_that_are_missing_are_named(
    sent: Payload, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (gone, changed), _ = lose(pictures, sent)
    monkeypatch.setattr("plada.trainer.network_student.load_images", partial(load_images, memory=0))
    with pytest.raises(ReferenceMismatch, match=rf"({gone} \(missing\)|{changed} \(changed\))"):
        plada.train(sent, reference=pictures, student="small_cnn", recipe=QUICK)
    made = plada.train(sent, reference=skipping(pictures), student="small_cnn", recipe=QUICK)
    assert (made.images, made.changed) == (10, (gone, changed))


def test_a_listing_tells_what_is_missing_before_any_image_is_read(
    sent: Payload, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (gone, changed), kept = lose(pictures, sent)

    def opened(skip: bool, reads: int) -> PayloadImages:
        monkeypatch.setattr("plada.trainer.payload_images._READ_FIRST", reads)
        copy = ReferenceCopy(location=pictures, skip_changed=skip)
        return open_payload_images(sent, copy, home=home_directory())

    def refuse(*_: object) -> bytes:
        pytest.fail("an image was read")

    monkeypatch.setattr(FolderCollection, "read", refuse)
    with pytest.raises(
        ReferenceMismatch, match=rf"2 of .*: {gone} \(missing\), {changed} \(changed\)\. .*--skip-changed"
    ):
        opened(skip=False, reads=11)
    for images in (opened(skip=True, reads=11), opened(skip=False, reads=12)):
        assert images.lost_keys() == (gone, changed)
        with pytest.raises(Unreadable, match="missing since"):
            images.read(min(images.lost))
    kept.rename(pictures / "n9.png")  # the same number of images, of which another is new
    assert opened(skip=True, reads=11).lost_keys() == (gone, changed)
    for path in pictures.glob("n0/*.*"):
        path.unlink()
    with pytest.raises(ReferenceMismatch, match=r"4 of the payload's images .*: n0/image_00 \(missing\), "):
        opened(skip=False, reads=11)


def test_images_of_the_same_size_are_told_apart_when_they_are_read(sent: Payload, pictures: Path) -> None:
    key = plada.open_images(pictures).manifest.keys_at(sent.positions)[4]
    path = next(pictures.glob(f"{key}.*"))
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    images = open_payload_images(sent, skipping(pictures), home=home_directory())
    assert images.lost == {}
    with pytest.raises(Unreadable, match="changed since"):
        images.read(int(sent.positions[4]))
    assert images.lost_keys() == (key,)


def test_a_class_that_loses_its_last_image_is_said(pictures: Path) -> None:
    sent = payload_of(pictures, np.arange(6), np.array([0, 0, 1, 0, 0, 0]), ("many", "one"))
    made = plada.train(sent, reference=pictures, student="small_cnn", recipe=QUICK)
    assert (made.images, made.emptied) == (6, ())
    key = plada.open_images(pictures).manifest.keys_at([2])[0]
    next(pictures.glob(f"{key}.*")).write_bytes(b"changed")
    made = plada.train(sent, reference=skipping(pictures), student="small_cnn", recipe=QUICK)
    assert (made.images, made.emptied) == (5, ("one",))


def test_a_reference_that_gained_images_still_serves(sent: Payload, pictures: Path) -> None:
    shutil.copy(pictures / "n0" / "image_00.png", pictures / "a_new_one.png")
    made = plada.train(sent, reference=pictures, student="small_cnn", recipe=QUICK)
    assert (made.images, made.changed) == (12, ())


def test_nothing_left(sent: Payload, pictures: Path) -> None:
    plada.open_images(pictures)
    for path in pictures.rglob("*.*"):
        path.write_bytes(b"changed")
    with pytest.raises(ReferenceMismatch, match=r"12 of the payload's images .* and 7 more"):
        plada.train(sent, reference=pictures, student="small_cnn")
    with pytest.raises(DataError, match="none of the 12 images can be read"):
        plada.train(sent, reference=skipping(pictures), student="small_cnn")


def test_an_output_that_holds_another_run(sent: Payload, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"

    def train(**more: object) -> TrainingSummary:
        asked = {"recipe": QUICK, "student": "small_cnn", **more}
        return plada.train(sent, reference=pictures, out=out, **asked)  # type: ignore[arg-type]

    assert not train().finished_before
    made = train()
    assert (made.finished_before, made.images) == (True, 12)
    first = out.read_bytes()
    with pytest.raises(
        RequestError, match=r"holds another run: seed is 0 there, 1 here\. Name another --out, or .* --restart"
    ):
        train(seed=1)
    with pytest.raises(RequestError, match="recipe epochs is 2 there, 3 here"):
        train(recipe={**QUICK, "epochs": 3})
    assert out.read_bytes() == first
    assert not train(seed=1, run=RunOptions(restart=True)).finished_before
    assert out.read_bytes() != first
    out.write_text("notes of mine")
    with pytest.raises(RequestError, match="no card in it"):
        train()
    assert out.read_text() == "notes of mine"
    assert [path.name for path in tmp_path.glob("m.*")] == ["m.safetensors"], "no checkpoint is left"


@pytest.mark.parametrize(
    ("asked", "meant"),
    [("efficentnet_b0", "efficientnet_b0"), ("mobilnetv2_100", "mobilenetv2_100"), ("resnet_18", "resnet18")],
)
def test_a_student_that_timm_does_not_have(sent: Payload, pictures: Path, asked: str, meant: str) -> None:
    with pytest.raises(UnknownName, match=f"unknown network '{asked}'; did you mean '{meant}'"):
        plada.train(sent, reference=pictures, student=asked)


def test_a_run_begun_anew_and_stopped_goes_on_without_restart(
    sent: Payload, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import plada.networks.loop as loop

    out = tmp_path / "m"

    def train(**more: object) -> TrainingSummary:
        return plada.train(sent, reference=pictures, out=out, student="small_cnn", recipe=QUICK, **more)  # type: ignore[arg-type]

    train()
    drawn, whole = loop.draw_order, out.read_bytes()

    def stops(state: object, images: int) -> object:
        os.kill(os.getpid(), signal.SIGINT)
        return drawn(state, images)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "draw_order", stops)
    with pytest.raises(KeyboardInterrupt):
        train(seed=1, run=RunOptions(restart=True))
    assert sorted(path.name for path in tmp_path.glob("m*")) == ["m.checkpoint"]
    monkeypatch.setattr(loop, "draw_order", drawn)
    with pytest.raises(RequestError, match=r"m\.checkpoint: holds another run: seed is 1 there, 0 here"):
        train()
    assert not train(seed=1).finished_before
    assert out.read_bytes() != whole


def test_a_weights_file_that_is_another_one_is_another_run(
    sent: Payload, pictures: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "fine.safetensors"
    plada.train(sent, reference=pictures, student=replace(SMALL, weights=model), recipe=QUICK, out=out)
    with pytest.raises(RequestError, match=r"another run: .*weights is [0-9a-f]{64} there, none here"):
        plada.train(sent, reference=pictures, student=SMALL, recipe=QUICK, out=out)


def test_ctrl_c_says_how_to_go_on_and_the_same_command_does(sent: Payload, pictures: Path, tmp_path: Path) -> None:
    """A real process, a real SIGINT, exit status 6, and the bytes of a run that nobody stopped."""
    sent.save(tmp_path / "x.plada")
    root = Path(plada.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}

    def command(out: str, *more: str) -> list[str]:
        arguments = ["train", "x.plada", "--reference", str(pictures), "--student", "small_cnn", "-o", out, *more]
        return [sys.executable, "-m", "plada", *arguments, "--recipe", "epochs=100", "--recipe", "batch_size=4"]

    with subprocess.Popen(command("m"), env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not list(tmp_path.glob("home/references/*/manifest.parquet")):
            time.sleep(0.05)
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said = process.stderr.read()
    if process.returncode == 6:  # else it was done already, or had not begun
        assert "Resume with: plada train x.plada" in said
    assert "Traceback" not in said
    done = subprocess.run(command("m"), env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    subprocess.run(command("whole"), env=environment, cwd=tmp_path, capture_output=True, check=True)
    assert (tmp_path / "m").read_bytes() == (tmp_path / "whole").read_bytes()
    assert "Traceback" not in done.stderr
