"""A linear head: what is fitted block by block is what is fitted at once, in bounded memory and on any number of threads."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from plada.common.products import BLAS, one_thread
from plada.labeler.linear_teacher import cross_validate
from plada.networks import linear_head, solver
from plada.networks.linear_head import HeadFitter, fit_head
from plada.networks.solver import softmax_regression
from plada.selection.student import fit_student


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


def blas_threads() -> set[int]:
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


@pytest.mark.parametrize("dimension", [12, 400], ids=["more examples than numbers", "fewer"])
def test_small_fits_run_on_one_thread_whoever_makes_them(dimension: int, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, labels, mean = drawn(300, 3, dimension)
    seen: list[set[int]] = []

    def watched(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            seen.append(blas_threads())
            return real(*arguments)

        return call

    monkeypatch.setattr(np.linalg, "qr", watched(np.linalg.qr))
    monkeypatch.setattr(solver, "minimise", watched(solver.minimise))
    with threadpool_limits(2, user_api="blas"):
        assert blas_threads() == {2}
        fit_head(vectors, labels, classes=3, mean=mean, penalty=1e-3, steps=2)
        HeadFitter(vectors, labels, classes=3, mean=mean).head(1e-3, steps=2)
        softmax_regression(vectors.astype(np.float64), labels, 3, penalty=1e-3, steps=2)
        fit_student(vectors, labels, classes=3, steps=2)
        assert blas_threads() == {2}, "what was set before is set again"
    assert len(seen) == (4 if dimension == 12 else 7)
    assert set().union(*seen) == {1}


def test_one_thread_within_one_thread_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str | None] = []

    def limits(limit: int, user_api: str | None) -> Any:
        made.append(user_api)
        return threadpool_limits(limit, user_api=user_api)

    monkeypatch.setattr("threadpoolctl.threadpool_limits", limits)
    with one_thread(BLAS), one_thread(BLAS), one_thread(), one_thread():
        pass
    with one_thread(BLAS):
        pass
    assert made == [BLAS, None, BLAS]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The CPU as a GPU, on which every fit is a large one; notes which devices were asked for."""
    asked: list[str | None] = []

    def gpu_of(device: str | None) -> torch.device | None:
        asked.append(device)
        return None if device == "cpu" else torch.device("cpu")

    monkeypatch.setattr(linear_head, "gpu_of", gpu_of)
    monkeypatch.setattr(linear_head, "LARGE", 0)
    monkeypatch.setattr(solver, "_DEVICE_NUMBERS", 7 * 400)
    return asked


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("stays", [False, True])
def test_a_fit_on_a_gpu_is_that_of_the_cpu(
    soft: bool, stays: bool, gpu: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, labels, mean = drawn(1500, 7, 12)
    wanted = np.eye(7)[labels] * 0.9 + 0.1 / 7 if soft else labels
    monkeypatch.setattr(solver, "free_device_memory", lambda _: 4 * 1500 * 12 * 4 - (not stays))

    def fit(device: str | None) -> linear_head.Head:
        return fit_head(vectors, wanted, classes=7, mean=mean, penalty=1e-3, device=device)

    here, there, again = fit("cpu"), fit(None), fit("cuda:0")
    np.testing.assert_allclose(there.weight, here.weight, atol=2e-3 * float(np.abs(here.weight).max()))
    assert (there.logits(vectors).argmax(1) == here.logits(vectors).argmax(1)).mean() > 0.998
    assert there.weight.tobytes() + there.bias.tobytes() == again.weight.tobytes() + again.bias.tobytes()
    assert gpu == ["cpu", None, "cuda:0"]


def test_examples_count_on_a_gpu_as_on_the_cpu(gpu: list[str | None]) -> None:
    vectors, labels, mean = drawn(600, 4, 12)
    counts = np.where(np.arange(600) < 200, 3.0, 1.0)
    for wanted in (labels, np.eye(4)[labels]):
        here, there = (
            fit_head(vectors, wanted, classes=4, mean=mean, penalty=1e-3, importance=counts, device=device)
            for device in ("cpu", None)
        )
        np.testing.assert_allclose(there.logits(vectors), here.logits(vectors), atol=0.02)


def test_a_search_for_the_penalty_runs_there_too_and_some_examples_do(gpu: list[str | None]) -> None:
    vectors, labels, mean = drawn(400, 5, 12)
    found = [
        cross_validate(vectors, labels, classes=5, mean=mean, seed=0, penalties=(1e-2, 1e-4), device=device)
        for device in ("cpu", None)
    ]
    assert found[0][0] == found[1][0]
    np.testing.assert_allclose(found[0][1].logits, found[1][1].logits, atol=0.05)
    assert set(gpu) == {"cpu", None}


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED")]
)
def test_a_gpu_whose_memory_ends_leaves_the_fit_to_the_cpu(
    error: Exception, gpu: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    released: list[str] = []
    monkeypatch.setattr(linear_head, "device_regression", fail)
    monkeypatch.setattr(linear_head, "release_memory", released.append)
    vectors, labels, mean = drawn(300, 5, 12)
    there = fit_head(vectors, labels, classes=5, mean=mean, penalty=1e-3, device=None)
    here = fit_head(vectors, labels, classes=5, mean=mean, penalty=1e-3)
    assert there.weight.tobytes() == here.weight.tobytes()
    assert released == ["cpu"]
    error.args = ("a mistake of ours",)
    if type(error) is RuntimeError:
        with pytest.raises(RuntimeError, match="a mistake"):
            fit_head(vectors, labels, classes=5, mean=mean, penalty=1e-3, device=None)


def test_small_fits_ask_for_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_head, "gpu_of", lambda _: pytest.fail("asked"))
    vectors, labels, mean = drawn(300, 5, 12)
    fit_head(vectors, labels, classes=5, mean=mean, penalty=1e-3, device=None)
