"""How work is cut into shards and parts, and how it is counted."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plada.errors import RequestError
from plada.indexer.embed import TaskResult, empty_rows
from plada.indexer.parts import PartNumber, parse_shard, part_spans
from plada.indexer.pipeline import RunStats, shard_spans


@given(st.integers(1, 10**6), st.integers(1, 10**5))
def test_shards_cover_everything_once_in_order(images: int, rows: int) -> None:
    spans = shard_spans(images, max(rows, images // 500 + 1))
    assert spans[0][0] == 0
    assert spans[-1][1] == images
    assert all(stop == start for (_, stop), (start, _) in pairwise(spans))
    assert all(stop > start for start, stop in spans)
    assert len({stop - start for start, stop in spans[:-1]}) <= 1


@given(st.integers(1, 10**5), st.integers(1, 5000), st.integers(1, 30))
def test_parts_are_the_shards_of_the_whole(images: int, rows: int, parts: int) -> None:
    rows = max(rows, images // 500 + 1)
    spans = [span for number in range(1, parts + 1) for span in part_spans(images, rows, PartNumber(number, parts))]
    assert spans == shard_spans(images, rows)


@pytest.mark.parametrize(
    ("text", "shard"), [("1/1", PartNumber(1, 1)), ("3/8", PartNumber(3, 8)), ("08/8", PartNumber(8, 8))]
)
def test_a_part_is_written_as_one_of_so_many(text: str, shard: PartNumber) -> None:
    assert parse_shard(text) == shard
    assert parse_shard(str(shard)) == shard


@pytest.mark.parametrize("text", ["", "3", "0/8", "9/8", "-1/8", "3/0", "a/b", "1/2/3", "1.0/2", " 1/2"])
def test_what_is_no_part(text: str) -> None:
    with pytest.raises(RequestError, match="expected I/N with 1 <= I <= N"):
        parse_shard(text)


def made(kept: list[bool], spent: dict[str, float], note: str = "") -> TaskResult:
    return TaskResult(rows=empty_rows(0, len(kept), 4), kept=np.array(kept), spent=spent, began=0.0, note=note)


def test_a_flow_adds_up_what_a_crew_made_and_hears_a_note_once() -> None:
    stats = RunStats()
    assert stats.rate == 0
    assert stats.add(made([True, False, False], {"read": 1.0, "encode": 2.0})) == ""
    assert stats.add(made([False], {"read": 0.5}, note="batches halved")) == "batches halved"
    assert stats.add(made([True], {"decode": 0.25}, note="batches halved")) == ""
    assert (stats.embedded, stats.kept, stats.notes) == (3, 2, ["batches halved"])
    assert stats.spent == {"read": 1.5, "decode": 0.25, "encode": 2.0, "write": 0.0}
    stats.embedding = 2.0
    assert stats.rate == 2.5


def test_a_commit_is_timed_and_what_it_raises_is_raised() -> None:
    stats, seen = RunStats(), list[object]()
    stats.write(seen.append, empty_rows(0, 2, 4))
    assert len(seen) == 1
    assert stats.spent["write"] > 0

    def fail(_: object) -> None:
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        stats.write(fail, empty_rows(0, 2, 4))
