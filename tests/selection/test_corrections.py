"""Lists of a person's corrections, as they are written by hand and by a report."""

from pathlib import Path

import pytest

from plada.errors import DataError, RequestError
from plada.selection.corrections import read_keys, read_labels


def test_a_line_is_a_key_and_a_json_string_stands_for_its_text(tmp_path: Path) -> None:
    path = tmp_path / "no.txt"
    path.write_text(
        '# a remark\n\n a/1 \n"line\\nbreak"\n"# not a remark"\n" spaces "\n"open\n"a" b\n', encoding="utf-8"
    )
    assert read_keys(path) == ["a/1", "line\nbreak", "# not a remark", " spaces ", '"open', '"a" b']
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(RequestError, match="one key a line"):
        read_keys(path)


def test_a_table_holds_whatever_a_key_is(tmp_path: Path) -> None:
    path = tmp_path / "fix.csv"
    path.write_bytes(b'key,label\n"a,""b""\r\nc","d\ne"\nplain,1\n')
    assert [list(part) for part in read_labels(path, ("x", "d\ne"))] == [['a,"b"\r\nc', "plain"], [1, 1]]
    path.write_text("key,label\na,x\na,x\n")
    with pytest.raises(DataError, match="twice"):
        read_labels(path, ("x",))
    path.write_text(f'key,label\n"{"a" * 200_000}",x\n')
    with pytest.raises(RequestError, match="cannot be read as a table"):
        read_labels(path, ("x",))
