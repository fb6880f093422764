"""Embeddings that memory does not hold come from one pass, in the order in which they are asked for."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from plada.retrieval.embeddings import hold, in_order

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


def refuse(positions: np.ndarray) -> np.ndarray:
    raise AssertionError("read from the table")


def test_what_memory_does_not_hold_lies_in_a_file_without_a_name(tmp_path: Path) -> None:
    positions = np.arange(0, 100, 3)
    blocks = [(np.arange(at, at + 25), VECTORS[at : at + 25]) for at in range(0, 100, 25)]
    vectors = hold(positions, 3, lambda: blocks, refuse, limit=10, scratch=tmp_path / "cache")
    wanted = np.array([99, 0, 33, 3])
    np.testing.assert_array_equal(vectors(wanted), VECTORS[wanted])
    assert list((tmp_path / "cache").iterdir()) == []


def test_without_room_on_the_disk_the_table_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    assert hold(np.arange(9), 3, list, refuse, limit=10, scratch=tmp_path / "file" / "cache") is refuse
    assert hold(np.arange(9), 3, list, refuse, limit=10) is refuse
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=100))
    assert hold(np.arange(9), 3, list, refuse, limit=10, scratch=tmp_path) is refuse
