"""Quotas, rules and the budget: each must obey its law on any input."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plada.common.statistics import class_ranks
from plada.errors import BudgetTooSmall
from plada.labeler.pseudo_labels import PseudoLabels
from plada.labeler.scores import SCORES
from plada.selection.budget import fill_budget
from plada.selection.quotas import balanced_quotas, safety_net_quotas
from plada.selection.rules.nearest import nearest_order
from plada.selection.rules.registry import RULES
from plada.selection.rules.rule import Chosen, Context
from plada.selection.table import make_table

COUNTS = st.lists(st.integers(0, 60), min_size=1, max_size=12).filter(lambda counts: sum(counts) > 0)


def labelled(n: int = 400, classes: int = 4, seed: int = 0) -> PseudoLabels:
    """Positions with gaps (some images were unreadable), uneven classes, scores from made-up logits."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)).astype(np.float32) * 3 + np.linspace(2, -1, classes, dtype=np.float32)
    positions = np.sort(rng.choice(2 * n, n, replace=False)).astype(np.int64)
    scores = {name: score(logits) for name, score in SCORES.items()}
    return PseudoLabels(positions, logits.argmax(axis=1).astype(np.int64), scores, classes)


def vectors(positions: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    made = np.stack([np.random.default_rng(int(p)).normal(size=8) for p in positions]).astype(np.float32)
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), np.float32)


CONTEXT = Context(vectors, vectors(np.arange(5000, 5012)), np.arange(12) % 4, seed=0)


def chosen(name: str, labels: PseudoLabels, k: int, context: Context = CONTEXT) -> npt.NDArray[np.int64]:
    return RULES[name].prepare(labels, context)(k).rows


@given(COUNTS, st.integers(0, 400))
def test_balanced_quotas(counts: list[int], k: int) -> None:
    given_counts = np.array(counts, np.int64)
    quotas = balanced_quotas(given_counts, k)
    assert quotas.sum() == min(k, sum(counts))
    assert (quotas <= given_counts).all()
    unfilled = quotas[quotas < given_counts]
    if len(unfilled):
        assert unfilled.max() - unfilled.min() <= 1
        assert quotas.max() <= unfilled.max() + 1 or quotas.max() <= unfilled.min() + 1


@given(COUNTS, st.integers(0, 400), st.sampled_from([0.5, -0.2, 0.0, 1.0]))
def test_safety_net_quotas(counts: list[int], reserved: int, alpha: float) -> None:
    given_counts = np.array(counts, np.int64)
    quotas = safety_net_quotas(given_counts, reserved, alpha)
    assert quotas.sum() == min(reserved, sum(counts))
    assert (quotas <= given_counts).all()
    assert (quotas[given_counts == 0] == 0).all()


def test_the_safety_net_is_equation_6() -> None:
    counts = np.array([10_000, 2_500, 400], np.int64)
    assert safety_net_quotas(counts, 170, 0.5).tolist() == [100, 50, 20]
    assert safety_net_quotas(counts, 90, 0.0).tolist() == [30, 30, 30]
    shares = counts**-0.2 / (counts**-0.2).sum()
    assert np.abs(safety_net_quotas(counts, 300, -0.2) - 300 * shares).max() < 1
    # A class that is too small gives its rest to the others in proportion.
    assert safety_net_quotas(np.array([100, 100, 3], np.int64), 90, 0.0).tolist() == [44, 43, 3]


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("k", [4, 37, 399, 400])
def test_every_rule_keeps_k_distinct_images_and_repeats_itself(name: str, k: int) -> None:
    labels = labelled()
    rows = chosen(name, labels, k)
    assert len(rows) == k == len(np.unique(rows))
    assert rows.min() >= 0
    assert rows.max() < len(labels)
    assert np.array_equal(rows, chosen(name, labels, k))


@pytest.mark.parametrize("name", ["herd", "nearest-sure", "nearest", "spread", "balanced", "balanced-random"])
def test_balanced_rules_are_balanced(name: str) -> None:
    labels = labelled()
    kept = np.bincount(labels.labels[chosen(name, labels, 41)], minlength=4)
    assert kept.max() - kept.min() <= 1


def test_energy_keeps_the_highest_logsumexp() -> None:
    labels = labelled()
    rows = chosen("energy", labels, 50)
    rest = np.setdiff1d(np.arange(400), rows)
    assert labels.scores["energy"][rows].min() >= labels.scores["energy"][rest].max()


