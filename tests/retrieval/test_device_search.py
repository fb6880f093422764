"""Embeddings that stay on a GPU give the exact result, bit for bit; the CPU plays the GPU."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import plada
from plada.errors import DataError, RequestError
from plada.retrieval import device_search
from plada.retrieval.device_search import ExactSearch, KeptVectors, roundoff
from plada.retrieval.index import Index
from plada.retrieval.knn import exact_search
from tests.retrieval.test_exact import blocks, hard_cases, truth

CPU = torch.device("cpu")


def kept(vectors: np.ndarray) -> KeptVectors:
    return KeptVectors(blocks(vectors, 700), len(vectors), vectors.shape[1], CPU)


@pytest.mark.parametrize("case", list(hard_cases()), ids=lambda case: case[0])
def test_it_is_exact(case: tuple[str, np.ndarray, np.ndarray, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_search, "_ROWS", 900)
    monkeypatch.setattr(device_search, "_QUERIES", 33)
    _, vectors, queries, k = case
    scores, positions = kept(vectors).search(queries, k)
    right, order = truth(vectors, queries, k)
    assert scores.tobytes() == right.tobytes()
    np.testing.assert_array_equal(positions, order)


def test_tf32_is_reckoned_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of rounded factors, as TF32 makes them; the bound is then wider."""
    rng = np.random.default_rng(0)
    vectors = (np.ones(24) + 1e-3 * rng.normal(size=(2000, 24))).astype(np.float16)
    queries = rng.normal(size=(20, 24)).astype(np.float32)

    def rounded(queries: torch.Tensor) -> torch.Tensor:
        bits = queries.contiguous().view(torch.int32)
        return (((bits + (1 << 12)) >> 13) << 13).view(torch.float32)

    class Rounding(KeptVectors):
        def _products(self, queries: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
            yield from super()._products(rounded(queries))

    units: list[float] = []
    from plada.retrieval.coarse import slack as real

    def wide(queries: Any, used: Any, *, unit: float = 0.0) -> Any:
        units.append(unit)
        return real(queries, used, unit=device_search._ROUNDOFF["tf32"])

    monkeypatch.setattr(device_search, "slack", wide)
    scores, positions = Rounding(blocks(vectors, 700), 2000, 24, CPU).search(queries, 5)
    right, order = truth(vectors, queries, 5)
    assert scores.tobytes() == right.tobytes()
    np.testing.assert_array_equal(positions, order)
    assert units == [0.0], "a CPU has no TF32"
    assert roundoff() == 0.0
    matmul: Any = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    try:
        matmul.fp32_precision = "tf32"
        assert roundoff() == 2.0**-10
    finally:
        matmul.fp32_precision = before


def test_bad_input_is_refused_as_elsewhere() -> None:
    vectors = np.ones((10, 4), np.float16)
    with pytest.raises(RequestError, match="all of it finite"):
        kept(vectors).search(np.full((1, 4), np.nan, np.float32), 1)
    with pytest.raises(DataError, match="fewer than 11 images"):
        kept(vectors).search(np.ones((1, 4), np.float32), 11)
    vectors[7] = np.inf
    with pytest.raises(DataError, match="embedding of image 7 is not finite"):
        kept(vectors)
    assert KeptVectors(blocks(np.ones((10, 4), np.float16), 3), 12, 4, CPU).search(np.ones((0, 4), np.float32), 2)[
        0
    ].shape == (0, 2)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The CPU as a GPU with much memory; counts what is made."""
    made: list[int] = []

    class Counted(KeptVectors):
        def __init__(self, *arguments: Any) -> None:
            made.append(arguments[1])
            super().__init__(*arguments)

    monkeypatch.setattr(device_search, "cuda_device", lambda: CPU)
    monkeypatch.setattr(device_search, "free_device_memory", lambda _: 1 << 40)
    monkeypatch.setattr(device_search, "KeptVectors", Counted)
    monkeypatch.setattr(device_search, "WORTH", 0)
    return made


def test_an_index_is_copied_once(gpu: list[int], glyphs: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = plada.open_index(glyphs.folder)
    vectors = glyphs.vectors([5, 900, 44]).astype(np.float32)
    found = [opened.nearest(vectors, k) for k in (1, 7)]
    assert gpu == [1500]
    monkeypatch.setattr(device_search, "cuda_device", lambda: None)
    plain = plada.open_index(glyphs.folder)
    for k, (scores, positions) in zip((1, 7), found, strict=True):
        right = plain.nearest(vectors, k)
        assert scores.tobytes() == right[0].tobytes()
        np.testing.assert_array_equal(positions, right[1])
    assert gpu == [1500]
    assert opened.search("position:3", k=2) == plain.search("position:3", k=2)


@pytest.mark.parametrize("limit", ["small", "no room", "full", "full later"])
def test_where_the_gpu_does_not_serve_the_cpu_does(gpu: list[int], limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float16)
    queries = vectors[:5].astype(np.float32)
    released: list[str] = []
    monkeypatch.setattr(device_search, "release_memory", released.append)

    def full(*_: Any) -> None:
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")

    if limit == "small":
        monkeypatch.setattr(device_search, "WORTH", 200 * 8 * 2 + 1)
    elif limit == "no room":
        monkeypatch.setattr(device_search, "free_device_memory", lambda _: 2 * 200 * 8 * 2 - 1)
    else:
        monkeypatch.setattr(KeptVectors, "search" if limit == "full later" else "__init__", full)
    search = ExactSearch()
    for _ in range(2):
        scores, positions = search(lambda: blocks(vectors, 64), queries, 3, rows=200, dimension=8)
        right = exact_search(blocks(vectors, 64), queries, 3)
        assert scores.tobytes() == right[0].tobytes()
        np.testing.assert_array_equal(positions, right[1])
    assert len(gpu) == (1 if limit.startswith("full") else 0), "it is given up"
    assert len(released) == (1 if limit.startswith("full") else 0)


def test_other_errors_pass(gpu: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(KeptVectors, "search", broken)
    with pytest.raises(RuntimeError, match="a mistake"):
        ExactSearch()(
            lambda: blocks(np.ones((9, 4), np.float16), 4), np.ones((1, 4), np.float32), 1, rows=9, dimension=4
        )
