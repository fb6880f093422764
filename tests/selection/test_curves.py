"""Curves of rules, smoothed together: luck is taken back, real differences stay, and rivals that are alike win nothing."""

import math

import numpy as np
import pytest

from plada.common.statistics import holm, sign_flip_p
from plada.selection.auto import LEVEL
from plada.selection.curves import Cell, smooth

RULES, ROW = ("a", "b", "c", "d", "e", "f", "g", "h"), (20, 50, 125, 312, 781)


def draw(rng: np.random.Generator, shares: dict[Cell, float], images: int = 300, folds: int = 5) -> np.ndarray:
    """Right (1) or wrong (0) of each cell and image: images differ in how hard they are, and each fold's student in luck."""
    hardness = rng.normal(size=images)
    luck = np.repeat(rng.normal(scale=0.15, size=(len(shares), folds)), images // folds, axis=1)
    noise = rng.normal(scale=0.7, size=(len(shares), images))
    level = np.array(list(shares.values()))[:, None]
    return np.asarray(level + 0.6 * hardness + luck + noise > 0, np.float64)


def test_a_level_is_never_outside_of_what_was_seen() -> None:
    """Read together with what is common to all images, levels were 7 points too low."""
    rng = np.random.default_rng(0)
    cells = {(rule, count): 0.1 * place - 0.3 for place, rule in enumerate(RULES) for count in ROW}
    scores = draw(rng, cells)
    curves = smooth(list(cells), scores, inflation=2.25)
    seen = scores.mean(axis=1)
    assert curves.mean.mean() == pytest.approx(seen.mean(), abs=0.01)
    assert np.abs(curves.mean - seen).max() < 0.08
    assert np.corrcoef(curves.mean, seen)[0, 1] > 0.9


def test_the_best_of_many_equals_is_not_too_good() -> None:
    rng = np.random.default_rng(1)
    raw, smoothed = [], []
    for _ in range(30):
        cells = {(rule, count): 0.0 for rule in RULES for count in ROW}
        scores = draw(rng, cells)
        curves = smooth(list(cells), scores, inflation=2.25)
        raw.append(float(scores.mean(axis=1).max()) - 0.5)
        smoothed.append(float(curves.mean.max()) - 0.5)
    assert np.mean(raw) > 0.03
    assert np.mean(smoothed) < 0.5 * np.mean(raw)


def test_a_better_number_of_images_is_found_among_neighbours() -> None:
    rng = np.random.default_rng(2)
    peak = {20: -0.4, 50: 0.0, 125: 0.4, 312: 0.0, 781: -0.4}
    curves = smooth([("a", count) for count in ROW], draw(rng, {("a", c): peak[c] for c in ROW}), inflation=2.25)
    assert ROW[int(curves.mean.argmax())] == 125
    lead, deviation = curves.lead(("a", 125), ("a", 781))
    assert lead > 2 * deviation > 0


def test_rivals_that_are_alike_take_the_place_of_the_default_in_one_run_of_twenty_at_most() -> None:
    rng = np.random.default_rng(3)
    switched = 0
    runs = 400
    for _ in range(runs):
        scores = draw(rng, {(rule, 1): 0.2 for rule in RULES})
        values = [sign_flip_p(row - scores[0], unit=1.0, inflation=2.25) for row in scores[1:]]
        switched += min(holm(values)) < LEVEL
    assert switched / runs <= 0.05


def test_a_rival_that_is_surely_better_is_found() -> None:
    rng = np.random.default_rng(4)
    scores = draw(rng, {(rule, 1): 0.9 if rule == "h" else 0.0 for rule in RULES})
    values = holm([sign_flip_p(row - scores[0], unit=1.0, inflation=2.25) for row in scores[1:]])
    assert values[-1] < LEVEL


def test_the_exact_test_of_signs() -> None:
    """Three images to none prove nothing: of eight ways of signs one is as extreme."""
    assert sign_flip_p(np.array([1.0, 1.0, 1.0, 0.0]), unit=1.0) == pytest.approx(1 / 8)
    assert sign_flip_p(np.array([0.5, -0.5]), unit=0.5) == pytest.approx(0.75)


def test_signs_of_many_images() -> None:
    """More than a thousand equal differences: their number of signs is no float any more."""
    many = np.concatenate([np.ones(1560), -np.ones(1440)])
    deviation = 120 / math.sqrt(3000)
    assert sign_flip_p(many, unit=1.0) == pytest.approx(0.5 * math.erfc(deviation / math.sqrt(2)), rel=0.05)
    assert sign_flip_p(-many, unit=1.0) > 0.98
    assert sign_flip_p(np.zeros(5), unit=1.0) == 1.0
    many = np.concatenate([np.ones(30), -np.ones(10)])
    assert sign_flip_p(many, unit=1.0) < 0.002 < sign_flip_p(many, unit=1.0, inflation=2.25) < 0.05
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
