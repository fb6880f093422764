"""Laws of what rules are made of: orders, pools, quotas and ranks, for any scores."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from plada.common.statistics import class_ranks
from plada.labeler.pseudo_labels import PseudoLabels
from plada.selection.compose import shares_of_class
from plada.selection.quotas import balanced_quotas, weighted_quotas
from plada.selection.rules.rule import best_first, class_pools, first_of_each_class, in_order_of

SCORES = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 0.5, 2.0, float(np.float32(0.1))]), min_size=1, max_size=40)
LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=60)


def labels_of(scores: list[float], classes: int = 3) -> PseudoLabels:
    rng = np.random.default_rng(len(scores))
    return PseudoLabels(
        np.arange(len(scores)) * 3,
        rng.integers(0, classes, len(scores)),
        {"margin": np.array(scores, np.float32)},
        classes,
    )


@given(SCORES)
def test_the_best_comes_first_and_equals_stay_in_order(scores: list[float]) -> None:
    order = best_first(np.array(scores, np.float32)).tolist()
    assert order == sorted(range(len(scores)), key=lambda row: (-np.float32(scores[row]), row))


@given(SCORES, st.integers(0, 9))
def test_any_rows_in_the_order_of_their_scores(scores: list[float], seed: int) -> None:
    rows = np.random.default_rng(seed).permutation(len(scores))[: len(scores) // 2 + 1]
    found = in_order_of(np.array(scores, np.float32), rows)
    assert sorted(found.rows.tolist()) == sorted(rows.tolist())
    assert (np.diff(found.scores) <= 0).all()
    assert np.array_equal(found.scores, np.array(scores, np.float32)[found.rows])


@given(SCORES)
def test_pools_are_the_classes_best_first(scores: list[float]) -> None:
    labels = labels_of(scores)
    pools = class_pools(labels)
    assert sorted(row for pool in pools for row in pool.tolist()) == list(range(len(scores)))
    for label, pool in enumerate(pools):
        assert set(labels.labels[pool].tolist()) <= {label}
        assert (np.diff(labels.scores["margin"][pool]) <= 0).all()


@given(SCORES, st.lists(st.integers(0, 10), min_size=3, max_size=3))
def test_each_class_gives_its_first(scores: list[float], quotas: list[int]) -> None:
    labels = labels_of(scores)
    order = best_first(labels.scores["margin"])
    wanted = np.minimum(quotas, labels.counts())
    chosen = first_of_each_class(labels, order, wanted)
    assert np.bincount(labels.labels[chosen], minlength=3).tolist() == wanted.tolist()
    for label in range(3):
        mine = [row for row in order.tolist() if labels.labels[row] == label]
        assert [row for row in chosen.tolist() if labels.labels[row] == label] == mine[: wanted[label]]


@given(LABELS)
def test_ranks_count_each_class_from_nought(labels: list[int]) -> None:
    ranks = class_ranks(np.array(labels))
    seen: dict[int, int] = {}
    for label, rank in zip(labels, ranks.tolist(), strict=True):
        assert rank == seen.get(label, 0)
        seen[label] = rank + 1


@given(LABELS)
def test_shares_fall_evenly_over_every_class(labels: list[int]) -> None:
    given_labels = np.array(labels)
    shares = shares_of_class(given_labels)
    assert ((shares > 0) & (shares < 1)).all()
    for label in set(labels):
        mine = shares[given_labels == label]
        assert np.allclose(mine, (np.arange(len(mine)) + 0.5) / len(mine))


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8), st.integers(0, 120))
def test_balanced_quotas_are_as_even_as_the_classes_allow(counts: list[int], k: int) -> None:
    quotas = balanced_quotas(np.array(counts), k)
    assert quotas.sum() == min(k, sum(counts))
    assert (quotas <= counts).all()
    unfilled = [quota for quota, count in zip(quotas.tolist(), counts, strict=True) if quota < count]
    if unfilled:
        assert max(quotas.tolist()) <= min(unfilled) + 1


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=8),
    st.integers(1, 120),
    st.lists(st.floats(0, 1), min_size=8, max_size=8),
)
def test_weighted_quotas_fill_and_forget_no_class(counts: list[int], k: int, weights: list[float]) -> None:
    quotas = weighted_quotas(np.array(counts), k, np.array(weights[: len(counts)]))
    assert quotas.sum() == min(k, sum(counts))
    assert (quotas <= counts).all()
    if k >= sum(count > 0 for count in counts):
        assert (quotas[np.array(counts) > 0] >= 1).all()
