"""A few labelled pictures of the client's own: the head learns them after the labelled set."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import plada
from plada.cli import app
from plada.errors import DataError, RequestError
from plada.networks.classifier import classifier_of, features, replace_head
from plada.networks.linear_head import Head
from plada.networks.loop import predict
from plada.networks.network import build_network
from plada.retrieval.index import Index
from plada.trainer.own_pictures import HALF, held_out_logits, importance, open_own
from plada.trainer.run import TrainingSummary
from tests.trainer.test_client import QUICK, SMALL, payload_of


def test_each_class_counts_as_it_does_in_the_payload() -> None:
    labels, own = np.array([0, 0, 0, 1]), np.array([0, 0, 2])
    found = importance(labels, own, 3)
    sent, mine = found[:4], found[4:]
    assert sent[labels == 0].sum() + mine[own == 0].sum() == pytest.approx(3 / 4)
    assert mine[own == 0].sum() == pytest.approx(3 / 4 * 2 / (2 + HALF))
    assert sent[labels == 1].sum() == pytest.approx(1 / 4)  # no own picture
    assert mine[own == 2].sum() == pytest.approx(1 / 3)  # no image in the payload


def test_no_row_is_answered_by_a_student_that_has_seen_it() -> None:
    labels = np.repeat(np.arange(3), 5)
    vectors = np.arange(15, dtype=np.float32)[:, None]
    seen: list[np.ndarray] = []

    def fit(rows: np.ndarray):  # type: ignore[no-untyped-def]
        seen.append(rows)
        return lambda held: np.isin(held[:, :1], rows).astype(np.float32).repeat(3, axis=1)

    assert not held_out_logits(fit, vectors, labels, 3).any()
    assert sorted(np.concatenate([np.setdiff1d(np.arange(15), rows) for rows in seen]).tolist()) == list(range(15))


def own_folder(few_digits: Path, root: Path, names: str = "0123456789", each: int = 4) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
        for path in sorted((few_digits / "train" / name).iterdir())[:each]:
            (root / name / path.name).write_bytes(path.read_bytes())
    return root


@pytest.mark.parametrize("student", ["linear", "small_cnn"])
def test_own_pictures_teach(
    student: str, glyphs: Index, small_payload: Path, glyph_home: Path, few_digits: Path, tmp_path: Path
) -> None:
    own = own_folder(few_digits, tmp_path / "own")

    def train(**more: Any) -> TrainingSummary:
        recipe = {} if student == "linear" else {"epochs": 1}
        return plada.train(
            small_payload,
            reference="glyphs:count=1500",
            student=student,
            recipe=recipe,
            target=few_digits,
            home=glyph_home,
            **more,
        )

    before = train()
    first, _ = (train(own=own, out=tmp_path / f"{name}.safetensors") for name in "ab")
    assert (before.own, first.own, first.own_note, first.calibration) == (0, 40, "", "own pictures")
    assert before.accuracy is not None
    assert first.accuracy is not None
    assert first.accuracy > before.accuracy
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    again = train(own=own, out=tmp_path / "a.safetensors")
    assert again.finished_before
    assert (again.accuracy, again.own, again.calibration) == (first.accuracy, 40, "own pictures")
    next((own / "0").iterdir()).unlink()
    with pytest.raises(RequestError, match="another run"):
        train(own=own, out=tmp_path / "a.safetensors")


def test_a_class_without_own_pictures(
    glyphs: Index, small_payload: Path, glyph_home: Path, few_digits: Path, tmp_path: Path
) -> None:
    own = own_folder(few_digits, tmp_path / "own", "01", 1)
    done = CliRunner().invoke(
        app,
        ["train", str(small_payload), "--reference", "glyphs:count=1500", "--student", "linear", "--own", str(own), "--home", str(glyph_home),
         "--out", str(tmp_path / "m.safetensors")],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "2, for the head" in done.output
    assert "no own picture of 8 of 10 classes (2, 3, 4, ...): the payload's images stand for them" in done.output
    assert plada.evaluate(tmp_path / "m.safetensors", target=few_digits).evaluation.accuracy > 0.4


def test_bad_own_pictures(pictures: Path, few_digits: Path, tmp_path: Path) -> None:
    positions = np.arange(0, 24, 2)
    sent = payload_of(pictures, positions, positions // 2 % 2, ("0", "1"))
    empty, loose, broken = tmp_path / "empty", tmp_path / "loose", tmp_path / "broken"
    (empty / "0").mkdir(parents=True)
    own_folder(few_digits, loose, "0", 1)
    (loose / "x.png").write_bytes(b"x")
    (broken / "1").mkdir(parents=True)
    (broken / "1" / "x.png").write_bytes(b"broken")
    for own, error, words in (
        (tmp_path / "none", RequestError, "no such folder"),
        (empty, RequestError, "no picture in it"),
        (loose, DataError, "picture 'x' lies outside any class's folder"),
        (own_folder(few_digits, tmp_path / "other", "07", 1), DataError, "unknown 7"),
        (broken, DataError, "none of its 1 pictures can be read"),
    ):
        with pytest.raises(error, match=words):
            plada.train(sent, reference=pictures, student=SMALL, recipe=QUICK, own=own)
    assert open_own(own_folder(few_digits, tmp_path / "fine", "1", 2), ("0", "1")).labels.tolist() == [1, 1]


def test_a_network_that_does_not_end_in_a_linear_layer() -> None:
    from torch import nn

    class Convolution(nn.Module):
        def get_classifier(self) -> nn.Module:
            return nn.Conv2d(3, 2, 1)

    network = replace(build_network(SMALL, classes=2), module=Convolution())
    with pytest.raises(RequestError, match="its last layer is Conv2d"):
        classifier_of(network)


def test_a_head_takes_the_place_of_the_last_layer() -> None:
    network = build_network(SMALL, classes=3)
    pixels = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3), dtype=np.uint8)
    seen = features(network, pixels)
    rng = np.random.default_rng(1)
    sizes = ((seen.shape[1],), (seen.shape[1], 3), (3,))
    head = Head(*(rng.standard_normal(size).astype(np.float32) for size in sizes))
    replace_head(network, head)
    np.testing.assert_allclose(predict(network, pixels), head.logits(seen), rtol=1e-3, atol=1e-3)
