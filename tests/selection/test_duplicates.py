"""Near-duplicates within a class: what is left has none, and what was left out has a better one beside it."""

import numpy as np
import pytest

import plada.selection.duplicates as duplicates
from plada.common.progress import Progress
from plada.errors import RequestError
from plada.labeler.pseudo_labels import PseudoLabels
from plada.labeler.scores import SCORES
from plada.selection.duplicates import near_duplicates, without_near_duplicates

HEAPS = 120


def world(images: int = 1500, classes: int = 3, seed: int = 0) -> tuple[PseudoLabels, np.ndarray]:
    """Images in heaps of near copies, labels at random: heaps reach over classes. Vectors [2 n, d] by position."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(HEAPS, 12))
    positions = np.sort(rng.choice(2 * images, images, replace=False)).astype(np.int64)
    vectors = np.zeros((2 * images, 12), np.float32)
    vectors[positions] = centres[rng.integers(0, HEAPS, images)] + 0.1 * rng.normal(size=(images, 12))
    vectors[positions] *= rng.uniform(0.5, 2, images)[:, None]  # a cosine does not care
    scores = {name: rng.normal(size=images).astype(np.float32) for name in SCORES}
    return PseudoLabels(positions, rng.integers(0, classes, images), scores, classes), vectors


def cosines(vectors: np.ndarray) -> np.ndarray:
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(units @ units.T)


@pytest.mark.parametrize("threshold", [0.8, 0.95])
def test_no_two_alike_are_left_and_each_copy_has_a_better_one(threshold: float) -> None:
    labels, vectors = world()
    copies = near_duplicates(labels, lambda positions: vectors[positions], threshold)
    near = cosines(vectors[labels.positions])
    same = labels.labels[:, None] == labels.labels
    apart = near + 2 * np.eye(len(labels))
    margin = labels.scores["margin"]
    kept = np.flatnonzero(~copies)
    among = near[np.ix_(kept, kept)][same[np.ix_(kept, kept)] & ~np.eye(len(kept), dtype=bool)]
    assert among.max() <= threshold + 1e-5
    for row in np.flatnonzero(copies):
        better = ~copies & same[row] & (margin > margin[row])
        assert apart[row][better].max() > threshold - 1e-5
    assert 0.3 < copies.mean() < 0.95


def test_copies_of_another_class_stay() -> None:
    labels, vectors = world(classes=2)
    rows = np.arange(len(labels))
    alone = PseudoLabels(labels.positions, rows, labels.scores, len(labels))
    assert not near_duplicates(alone, lambda positions: vectors[positions], 0.5).any()


def test_only_the_best_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, vectors = world()
    monkeypatch.setattr(duplicates, "MAX_COMPARED", 50)
    copies = near_duplicates(labels, lambda positions: vectors[positions], 0.8)
    for label in range(3):
        rows = np.flatnonzero(labels.labels == label)
        order = rows[np.argsort(-labels.scores["margin"][rows], kind="stable")]
        assert copies[order[:50]].any()
        assert not copies[order[50:]].any()


def test_what_is_left_keeps_the_population() -> None:
    labels, vectors = world()
    events: list[Progress] = []
    less = without_near_duplicates(labels, lambda positions: vectors[positions], 0.9, events.append)
    assert (events[0].done, events[-1].done) == (0, labels.classes)
    assert less.population().tolist() == labels.counts().tolist()
    assert less.counts().sum() == len(less) < len(labels)


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.01, float("nan")])
def test_impossible_thresholds(threshold: float) -> None:
    labels, vectors = world()
    with pytest.raises(RequestError, match="expected a number above 0 and up to 1"):
        near_duplicates(labels, lambda positions: vectors[positions], threshold)
