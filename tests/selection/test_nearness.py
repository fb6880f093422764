"""Distances to a target, as multiples of the reference's own."""

import numpy as np
import pytest

from plada.selection.nearness import FAR, measure_nearness
from plada.selection.rules.rule import Context
from plada.selection.space import main_axes, make_space


def context(target: np.ndarray, labels: np.ndarray) -> Context:
    vectors = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
    mean = vectors.mean(axis=0)
    space = make_space(lambda p: vectors[p], np.arange(400), mean, target, main_axes(vectors, 8))
    return Context(lambda p: vectors[p], target, labels, 0, mean, space)


def test_images_like_the_reference_are_near_and_others_far() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 50)
    near = rng.normal(size=(100, 8)).astype(np.float32)
    found = measure_nearness(context(near, labels), ("cat", "dog"))
    assert found is not None
    assert found.ratio == pytest.approx(1, abs=0.15)
    assert not found.far
    moved = near.copy()
    moved[labels == 1] += 6
    found = measure_nearness(context(moved, labels), ("cat", "dog"))
    assert found is not None
    assert found.farthest()[0] == "dog"
    assert found.classes["cat"] < FAR < found.classes["dog"]


def test_a_target_without_images_has_none() -> None:
    nothing = np.zeros((0, 8), np.float32)
    assert measure_nearness(context(nothing, np.zeros(0, np.int64)), ("cat",)) is None
