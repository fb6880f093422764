"""Laws of the splits that are made here, for any numbers of images: nothing lost, nothing twice, stratified, repeatable."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plada.errors import DataError
from plada.sources.targets.split_lists import read_lines
from plada.sources.targets.target import (
    TEST_SHARE,
    EmptyCollection,
    Split,
    Target,
    make_target,
    set_aside,
    split_off,
    split_target,
)

COUNTS = st.lists(st.integers(1, 40), min_size=1, max_size=8)


def split_of(counts: list[int], seed: int = 0) -> Split:
    labels = np.repeat(np.arange(len(counts)), counts)
    rng = np.random.default_rng(seed)
    return Split(
        EmptyCollection("made up"), rng.permutation(1000)[: len(labels)].astype(np.int64), rng.permutation(labels)
    )


def pairs(split: Split) -> list[tuple[int, int]]:
    return list(zip(split.positions.tolist(), split.labels.tolist(), strict=True))


def per_class(split: Split, classes: int) -> list[int]:
    return [int((split.labels == label).sum()) for label in range(classes)]


@given(COUNTS, st.integers(0, 5))
def test_nothing_is_lost_and_nothing_is_twice(counts: list[int], seed: int) -> None:
    whole = split_of(counts)
    for cut in (set_aside, split_off):
        rest, held = cut(whole, len(counts), seed=seed)
        assert sorted(pairs(rest) + pairs(held)) == sorted(pairs(whole))
        order = {position: place for place, position in enumerate(whole.positions.tolist())}
        for part in (rest, held):
            assert [order[position] for position in part.positions.tolist()] == sorted(
                order[position] for position in part.positions.tolist()
            )
        again = cut(whole, len(counts), seed=seed)
        assert [pairs(part) for part in again] == [pairs(rest), pairs(held)]


@given(COUNTS, st.integers(0, 5))
def test_a_class_with_two_images_is_in_both_parts_and_one_with_one_trains(counts: list[int], seed: int) -> None:
    whole = split_of(counts)
    for cut in (set_aside, split_off):
        rest, held = cut(whole, len(counts), seed=seed)
        for count, trains, judges in zip(
            counts, per_class(rest, len(counts)), per_class(held, len(counts)), strict=True
        ):
            assert trains >= 1
            assert (judges >= 1) == (count >= 2)


@given(st.lists(st.integers(2, 60), min_size=1, max_size=8))
def test_the_test_part_is_as_large_as_the_papers(counts: list[int]) -> None:
    _, held = split_off(split_of(counts), len(counts))
    least = sum(max(1, math.floor(TEST_SHARE * count)) for count in counts)
    wanted = math.ceil(TEST_SHARE * sum(counts) - 1e-9)
    assert len(held) == max(wanted, least)
    for count, judged in zip(counts, per_class(held, len(counts)), strict=True):
        assert abs(judged - TEST_SHARE * count) <= 1


def test_another_seed_is_another_split() -> None:
    whole = split_of([30, 30])
    for cut in (set_aside, split_off):
        assert pairs(cut(whole, 2, seed=1)[1]) != pairs(cut(whole, 2, seed=2)[1])
    # The validation images are not drawn as the test images were, or they would be theirs again.
    assert pairs(set_aside(whole, 2, seed=1)[1]) != pairs(split_off(whole, 2, seed=1)[1])


@given(COUNTS, st.integers(0, 3))
def test_a_target_that_is_split_here_has_three_parts_without_overlap(counts: list[int], seed: int) -> None:
    whole = split_of(counts)
    made = split_target("t", tuple(map(str, range(len(counts)))), whole, seed=seed, note="a remark")
    assert made.test is not None
    parts = [made.train, made.validation, made.test]
    assert sorted(pair for part in parts for pair in pairs(part)) == sorted(pairs(whole))
    assert min(per_class(made.train, len(counts))) >= 1
    assert made.note.startswith("a remark; test: 20%")
    assert f"seed {seed}" in made.note


def test_a_class_without_training_images_is_named() -> None:
    with pytest.raises(DataError, match="made up: no training image of class 'dog'"):
        make_target("t", ("cat", "dog"), split_of([5]), None, None)


def test_published_validation_images_stay_as_they_are() -> None:
    train, held = split_of([6, 6]), split_of([2, 2], seed=1)
    made = make_target("t", ("a", "b"), train, held, None, note="as published")
    assert (pairs(made.train), pairs(made.validation), made.note) == (pairs(train), pairs(held), "as published")


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("first\nsecond\n", encoding="utf-8-sig")
    assert read_lines(tmp_path / "list.txt") == ["first", "second"]


def test_remarks_add_up() -> None:
    made = make_target("t", ("a",), split_of([5]), split_of([2]), None)
    assert isinstance(made, Target)
    assert made.noted("one").noted("").noted("two").note == "one; two"
