"""Every first pass gives the exact result, bit for bit; the bound that it stands on holds."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import faiss
import numpy as np
import pytest

from plada.errors import DataError, RequestError
from plada.retrieval import coarse
from plada.retrieval.coarse import FaissPass, MatrixPass, Pass, slack
from plada.retrieval.knn import exact_search

PASSES: dict[str, Callable[[np.ndarray], Pass]] = {
    "float32": MatrixPass,
    "bfloat16": lambda queries: MatrixPass(queries, half=True),
    "faiss": FaissPass,
}


def truth(vectors: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Every score, in float64 and rounded, sorted with ties to the lower position."""
    scores = (queries.astype(np.float64) @ vectors.astype(np.float64).T).astype(np.float32)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), order


def blocks(vectors: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(vectors), size):
        yield np.arange(start, min(start + size, len(vectors))), vectors[start : start + size]


def hard_cases() -> Iterator[tuple[str, np.ndarray, np.ndarray, int]]:
    rng = np.random.default_rng(0)
    plain = rng.normal(size=(3000, 40))
    plain /= np.linalg.norm(plain, axis=1, keepdims=True)
    queries = rng.normal(size=(70, 40)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    yield "plain", plain.astype(np.float16), queries, 10
    yield "one neighbour", plain.astype(np.float16), queries[:1], 1
    yield "all of them", plain[:300].astype(np.float16), queries[:5], 300
    # Closer together than bfloat16 can tell apart: the coarse scores alone would be arbitrary.
    near = plain[0] + 1e-3 * rng.normal(size=(3000, 40))
    yield "nearly equal", (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float16), queries, 20
    yield "many equal", np.repeat(plain[:30], 100, axis=0).astype(np.float16), queries, 150
    yield "all below zero", -np.abs(plain).astype(np.float16), np.abs(queries), 10
    yield "lengths of all sizes", (plain * 10.0 ** rng.uniform(-2, 3, (3000, 1))).astype(np.float16), queries * 50, 10
    # In rising order every block is better than all before.
    line = plain[np.argsort(plain @ queries[0])]
    yield "rising", line.astype(np.float16), queries[:3], 10


@pytest.mark.parametrize("kind", PASSES)
@pytest.mark.parametrize("case", list(hard_cases()), ids=lambda case: case[0])
@pytest.mark.parametrize("size", [17, 1000, 3000])
def test_every_pass_gives_the_exact_result(kind: str, case: tuple[str, np.ndarray, np.ndarray, int], size: int) -> None:
    _, vectors, queries, k = case
    if size == 17:
        vectors = vectors[:: 5 if k < 100 else 1]
    wanted = truth(vectors, queries, k)
    found = exact_search(blocks(vectors, size), queries, k, coarse=PASSES[kind](queries))
    assert np.array_equal(found[1], wanted[1])
    np.testing.assert_allclose(found[0], wanted[0], rtol=2e-7)


def test_the_pass_does_not_change_a_bit_of_the_result() -> None:
    for _, vectors, queries, k in hard_cases():
        results = [exact_search(blocks(vectors, 900), queries, k, coarse=make(queries)) for make in PASSES.values()]
        for scores, positions in results[1:]:
            assert np.array_equal(scores, results[0][0]) and np.array_equal(positions, results[0][1])
        alone = exact_search(blocks(vectors, 500), queries[:1], k)
        assert np.array_equal(alone[0], results[0][0][:1])


@pytest.mark.parametrize("dimension", [8, 512])
def test_the_slack_is_never_passed_and_not_vast(dimension: int) -> None:
    import torch

    rng = np.random.default_rng(1)
    queries = rng.normal(size=(64, dimension)).astype(np.float32)
    vectors = rng.normal(size=(2000, dimension)).astype(np.float16).astype(np.float32)
    used = torch.from_numpy(queries).bfloat16()
    coarse_scores = (used.float() @ torch.from_numpy(vectors).bfloat16().float().T).numpy().astype(np.float64)
    exact = queries.astype(np.float64) @ vectors.astype(np.float64).T
    wrong = np.abs(coarse_scores - exact) / np.linalg.norm(vectors, axis=1)
    allowed = slack(queries, used.float().numpy(), unit=2.0**-8)
    assert (wrong <= allowed[:, None]).all()
    assert (allowed < 0.01 * np.linalg.norm(queries, axis=1)).all()
    assert (slack(queries, queries) < 2e-4 * np.linalg.norm(queries, axis=1)).all()


def test_faiss_where_rounding_could_hide_a_row_asks_the_product() -> None:
    vectors = np.repeat(np.eye(1, 16, dtype=np.float16), 400, axis=0)  # all equal: FAISS must choose 26 of 400
    queries = np.ones((4, 16), np.float32)
    scores, positions = exact_search(blocks(vectors, 400), queries, 10, coarse=FaissPass(queries))
    assert positions.tolist() == [list(range(10))] * 4
    assert (scores == 1).all()


def test_without_a_gpu_build_the_gpu_is_not_even_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss, "get_compile_options", lambda: "OPTIMIZE AVX2")
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: pytest.fail("asked"), raising=False)
    monkeypatch.setattr(faiss, "knn_gpu", lambda *_, **__: pytest.fail("called"), raising=False)
    queries = np.ones((3, 8), np.float32)
    assert exact_search(blocks(np.eye(8, dtype=np.float16), 8), queries, 2)[1].tolist() == [[0, 1]] * 3


@pytest.mark.parametrize("gpus", [0, 1])
def test_with_a_gpu_build_faiss_on_the_gpu_is_used_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, gpus: int
) -> None:
    called = []

    def knn_gpu(resources: object, *arguments: Any, metric: int) -> tuple[np.ndarray, np.ndarray]:
        called.append(resources)
        # As a GPU does: other last bits, other order among ties.
        queries, vectors, near = arguments
        scores, rows = faiss.knn(queries, vectors, near, metric=metric)
        return scores * np.float32(1 + 1e-6), rows

    monkeypatch.setattr(faiss, "get_compile_options", lambda: "OPTIMIZE AVX2 GPU")
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: gpus, raising=False)
    monkeypatch.setattr(faiss, "StandardGpuResources", lambda: "resources", raising=False)
    monkeypatch.setattr(faiss, "knn_gpu", knn_gpu, raising=False)
    for _, vectors, queries, k in hard_cases():
        wanted = exact_search(blocks(vectors, 700), queries, k, coarse=MatrixPass(queries))
        found = exact_search(blocks(vectors, 700), queries, k)
        assert np.array_equal(found[1], wanted[1]) and np.array_equal(found[0], wanted[0])
    assert set(called) == ({"resources"} if gpus else set())


def test_torch_is_not_loaded_for_a_few_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert not coarse.has_bf16(1)


def test_bad_input_is_refused() -> None:
    vectors, queries = np.eye(4, dtype=np.float16), np.ones((1, 4), np.float32)
    with pytest.raises(RequestError, match="all of it finite"):
        exact_search(blocks(vectors, 4), queries * np.nan, 1)
    with pytest.raises(RequestError, match=r"dimension 5: the vectors are of shape \(4, 4\)"):
        exact_search(blocks(vectors, 4), np.ones((1, 5), np.float32), 1)
    vectors[2, 1] = np.inf
    with pytest.raises(DataError, match="the embedding of image 2 is not finite"):
        exact_search(blocks(vectors, 4), queries, 1)


def test_nothing_asked_is_nothing_found() -> None:
    scores, positions = exact_search(blocks(np.eye(4, dtype=np.float16), 4), np.zeros((0, 4), np.float32), 3)
    assert scores.shape == positions.shape == (0, 3)
