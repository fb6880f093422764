"""Embeddings that memory does not hold come from one pass, in the order in which they are asked for."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from plada.retrieval.embeddings import in_order

VECTORS = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float16)


@pytest.mark.parametrize("block", [1, 7, 100])
@pytest.mark.parametrize("wanted", [1, 10, 60])
def test_one_pass_gives_every_run_of_rising_positions(block: int, wanted: int) -> None:
    """With positions that have no embedding, and some that nobody asks for."""
    there = np.flatnonzero(np.arange(100) % 9 != 4)
    passes = []

    def blocks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        passes.append(1)
        for start in range(0, len(there), block):
            some = there[start : start + block]
            yield some, VECTORS[some]
        yield there[:0], VECTORS[:0]

    vectors = in_order(blocks())
    asked = there[::2]
    for start, stop in itertools.pairwise([*range(0, len(asked), wanted), len(asked)]):
        for _ in range(2):  # two teachers ask for the same
            np.testing.assert_array_equal(vectors(asked[start:stop]), VECTORS[asked[start:stop]])
    assert len(passes) == 1
