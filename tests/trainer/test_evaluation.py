"""What a model is worth: intervals against published values, counts against a loop, calibration against its definition."""

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from plada.common.statistics import softmax, wilson
from plada.errors import DataError
from plada.reports.plots import confusion_picture
from plada.sources.decode import View
from plada.sources.targets.target import Split
from plada.trainer.evaluation import DENSE, MAX_PAIRS, evaluate_logits, evaluate_split

NAMES = ("a", "b", "c")


def drawn(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    logits = rng.normal(size=(n, 3)) * 2
    logits[np.arange(n), labels] += 1.5
    return logits.astype(np.float32), labels


@pytest.mark.parametrize(
    ("right", "images", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3, to four places
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_is_wilsons(right: int, images: int, low: float, high: float) -> None:
    assert list(wilson(right, images)) == pytest.approx([low, high], abs=5e-5)
    assert list(wilson(images - right, images)) == pytest.approx([1 - high, 1 - low], abs=5e-5)


def test_an_interval_of_nothing_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_counts_are_those_of_a_loop() -> None:
    logits, labels = drawn(200)
    found = evaluate_logits(logits, labels, NAMES, unreadable=7)
    counted = [[0] * 3 for _ in range(3)]
    for row, label in zip(logits, labels, strict=True):
        counted[label][int(row.argmax())] += 1
    assert [list(row) for row in found.confusion] == counted
    assert (found.images, found.unreadable, found.right) == (200, 7, sum(counted[c][c] for c in range(3)))
    assert found.accuracy == found.right / 200
    for number, result in enumerate(found.classes):
        assert (result.name, result.images) == (NAMES[number], sum(counted[number]))
        assert result.accuracy == counted[number][number] / result.images
        assert result.low < result.accuracy < result.high
    worst = max((counted[i][j], NAMES[i], NAMES[j]) for i in range(3) for j in range(3) if i != j)
    assert found.confused(1)[0][2] == worst[0]
    assert len(found.confused(100)) == sum(1 for i in range(3) for j in range(3) if i != j and counted[i][j])


def test_calibration_is_the_mean_gap_of_confidence_and_accuracy() -> None:
    logits, labels = drawn(500)
    found = evaluate_logits(logits, labels, NAMES)
    confidence, right = softmax(logits.astype(np.float64)).max(1), logits.argmax(1) == labels
    gaps = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            gaps += inside.sum() * abs(confidence[inside].mean() - right[inside].mean())
    assert found.ece == pytest.approx(gaps / 500)
    assert sum(b.images for b in found.reliability) == 500
    sure = evaluate_logits(np.array([[50, 0, 0]] * 4, np.float32), np.array([0, 0, 0, 1]), NAMES)
    assert sure.ece == pytest.approx(0.25)
    assert sure.reliability[-1].images == 4


def test_a_class_without_images_has_no_accuracy() -> None:
    found = evaluate_logits(np.eye(3, dtype=np.float32)[:2], np.array([0, 1]), NAMES)
    assert (found.classes[2].images, found.classes[2].accuracy) == (0, None)


def test_nothing_and_what_is_not_finite_are_refused() -> None:
    with pytest.raises(DataError, match="no readable image"):
        evaluate_logits(np.zeros((0, 3), np.float32), np.zeros(0, np.int64), NAMES)
    with pytest.raises(DataError, match="not finite"):
        evaluate_logits(np.full((1, 3), np.nan, np.float32), np.array([0]), NAMES)


@pytest.mark.parametrize("classes", [1, 3, 41, 300])
def test_the_picture_of_the_confusions(tmp_path: Path, classes: int) -> None:
    names = [f"class number {number}" for number in range(classes)]
    counts = np.eye(classes, dtype=int) * 5
    counts[0, -1] += 5
    path = confusion_picture(names, counts.tolist(), tmp_path / "c.png", title="t")
    with Image.open(path) as picture:
        colours = {
            tuple(colour) for colour in np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0).tolist()
        }
        assert max(picture.size) < 1600
    assert (0, 104, 55) in colours, "all right is the full green"
    assert classes == 1 or any(red > green + 40 for red, green, _ in colours), "the wrong is red"


def test_the_confusion_matrix_is_an_array_and_json_all_the_same() -> None:
    logits, labels = drawn(120)
    found = evaluate_logits(logits, labels, NAMES)
    assert found.confusion.dtype == np.int64
    told = json.loads(json.dumps(found.to_dict()))
    assert told["confusion"] == found.confusion.tolist()
    assert list(told) == [
        "images", "unreadable", "right", "accuracy", "low", "high", "ece", "classes", "confusion", "reliability",
    ]  # fmt: skip
    assert sum(map(sum, told["confusion"])) == 120


def test_many_classes_are_counted_as_few_are() -> None:
    classes, images = 2000, 300
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, images)
    called = np.where(np.arange(images) % 3, labels, (labels + 1) % classes)
    logits = np.zeros((images, classes), np.float32)
    logits[np.arange(images), called] = 5
    found = evaluate_logits(logits, labels, tuple(f"c{number:04d}" for number in range(classes)))
    assert found.confusion.sum() == images
    assert found.right == images - 100
    wrong: dict[tuple[str, str], int] = {}
    for true, seen in zip(labels.tolist(), called.tolist(), strict=True):
        if true != seen:
            wrong[f"c{true:04d}", f"c{seen:04d}"] = wrong.get((f"c{true:04d}", f"c{seen:04d}"), 0) + 1
    expected = sorted((-count, *pair) for pair, count in wrong.items())
    assert found.confused(10) == [(true, seen, -count) for count, true, seen in expected[:10]]
    assert len(found.confused(1000)) == len(wrong)


def test_above_a_number_of_classes_json_has_the_pairs_that_occur() -> None:
    classes = DENSE + 1
    logits = np.zeros((4, classes), np.float32)
    logits[[0, 1, 2, 3], [7, 7, 3, 0]] = 1
    told = evaluate_logits(logits, np.array([7, 2, 2, 0]), tuple(map(str, range(classes)))).to_dict()
    assert told["confusion"] is None
    assert told["confusion_pairs"] == [[0, 0, 1], [2, 3, 1], [2, 7, 1], [7, 7, 1]]
    assert told["confusion_left_out"] == 0


def test_the_rarest_pairs_are_left_out_of_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plada.trainer.evaluation.MAX_PAIRS", 2)
    classes = DENSE + 1
    called, labels = np.array([5, 5, 1, 1, 9]), np.array([5, 5, 4, 4, 3])
    found = evaluate_logits(np.eye(classes, dtype=np.float32)[called], labels, tuple(map(str, range(classes))))
    told = found.to_dict()
    assert (told["confusion_pairs"], told["confusion_left_out"]) == ([[4, 1, 2], [5, 5, 2]], 1)
    assert len(found.confusion_pairs) == 3


def test_ten_thousand_classes_are_evaluated_in_the_memory_of_the_images(tmp_path: Path) -> None:
    """A matrix of 10 000 classes would take 0.8 GB, the logits of 20 000 images as much again."""
    classes, images = 10_000, 20_000
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, images)

    class Drawn:
        location = "drawn"

        def read(self, position: int) -> bytes:
            return b""

    def pixels_of(read: object, positions: np.ndarray, view: object, *, stage: str) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(positions)[:, None], np.ones(len(positions), bool)

    def logits_of(rows: np.ndarray) -> np.ndarray:
        logits = np.zeros((len(rows), classes), np.float32)
        logits[np.arange(len(rows)), (labels[rows[:, 0]] * 7919) % classes] = 9
        return logits

    split = Split(collection=Drawn(), positions=np.arange(images), labels=labels)  # type: ignore[arg-type]
    names = tuple(f"a rather long name of class {number}" for number in range(classes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("plada.trainer.evaluation.load_pixels", pixels_of)
        patch.setattr("plada.trainer.evaluation._BLOCK", 128)
        tracemalloc.start()
        found = evaluate_split(logits_of, View(size=1), split, names)
        text = json.dumps(found.to_dict())
        picture = found.binned_confusion(1000)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 100e6
    assert len(text) < 10e6
    assert (picture.shape, picture.sum()) == ((1000, 1000), images)
    assert sum(images for _, _, images in json.loads(text)["confusion_pairs"]) == images


def test_json_of_ten_thousand_classes_has_at_most_ten_megabytes() -> None:
    classes, images = 10_000, 500_000
    rng = np.random.default_rng(1)
    cells = rng.choice(classes * classes, MAX_PAIRS + 1000, replace=False)
    base = evaluate_logits(np.eye(2, dtype=np.float32), np.array([0, 1]), ("a", "b"))
    result = replace(base.classes[0], name="a name of thirty-two characters.", accuracy=1 / 3, low=1 / 7, high=2 / 3)
    pairs = np.stack([cells // classes, cells % classes, rng.integers(1, 9, len(cells))], axis=1)
    found = replace(base, images=images, classes=(result,) * classes, confusion_pairs=pairs)
    assert len(json.dumps(found.to_dict())) < 10e6
