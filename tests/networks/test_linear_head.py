"""A linear head: what is fitted block by block is what is fitted at once, in bounded memory and on any number of threads."""

import tracemalloc

import numpy as np
import pytest

from plada.networks import linear_head, solver
from plada.networks.linear_head import HeadFitter, fit_head


def drawn(examples: int, classes: int, dimension: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, examples)
    vectors = rng.normal(size=(classes, dimension))[labels] + 1.5 * rng.normal(size=(examples, dimension))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), labels, vectors.mean(axis=0).astype(np.float32)


@pytest.mark.parametrize("soft", [False, True])
def test_a_large_fit_is_the_small_one(soft: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, labels, mean = drawn(1500, 7, 12)
    wanted = np.eye(7)[labels] * 0.9 + 0.1 / 7 if soft else labels
    small = fit_head(vectors, wanted, classes=7, mean=mean, penalty=1e-3)
    monkeypatch.setattr(linear_head, "LARGE", 0)
    monkeypatch.setattr(solver, "_NUMBERS", 7 * 400)
    large = fit_head(vectors, wanted, classes=7, mean=mean, penalty=1e-3)
    np.testing.assert_allclose(large.weight, small.weight, atol=2e-3 * float(np.abs(small.weight).max()))
    np.testing.assert_allclose(large.logits(vectors), small.logits(vectors), atol=0.02)
    assert (large.logits(vectors).argmax(1) == small.logits(vectors).argmax(1)).mean() > 0.998


def test_some_of_the_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, labels, mean = drawn(900, 5, 12)
    rows = np.arange(0, 900, 2)
    for limit in (1 << 25, 0):
        monkeypatch.setattr(linear_head, "LARGE", limit)
        some = HeadFitter(vectors, labels, classes=5, mean=mean, rows=rows).head(1e-3)
        alone = HeadFitter(vectors[rows], labels[rows], classes=5, mean=mean).head(1e-3)
        np.testing.assert_array_equal(some.weight, alone.weight)
        np.testing.assert_array_equal(some.bias, alone.bias)


def test_the_number_of_threads_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, labels, mean = drawn(4000, 9, 16)
    monkeypatch.setattr(linear_head, "LARGE", 0)
    monkeypatch.setattr(solver, "_NUMBERS", 9 * 300)
    heads = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(solver, "cores", lambda threads=threads: threads)
        heads.append(fit_head(vectors, labels, classes=9, mean=mean, penalty=1e-4, steps=40))
    assert len({head.weight.tobytes() + head.bias.tobytes() for head in heads}) == 1


@pytest.mark.parametrize("examples", [10_000, 40_000])
def test_the_memory_of_a_large_fit_does_not_grow_with_its_logits(
    examples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels as rows of zeros and ones would take 16 and 64 MB, and logits as much again."""
    classes = 200
    vectors, labels, mean = drawn(examples, classes, 8)
    monkeypatch.setattr(linear_head, "LARGE", 1 << 20)
    monkeypatch.setattr(solver, "_NUMBERS", 1 << 17)
    monkeypatch.setattr(solver, "cores", lambda: 2)
    tracemalloc.start()
    fit_head(vectors, labels, classes=classes, mean=mean, penalty=1e-3, steps=3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6e6


def test_an_example_that_counts_twice_is_two_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, labels, mean = drawn(300, 4, 12)
    counts = np.where(np.arange(300) < 100, 2.0, 1.0)
    for large in (1 << 22, 0):
        monkeypatch.setattr(linear_head, "LARGE", large)
        weighted = fit_head(vectors, labels, classes=4, mean=mean, penalty=1e-3, importance=counts)
        twice = np.concatenate([np.arange(300), np.arange(100)])
        repeated = fit_head(vectors[twice], labels[twice], classes=4, mean=mean, penalty=1e-3)
        # The centred vectors are scaled by their mean length, which the repeated ones change a little.
        np.testing.assert_allclose(weighted.logits(vectors), repeated.logits(vectors), atol=0.05)
        assert (
            np.abs(
                weighted.logits(vectors) - fit_head(vectors, labels, classes=4, mean=mean, penalty=1e-3).logits(vectors)
            ).max()
            > 0.2
        )
