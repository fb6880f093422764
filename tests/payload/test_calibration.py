"""A calibration fits into about a byte a class, and comes back; what is none is refused."""

import json
from typing import Any

import numpy as np
import pytest

from plada.errors import PayloadCorrupt
from plada.payload.calibration import NOTE, Calibration, calibration_of, calibration_of_card, widest_note
from plada.payload.metadata import read_metadata, write_metadata


def made(classes: int, **more: Any) -> Calibration:
    rng = np.random.default_rng(classes)
    shares = rng.dirichlet(np.full(classes, 5.0))
    values: dict[str, Any] = {
        "temperature": 1.4,
        "bias": 0.8 * rng.standard_normal(classes),
        "shares": shares,
        "images": 640,
        "encoder": "0a1b2c3d",
    }
    return Calibration(**values | more)


@pytest.mark.parametrize("classes", [2, 20, 500])
def test_a_note_comes_back_to_within_a_step(classes: int) -> None:
    sent = made(classes)
    read = read_metadata(write_metadata(None, sent.note()), classes)[1]
    found = calibration_of(read, classes)
    assert found is not None
    assert (found.temperature, found.images, found.encoder) == (1.4, 640, "0a1b2c3d")
    assert np.abs(found.bias - sent.bias).max() <= 0.05 + 1e-9
    assert np.abs(np.log(found.shares / sent.shares)).max() < 0.15
    assert found.shares.sum() == pytest.approx(1)


@pytest.mark.parametrize("classes", [2, 20, 500])
def test_a_note_takes_about_a_byte_a_class(classes: int) -> None:
    even = made(classes, shares=np.full(classes, 1 / classes))
    assert len(even.note()[NOTE]) == 4
    size = len(write_metadata(None, even.note()))
    assert size <= classes + 50
    assert size <= len(write_metadata(None, widest_note(classes, "0a1b2c3d", 640, both=False)))
    size = len(write_metadata(None, made(classes).note()))
    assert size <= len(write_metadata(None, widest_note(classes, "0a1b2c3d", 640, both=True)))
    bare = made(classes, bias=np.zeros(classes), shares=np.full(classes, 1 / classes))
    assert bare.note() == {NOTE: [640, 1.4, "0a1b2c3d"]}


def test_a_bias_beyond_the_alphabet_is_cut() -> None:
    sent = made(2, bias=np.array([9.0, -9.0]))
    found = calibration_of(sent.note(), 2)
    assert found is not None
    assert found.bias.tolist() == pytest.approx([3.1, -3.2])


@pytest.mark.parametrize(
    "note",
    [
        None, 5, "text", [], [640], [0, 1.0], [640, 0], [640, "1.4"], [640, True], [True, 1.4], [640, 1e9], [-1, 1.4], [640, 1.4, 7],
        [640, 1.4, "x" * 65], [640, 1.4, "x", "gg"], [640, 1.4, "x", "g!g"], [640, 1.4, "x", "ggg", "gg"], [640, 1.4, "", "ggg", "ggg", ""],
    ],
)  # fmt: skip
def test_other_notes_are_refused(note: Any) -> None:
    with pytest.raises(PayloadCorrupt, match="note calibration: expected"):
        calibration_of({NOTE: note}, 3)


def test_no_note_is_no_calibration() -> None:
    assert calibration_of({}, 3) is None
    assert calibration_of_card({"classes": ["a"]}) is None


def test_a_card_comes_back() -> None:
    sent = made(3, source="own pictures", spread=np.array([1.5, 2.5], np.float32), labels=np.array([0, 2]))
    card = json.loads(json.dumps({"classes": ["a", "b", "c"], "calibration": sent.to_dict()}))
    found = calibration_of_card(card)
    assert found is not None
    assert found.to_dict() == sent.to_dict()


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0}, {"images": 1.5}, {"source": "elsewhere"}, {"bias": [0, 0]}, {"bias": [0, 0, float("nan")]}, {"bias": [0, 0, 10**400]}, {"shares": [1, 0, 0]},
        {"shares": ["1", "2", "3"]}, {"spread": [1.0]}, {"spread": [1.0], "labels": [3]}, {"spread": [], "labels": []},
    ],
)  # fmt: skip
def test_other_cards_are_refused(change: dict[str, Any]) -> None:
    plain = made(3).to_dict() | change
    with pytest.raises(ValueError, match="calibration"):
        calibration_of_card({"classes": ["a", "b", "c"], "calibration": plain})
