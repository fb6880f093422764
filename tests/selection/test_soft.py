"""The paper's label variants are its equations 12 to 15."""

from pathlib import Path

import numpy as np
import pytest

import plada
from plada.common.statistics import softmax
from plada.errors import UnknownName
from plada.networks.solver import softmax_regression
from plada.payload.soft_labels import PARTS, soft_labels_of
from plada.retrieval.index import Index
from plada.selection.soft import DIRICHLET, MAX_PRECISION, MIN_PRECISION, SOFT, soft_labels, whole_parts


def probabilities(images: int = 300, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    made = softmax((3 * np.random.default_rng(0).normal(size=(images, classes))).astype(np.float32))
    return made, made.argmax(axis=1).astype(np.int64)


def test_means_are_equation_12() -> None:
    given, labels = probabilities()
    made = soft_labels(given, labels, 4, SOFT)
    assert made.precision is None
    for label in range(4):
        assert np.abs(made.shares[label] / PARTS - given[labels == label].mean(axis=0)).max() < 1 / PARTS
    assert (made.shares.sum(axis=1) == PARTS).all()


def test_precisions_are_equation_13() -> None:
    given, labels = probabilities()
    made = soft_labels(given, labels, 4, DIRICHLET)
    assert made.precision is not None
    for label in range(4):
        own = given[labels == label, label].astype(np.float64)
        assert made.precision[label] == pytest.approx(own.mean() * (1 - own.mean()) / own.var() - 1)


def test_edges_of_the_precision() -> None:
    torn = np.array([[1, 0, 0], [0, 1, 0], [0.2, 0.2, 0.6], [0.5, 0.25, 0.25]], np.float32)
    made = soft_labels(torn, np.array([0, 0, 2, 2]), 3, DIRICHLET)
    assert made.precision is not None
    assert made.precision[0] == MIN_PRECISION  # as torn as can be
    assert made.precision[1] == MAX_PRECISION  # no image
    assert made.shares[1].tolist() == [0, PARTS, 0]


def test_whole_parts_add_up() -> None:
    rng = np.random.default_rng(0)
    for classes in (1, 2, 7, 300):
        shares = rng.dirichlet(np.full(classes, 0.3))
        parts = whole_parts(shares)
        assert parts.sum() == PARTS
        assert np.abs(parts - PARTS * shares).max() < 1 + 1e-6


def test_a_student_of_soft_labels_answers_with_them() -> None:
    """One point a class and no penalty: what is learned is the target itself, as KL (eq. 15) asks."""
    points = np.eye(3)
    wanted = np.array([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.25, 0.25, 0.5]])
    weights = softmax_regression(points, wanted, 3, penalty=0.0, steps=500)
    answers = softmax((points @ weights[:-1] + weights[-1]).astype(np.float32))
    assert np.abs(answers - wanted).max() < 1e-3


@pytest.mark.parametrize("kind", ["soft", "dirichlet"])
def test_select_sends_them_and_students_use_them(glyphs: Index, few_digits: Path, tmp_path: Path, kind: str) -> None:
    def select(labels: str) -> plada.Payload:
        made = plada.select(
            glyphs,
            target=few_digits,
            budget=600,
            rule="balanced",
            labels=labels,
            home=glyphs.home,
            out=tmp_path / labels,
        )
        assert made.report.labels == labels
        assert (made.report.label_bytes > 0) == (labels != "hard")
        assert (tmp_path / labels).stat().st_size == made.report.bytes <= 600
        return made.payload

    hard, other = select("hard"), select(kind)
    soft = soft_labels_of(other.notes, 10)
    assert soft is not None
    assert (soft.precision is not None) == (kind == "dirichlet")
    assert (soft.shares.argmax(axis=1) == np.arange(10)).all()
    assert len(other) < len(hard)
    trained = plada.train(tmp_path / kind, student="linear", target=few_digits, home=glyphs.home)
    assert trained.accuracy is not None
    assert trained.accuracy > 0.6


def test_unknown_labels(glyphs: Index) -> None:
    with pytest.raises(UnknownName, match="did you mean 'soft'"):
        plada.select(glyphs, target="digits", budget=900, labels="sofd", home=glyphs.home)
