"""The fast pass keeps what sorting everything would keep, and knows the counts of all."""

import itertools

import numpy as np
import pytest

from plada.errors import DataError
from plada.labeler import scan
from plada.labeler.pseudo_labels import pseudo_label
from plada.networks.linear_head import Head

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
    assert found.counts.tolist() == everything.counts().tolist()
    assert np.bincount(found.labels, minlength=7).tolist() == np.minimum(everything.counts(), 20).tolist()
    for label in range(7):
        rows = np.flatnonzero(everything.labels == label)
        best = rows[np.argsort(-everything.scores["margin"][rows], kind="stable")[:20]]
        assert set(found.positions[found.labels == label]) == set(everything.positions[best])
    rows = np.searchsorted(everything.positions, found.positions)
    np.testing.assert_allclose(found.margins, everything.scores["margin"][rows], rtol=1e-3, atol=1e-3)


def test_a_shortlist_of_everything() -> None:
    found = scan.scan_linear(blocks([6000]), HEAD, depth=6000)
    assert found.positions.tolist() == list(range(0, 18000, 3))


def test_one_class_and_nothing_at_all() -> None:
    one = Head(HEAD.mean, HEAD.weight[:, :1], HEAD.bias[:1])
    assert len(scan.scan_linear(blocks([6000]), one, depth=9).positions) == 9
    with pytest.raises(DataError, match="no readable image"):
        scan.scan_linear([], HEAD, depth=5)


def test_embeddings_that_are_not_finite() -> None:
    broken = VECTORS[:10].copy()
    broken[4] = np.nan
    with pytest.raises(DataError, match="image 12 are not finite"):
        scan.scan_linear([(3 * np.arange(10), broken)], HEAD, depth=5)


@pytest.mark.parametrize("rows", [4, 64])
def test_equal_margins_go_to_the_lower_position(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every image four times, and cuts at every turn: of equals the first that came stay."""
    monkeypatch.setattr(scan, "_ROWS", rows)
    monkeypatch.setattr(scan, "_SLACK", 1)
    copies = np.tile(VECTORS[:500], (4, 1))
    found = scan.scan_linear([(np.arange(2000), copies)], HEAD, depth=10)
    everything = pseudo_label([(np.arange(2000), copies)], HEAD.logits, classes=7)
    for label in range(7):
        mine = np.flatnonzero(everything.labels == label)
        best = mine[np.argsort(-everything.scores["margin"][mine], kind="stable")[:10]]
        # Products of other shapes round otherwise, so the copies of one image may differ by a bit: images are compared.
        assert sorted(found.positions[found.labels == label] % 500) == sorted(best % 500)
    assert found.counts.tolist() == everything.counts().tolist()


def test_more_classes_than_sixteen_bits_hold() -> None:
    """Labels beyond 65 535 keep their place: classes are brought together by another sort."""
    kept = scan.MarginCollector(70_000, 2)
    labels = np.array([69_999, 4_463, 69_999, 4_463, 69_999])
    kept.add(np.arange(5), labels, np.array([1.0, 9, 3, 8, 2], np.float32))
    found = kept.finish()
    assert found.positions.tolist() == [1, 2, 3, 4]
    assert found.labels.tolist() == [4_463, 69_999, 4_463, 69_999]
