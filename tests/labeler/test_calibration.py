"""Intervals contain what they should; a temperature that was put in is found again."""

import numpy as np
import pytest

from plada.common.statistics import wilson
from plada.labeler.calibration import MIN_IMAGES, fit_calibration, fit_temperature, log_likelihood
from plada.labeler.splits import stratified
from plada.networks.solver import softmax_regression


def test_wilson_against_published_values() -> None:
    # 15 of 20: 0.5313 to 0.8881 (Newcombe 1998's formula); ends stay inside 0..1.
    low, high = wilson(15, 20)
    assert low == pytest.approx(0.5313, abs=5e-4)
    assert high == pytest.approx(0.8881, abs=5e-4)
    assert list(wilson(0, 10)) == pytest.approx([0.0, 0.2775], abs=5e-4)
    assert list(wilson(10, 10)) == pytest.approx([0.7225, 1.0], abs=5e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def test_an_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        low, high = wilson(int(rng.binomial(60, 0.9)), 60)
        inside += low <= 0.9 <= high
    assert 0.91 <= inside / 400 <= 0.99


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_a_temperature_is_found_again(temperature: float) -> None:
    rng = np.random.default_rng(1)
    honest = rng.normal(size=(4000, 5)).astype(np.float32) * 2
    odds = np.exp(honest) / np.exp(honest).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(5, p=row / row.sum()) for row in odds.astype(np.float64)])
    logits = honest * np.float32(temperature)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(temperature, rel=0.1)
    assert log_likelihood(logits, labels, found) >= log_likelihood(logits, labels, 1.0) - 1e-9


def test_too_few_images_change_nothing() -> None:
    few = MIN_IMAGES - 1
    assert fit_temperature(np.ones((few, 2), np.float32), np.zeros(few, np.int64)) == 1.0


def test_the_solver_finds_the_minimum() -> None:
    """At the minimum the gradient of the convex loss is zero; a general optimiser gets no lower."""
    rng = np.random.default_rng(2)
    points, labels = rng.normal(size=(80, 6)), rng.integers(0, 3, 80)
    weights = softmax_regression(points, labels, 3, penalty=1e-2, steps=500)

    def loss(flat: np.ndarray) -> float:
        w = flat.reshape(7, 3)
        logits = points @ w[:-1] + w[-1]
        logits -= logits.max(axis=1, keepdims=True)
        total = np.log(np.exp(logits).sum(axis=1))
        return float((total - logits[np.arange(80), labels]).mean() + 1e-2 * (w[:-1] ** 2).sum())

    at, base = weights.ravel(), loss(weights.ravel())
    for _ in range(200):
        assert loss(at + 1e-3 * rng.normal(size=at.size)) >= base - 1e-12
    warm = softmax_regression(points, labels, 3, penalty=1e-2, steps=500, start=weights)
    np.testing.assert_allclose(warm, weights, atol=1e-4)


def test_parts_are_stratified_and_repeat() -> None:
    labels = np.repeat(np.arange(4), [10, 7, 5, 1])
    parts = stratified(labels, 5, seed=3)
    for label in range(4):
        counts = np.bincount(parts[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1
    assert np.array_equal(parts, stratified(labels, 5, seed=3))
    assert not np.array_equal(parts, stratified(labels, 5, seed=4))


def test_a_bias_is_found_again_and_none_is_not() -> None:
    rng = np.random.default_rng(3)
    honest = 2 * rng.normal(size=(3000, 4))
    odds = np.exp(honest) / np.exp(honest).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(4, p=row) for row in odds])
    bias = np.array([1.0, -0.5, 0.0, -0.5])
    found = fit_calibration((3 * (honest - bias)).astype(np.float32), labels)
    assert found.temperature == pytest.approx(3, rel=0.1)
    assert np.abs(found.bias - bias).max() < 0.2
    assert found.shares == pytest.approx(np.bincount(labels) / 3000, abs=1e-3)
    plain = fit_calibration((3 * honest).astype(np.float32), labels)
    assert not plain.bias.any()
    assert plain.shares == pytest.approx(odds.mean(axis=0), abs=0.01)
    few = fit_calibration(honest[:9].astype(np.float32), labels[:9])
    assert (few.temperature, few.images) == (1.0, 9)
    assert not few.bias.any()
