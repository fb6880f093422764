"""How places are shared out, and what a spread of scores is."""

from dataclasses import replace

import pytest

from plada.reports.findings import ClassFacts, even_ranks, fair_shares, score_spread, thin
from tests.reports.findings import findings, pictures


@pytest.mark.parametrize(
    ("counts", "most", "wanted"),
    [
        ([100, 2, 50], 30, [14, 2, 14]),
        ([5, 5], 100, [5, 5]),
        ([0, 7, 0], 3, [0, 3, 0]),
        ([1] * 10, 3, [1, 0, 0, 1, 0, 0, 1, 0, 0, 0]),
        ([9, 9], 0, [0, 0]),
        ([], 5, []),
    ],
)
def test_shares(counts: list[int], most: int, wanted: list[int]) -> None:
    assert fair_shares(counts, most) == wanted


@pytest.mark.parametrize("most", [1, 2, 10, 99, 500, 5000])
def test_shares_are_fair_and_never_too_many(most: int) -> None:
    counts = [number * 7 % 40 for number in range(100)]
    places = fair_shares(counts, most)
    assert sum(places) <= most
    assert all(place <= count for place, count in zip(places, counts, strict=True))
    cut = [place for place, count in zip(places, counts, strict=True) if place < count]
    if most >= 100:  # who gets less than it has gets as much as anybody
        assert not cut or min(cut) == max(places)
        assert sum(places) > min(most, sum(counts)) - 100


def test_evenly() -> None:
    assert even_ranks(9, 3) == [0, 4, 8]
    assert even_ranks(3, 9) == [0, 1, 2]
    assert (even_ranks(3, 1), even_ranks(3, 0), even_ranks(0, 4)) == ([0], [], [])
    many = even_ranks(1000, 77)
    assert (many[0], many[-1], len(set(many)), many) == (0, 999, 77, sorted(many))


def test_a_spread_is_of_scores_that_are_there() -> None:
    found = score_spread([3.0, 1.0, 2.0, 5.0, 4.0])
    assert found is not None
    assert (found.best, found.upper, found.median, found.lower, found.last) == (5, 4, 3, 2, 1)
    assert score_spread([]) is None


def test_thinning_keeps_classes_and_order() -> None:
    keys = tuple(f"k{number}" for number in range(50))
    found = findings(tuple(ClassFacts(name=name, before=1, after=50, pictures=pictures(keys)) for name in "ab"))
    less = thin(found, 10)
    assert [picture.rank for picture in less.classes[0].pictures] == [0, 12, 24, 37, 49]
    assert less.pictures == 10
    assert replace(less, classes=found.classes) == found
    assert thin(found, 0).pictures == 0
