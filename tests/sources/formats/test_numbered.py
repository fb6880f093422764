"""Files that say how many they are."""

import pytest

from plada.sources.formats.numbered import missing_files


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a-00000-of-00002.parquet", "a-00001-of-00002.parquet"], ""),
        (["a-1-of-2.tar", "a-2-of-2.tar"], ""),
        (["x/a-0-of-1-0123abc.parquet", "x/b-0-of-1.parquet", "shard-00012.tar"], ""),
        (["x/a-00001-of-00003.parquet"], "2 of 3 (x/a-00000-of-00003, x/a-00002-of-00003)"),
        (["a-0-of-2.tar", "b-1-of-2.tar"], "1 of 2 (a-1-of-2), 1 of 2 (b-0-of-2)"),
        (["a-0-of-9.tar"], "8 of 9 (a-1-of-9, a-2-of-9, a-3-of-9, ...)"),
    ],
)
def test_what_is_missing(names: list[str], said: str) -> None:
    assert missing_files(names) == said
