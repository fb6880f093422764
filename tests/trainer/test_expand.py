"""Images that were not sent, labelled by a linear student: with `auto`, on an index or a pack alone, and what is trained on them."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import plada
from plada.errors import RequestError
from plada.networks.network import NetworkSpec
from plada.payload.payload import Payload
from plada.payload.soft_labels import SoftLabels
from plada.trainer import expand as expanding
from plada.trainer.expand import Answers, Expansion, expand
from plada.trainer.run import TrainingSummary

QUICK = {"epochs": 8, "batch_size": 32}


@pytest.fixture(scope="module")
def sent(glyph_home: Path, digits_file: Path) -> Payload:
    return plada.read_payload(digits_file, home=glyph_home)


@pytest.fixture(scope="module")
def with_pack(glyph_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A client that has the pack, and no index."""
    home = tmp_path_factory.mktemp("client")
    plada.make_pack("glyphs", out=home / "glyphs.pack", dimensions=16, home=glyph_home)
    plada.install_pack(home / "glyphs.pack", home=home)
    return home


def expanded(sent: Payload, home: Path, per_class: int | None = None) -> Expansion:
    more = expand(sent, per_class, home=home)
    assert more is not None
    return more


def test_the_pack_alone_is_enough(sent: Payload, with_pack: Path) -> None:
    more = expanded(sent, with_pack)
    added = len(more.labels) - len(sent)
    assert 0 < added <= 10 * -(-expanding.TIMES * len(sent) // 10)
    assert more.held is not None
    assert more.held >= expanding.SURE
    assert more.source.startswith("the pack ")
    assert f"{added} images were added" in more.note(added)
    same = np.isin(more.labels.positions, sent.positions)
    assert np.array_equal(more.labels.labels[same], sent.labels)
    by_name = expanded(sent, with_pack, 5)
    assert np.bincount(by_name.labels.labels, minlength=10).max() <= 5 + max(sent.class_counts())


def test_the_features_that_name_more_held_back_images_are_taken(
    sent: Payload, glyph_home: Path, with_pack: Path
) -> None:
    home = with_pack.parent / "both"
    shutil.copytree(with_pack, home)
    shutil.copytree(glyph_home / "indexes", home / "indexes")
    alone = [expanded(sent, one).held or 0.0 for one in (glyph_home, with_pack)]
    best = expanded(sent, home)
    assert best.held == max(alone)
    assert best.source.startswith("index glyphs" if alone[0] >= alone[1] else "the pack")


def test_labels_that_nobody_can_tell_add_nothing(sent: Payload, with_pack: Path) -> None:
    drawn = np.random.default_rng(0).permutation(sent.labels)
    more = expanded(replace(sent, labels=drawn), with_pack)
    assert len(more.labels) == len(sent)
    assert more.answers is None
    assert more.held is not None
    assert more.held < expanding.SURE
    assert more.note(0).startswith("no image was added")
    few = replace(sent, positions=sent.positions[:3], labels=sent.labels[:3], rank=None)
    assert expand(few, home=with_pack) is None


def test_networks_are_trained_on_answers(sent: Payload, with_pack: Path) -> None:
    more = expanded(sent, with_pack)
    assert more.answers is not None
    assert more.targets is not None
    targets = more.answers.targets(more.targets, 0)
    assert targets.sum(axis=1) == pytest.approx(1)
    same = np.isin(more.labels.positions, sent.positions)
    assert np.array_equal(targets[same], np.eye(10)[sent.labels])
    assert ((targets[~same] > 0.01).sum(axis=1) > 1).any()
    assert np.array_equal(more.answers.names(more.targets), more.labels.labels)


def test_a_payload_with_soft_labels_keeps_them(sent: Payload, with_pack: Path) -> None:
    shares = np.full((10, 10), 5) + np.diag(np.full(10, 205))
    soft = replace(sent, notes={**sent.notes, **SoftLabels(shares).note()})
    more = expanded(soft, with_pack)
    assert more.answers is None
    assert len(more.labels) > len(sent)


def test_answers_and_classes_in_one_array() -> None:
    answers = Answers(3, np.array([[0.2, 0.5, 0.3]], np.float16))
    assert answers.targets(np.array([2, 3]), 0)[0].tolist() == [0, 0, 1]
    assert answers.names(np.array([2, 3])).tolist() == [2, 1]


def test_as_many_steps_as_on_what_was_sent(sent: Payload, with_pack: Path, tmp_path: Path) -> None:
    def train(**more: Any) -> TrainingSummary:
        student = NetworkSpec(name="small_cnn", image_size=16)
        return plada.train(sent, reference="glyphs:count=1500", student=student, recipe=QUICK, home=with_pack, **more)

    whole = train(expand="auto", out=tmp_path / "m.safetensors")
    assert whole.added > 0
    assert whole.epochs == max(1, round(8 * len(sent) / (len(sent) + whole.added)))
    assert f"{whole.added} images were added" in " ".join(whole.remarks)
    assert whole.to_dict()["held"] == whole.held
    assert train(expand="auto", out=tmp_path / "m.safetensors").finished_before
    with pytest.raises(RequestError, match="holds another run"):
        train(out=tmp_path / "m.safetensors")
    plain = train()
    assert (plain.added, plain.held, plain.epochs) == (0, None, 8)
    with pytest.raises(RequestError, match="--expand many: expected a number of images of each class, or auto"):
        train(expand="many")
