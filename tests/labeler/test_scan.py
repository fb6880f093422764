"""The fast pass keeps what sorting everything would keep, and knows the counts of all."""

import itertools

import numpy as np
import pytest

from plada.errors import DataError
from plada.labeler import scan
from plada.labeler.scores import SCORES
from plada.labeler.teachers import Head, pseudo_label

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(6000, 16)).astype(np.float16)
HEAD = Head(
    RNG.normal(size=16).astype(np.float32),
    RNG.normal(size=(16, 7)).astype(np.float32),
    RNG.normal(size=7).astype(np.float32),
)


def blocks(sizes: list[int]) -> list[tuple[np.ndarray, np.ndarray]]:
    edges = np.cumsum([0, *sizes])
    return [(3 * np.arange(a, b), VECTORS[a:b]) for a, b in itertools.pairwise(edges)]


@pytest.mark.parametrize("sizes", [[6000], [5, 0, 4090, 1905], [1000] * 6])
def test_the_pass_keeps_the_largest_margins(sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_ROWS", 256)
    found = scan.scan_linear(blocks(sizes), HEAD, depth=20)
    everything = pseudo_label(blocks([6000]), HEAD.logits, classes=7)
    assert found.population().tolist() == everything.counts().tolist()
    assert found.counts().tolist() == np.minimum(everything.counts(), 20).tolist()
    for label in range(7):
        rows = np.flatnonzero(everything.labels == label)
        best = rows[np.argsort(-everything.scores["margin"][rows], kind="stable")[:20]]
        assert set(found.positions[found.labels == label]) == set(everything.positions[best])
    at = np.searchsorted(everything.positions, found.positions)
    for name in SCORES:
        np.testing.assert_allclose(found.scores[name], everything.scores[name][at], rtol=1e-3, atol=1e-3)


def test_a_shortlist_of_everything() -> None:
    found = scan.scan_linear(blocks([6000]), HEAD, depth=6000)
    assert len(found) == 6000


def test_one_class_and_nothing_at_all() -> None:
    one = Head(HEAD.mean, HEAD.weight[:, :1], HEAD.bias[:1])
    assert len(scan.scan_linear(blocks([6000]), one, depth=9)) == 9
    with pytest.raises(DataError, match="no readable image"):
        scan.scan_linear([], HEAD, depth=5)


def test_embeddings_that_are_not_finite() -> None:
    broken = VECTORS[:10].copy()
    broken[4] = np.nan
    with pytest.raises(DataError, match="image 12 are not finite"):
        scan.scan_linear([(3 * np.arange(10), broken)], HEAD, depth=5)