def test_the_paper_rule_fills_quotas_first_then_by_energy() -> None:
    labels = labelled()
    rows = chosen("paper", labels, 100)
    quotas = safety_net_quotas(labels.counts(), 50, 0.5)
    kept = np.bincount(labels.labels[rows], minlength=4)
    assert (kept >= quotas).all()
    plain = chosen("energy", labels, 100)
    assert labels.scores["energy"][rows].sum() <= labels.scores["energy"][plain].sum()


def test_spread_takes_one_of_each_heap() -> None:
    """Ten heaps of near-copies in one class: spread takes one from each, the balanced rule takes copies."""
    heap = np.repeat(np.arange(10), 8)
    margins = (100 - 5 * heap - np.tile(np.arange(8), 10) * 0.1).astype(np.float32)
    labels = PseudoLabels(np.arange(80), np.zeros(80, np.int64), dict.fromkeys(SCORES, margins), 1)
    centres = np.random.default_rng(0).normal(size=(10, 16))
    noise = np.random.default_rng(1).normal(size=(80, 16)) * 0.001
    context = Context(
        lambda positions: (centres[heap[positions]] + noise[positions]).astype(np.float32),
        CONTEXT.target,
        CONTEXT.target_labels,
    )
    assert len(set(heap[chosen("balanced", labels, 10, context)])) == 2
    assert len(set(heap[chosen("spread", labels, 10, context)])) >= 8


def test_ties_go_to_the_lower_position() -> None:
    flat = {name: np.zeros(30, np.float32) for name in SCORES}
    labels = PseudoLabels(np.arange(30), np.arange(30) % 3, flat, 3)
    for name in ("energy", "entropy", "balanced"):
        assert sorted(chosen(name, labels, 9)) == list(range(9))


@given(st.integers(1, 50), st.integers(60, 5000), st.integers(100, 9000), st.floats(0.3, 4))
def test_the_budget_is_filled_and_never_passed(least: int, most: int, budget: int, per_image: float) -> None:
    def size(k: int) -> int:
        return 60 + int(per_image * k) + (k * 7919) % 5  # nearly, not quite, rising

    tried: list[int] = []

    def make(k: int) -> tuple[int, int]:
        tried.append(k)
        return k, size(k)

    if size(least) > budget:
        with pytest.raises(BudgetTooSmall) as caught:
            fill_budget(make, budget=budget, min_images=least, max_images=most, classes=least)
        assert caught.value.least == size(least)
        return
    found = fill_budget(make, budget=budget, min_images=least, max_images=most, classes=least)
    assert found.bytes == size(found.selection) <= budget
    assert len(tried) <= 14
    assert found.k == most or found.bytes >= 0.995 * budget or budget - found.bytes <= per_image + 10


def test_nearest_takes_turns() -> None:
    """Two wanted images, five candidates on a line: each turn both take their nearest free one."""

    def at(*degrees: float) -> npt.NDArray[np.float32]:
        return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1).astype(np.float32)

    order, similarity = nearest_order(at(0, 10, 20, 80, 50), at(1, 79))
    assert order.tolist() == [0, 3, 1, 4, 2]
    assert similarity[0] == pytest.approx(np.cos(np.radians(1)))
    assert nearest_order(at(0, 10), at()[:0].reshape(0, 2))[0].tolist() == [0, 1]


def test_nearest_goes_on_where_no_neighbour_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plada.selection.rules.nearest.DEPTH", 2)
    candidates = vectors(np.arange(30))
    order, similarity = nearest_order(candidates, vectors(np.arange(100, 103)))
    assert sorted(order) == list(range(30))
    tail = similarity[6:]
    assert (np.diff(tail) <= 0).all()


def test_a_class_without_target_images_is_still_served() -> None:
    labels = labelled()
    context = Context(vectors, CONTEXT.target[:1], np.zeros(1, np.int64))
    assert len(chosen("nearest", labels, 50, context)) == 50


def test_ranks_and_table() -> None:
    assert class_ranks(np.array([1, 0, 1, 1, 0])).tolist() == [0, 0, 1, 2, 1]
    labels = labelled(20)
    best_first = Chosen(np.array([7, 3, 11]), np.array([3, 2, 1], np.float32))
    table = make_table(labels, best_first, ["key7", "key3", "key11"])
    assert table.column_names == ["position", "key", "label", "score", "class_rank"]
    assert table["key"].to_pylist() == ["key3", "key7", "key11"]
    assert table["score"].to_pylist() == [2, 3, 1]
    assert table["position"].to_pylist() == labels.positions[[3, 7, 11]].tolist()
