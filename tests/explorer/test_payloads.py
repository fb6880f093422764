"""What a payload chose: each class in its order, every image found again."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from plada.explorer.payloads import RankedPayload, rank_payload
from plada.payload.payload import Payload


def choice(labels: list[int], scores: list[float] | None = None, classes: int = 3) -> RankedPayload:
    """Images at 0, 10, 20 .. with these labels."""
    positions = np.arange(len(labels)) * 10
    payload = Payload(positions, np.array(labels, np.int64), tuple("abc"[:classes]), 1000, b"k" * 8, b"c" * 8)
    if scores is None:
        return rank_payload(payload, "x.plada")
    given = np.array(scores)
    ranks = np.zeros(len(labels), np.int64)
    for label in set(labels):
        rows = np.flatnonzero(payload.labels == label)
        ranks[rows[np.argsort(-given[rows], kind="stable")]] = np.arange(len(rows))
    return rank_payload(payload, "x.plada", scores=given, ranks=ranks)


def test_best_first_by_score() -> None:
    made = choice([0, 2, 0, 0], [0.5, 9.0, 0.9, 0.7])
    assert made.best(0, 0, 10) == [20, 30, 0]
    assert made.best(0, 1, 1) == [30]
    assert made.best(0, 3, 5) == []
    assert made.best(1, 0, 5) == []
    assert made.best(2, 0, 5) == [10]
    found = made.find(0)
    assert found is not None
    assert (found.label, found.place, found.count, found.score) == (0, 3, 3, 0.5)
    assert [made.find(position) for position in (5, 40, 999)] == [None] * 3


def test_by_position_where_no_score_is_known() -> None:
    made = choice([1, 0, 1])
    assert made.best(1, 0, 9) == [0, 20]
    found = made.find(20)
    assert found is not None
    assert (found.label, found.place, found.count, found.score) == (1, 2, 2, None)
    assert made.target is None


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(-5, 5)), max_size=40))
def test_pages_and_places_agree(rows: list[tuple[int, float]]) -> None:
    made = choice([label for label, _ in rows], [score for _, score in rows])
    seen = []
    for label in range(3):
        best = made.best(label, 0, 1000)
        assert len(best) == made.count(label)
        for place, position in enumerate(best, 1):
            found = made.find(position)
            assert found is not None
            assert (found.label, found.place) == (label, place)
        scores = [rows[position // 10][1] for position in best]
        assert scores == sorted(scores, reverse=True)
        seen += best
    assert sorted(seen) == [at * 10 for at in range(len(rows))]
