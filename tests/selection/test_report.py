"""What `select` says of choices that teach less than they seem to, one line each."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from plada.labeler.embedded_target import EmbeddedSplit, EmbeddedTarget
from plada.selection.auto import enough_bytes
from plada.selection.report import _remarks, emptied_in_words, shared_share, thin_in_words


def said(
    classes: str,
    before: list[int],
    after: list[int],
    *,
    keep: int | None = None,
    whole: int | None = None,
    test: int = 0,
) -> list[str]:
    """The remarks on a choice in 400 bytes; `test` of ten test images are training images."""
    rng = np.random.default_rng(0)
    train, other = (rng.normal(size=(20, 8)).astype(np.float32) for _ in range(2))
    mixed = np.concatenate([train[:test] * 1.0000001, other[: 10 - test]])
    splits = [EmbeddedSplit(vectors, np.zeros(len(vectors), np.int64), 0) for vectors in (train, train[:0], mixed)]
    draft: Any = SimpleNamespace(choice=SimpleNamespace(whole=whole), labels=range(sum(before)))
    composer: Any = SimpleNamespace(
        target=SimpleNamespace(name="t", classes=tuple(classes)), index=SimpleNamespace(readable=sum(before))
    )
    return [line for line in _remarks(draft, composer, EmbeddedTarget(*splits), 400, before, after, keep=keep) if line]


def test_nothing_is_said_of_an_ordinary_choice() -> None:
    assert said("ab", [50, 60], [9, 5], whole=None) == []
    assert said("ab", [50, 60], [9, 5], whole=400, test=0) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("'a' is the only class, so whatever students see they call it that", said("a", [50], [9])),
        ("target t: 70% of its test images are also training images", said("ab", [50, 60], [9, 5], test=7)),
        (
            "no image is chosen of 1 of 3 classes, such as 'c': students cannot learn them. Give --keep 2.7% or more: one image a class",
            said("abc", [50, 60, 4], [1, 1, 0], keep=2),
        ),
        (
            "fewer than 5 images are chosen of 2 of 3 classes, such as 2 of 'b': students learn little of them. Give a larger --budget",
            said("abc", [50, 60, 9], [4, 2, 9]),
        ),
        ("Give a larger --keep", said("ab", [50, 60], [4, 4], keep=8)),
        ("The reference has no more of them: index a larger one, or leave them out", said("ab", [50, 3], [50, 3])),
        ("the labels of all 110 images take about 232 of the 400 bytes", said("ab", [50, 60], [9, 5], whole=232)),
    ],
)
def test_one_line_each_with_what_to_do(line: str, found: list[str]) -> None:
    assert len(found) == 1
    assert line in found[0]
    assert ". " in found[0]


def test_a_class_that_the_reference_lacks_is_not_emptied() -> None:
    assert emptied_in_words("ab", [50, 0], [9, 0], images=50, keep=True) == ""
    assert thin_in_words("ab", [50, 0], [9, 0], keep=False) == ""
    assert "Give --keep 0.0015% or more" in emptied_in_words(
        "ab", [7, 200_000 - 62_000], [3, 0], images=138_007, keep=True
    )


def test_few_common_images_are_no_news() -> None:
    vectors = np.random.default_rng(0).normal(size=(5000, 4)).astype(np.float32)
    assert shared_share(vectors[:2000], vectors[1900:]) == pytest.approx(0.05)
    assert shared_share(vectors[:0], vectors) == shared_share(vectors, vectors[:0]) == 0
    assert shared_share(np.zeros((2, 4), np.float32), vectors) == 0


def test_more_bytes_stop_paying_where_no_larger_budget_brings_half_a_point() -> None:
    assert enough_bytes([(10, 0.5), (20, 0.502), (40, 0.9), (80, 0.901)]) == 40
    assert enough_bytes([(10, 0.9), (20, 0.8), (40, 0.9049)]) == 10
    assert enough_bytes([(10, 0.5), (20, 0.6), (40, 0.7)]) is None
    assert enough_bytes([(10, 0.5)]) is None
