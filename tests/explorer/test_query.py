"""What a person types is understood as written, or as what it fits; never as a path."""

import pytest

from plada.errors import RequestError
from plada.explorer.query import Query, position_of, read_query

KEYS = ("42/a", "cats/1", "cats/2", " spaced")


def read(typed: str) -> Query:
    return read_query(typed, lambda text: any(key.startswith(text) for key in KEYS))


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("12", Query("position", "12", False)),
        (" 12 ", Query("position", "12", False)),
        ("position: 12", Query("position", "12", True)),
        ("position:cat", Query("position", "cat", True)),
        ("cats/", Query("key", "cats/", False)),
        ("key:42", Query("key", "42", True)),
        ("key: spaced", Query("key", " spaced", True)),
        ("key:line\nbreak", Query("key", "line\nbreak", True)),
        ("text:42", Query("text", "42", True)),
        ("text: cats ", Query("text", "cats", True)),
        ("a red bus", Query("text", "a red bus", False)),
        ("/etc/passwd", Query("text", "/etc/passwd", False)),
        ("text:position:3", Query("text", "position:3", True)),
        ("٣", Query("text", "٣", False)),
    ],
)
def test_what_was_meant(typed: str, wanted: Query) -> None:
    assert read(typed) == wanted


@pytest.mark.parametrize("typed", ["", "   ", "text:", "text:  ", "key:", "position:", "x" * 2001])
def test_nothing_and_too_much(typed: str) -> None:
    with pytest.raises(RequestError, match="expected"):
        read(typed)


@pytest.mark.parametrize("text", ["-1", "10", "1.0", "1e0", "0x1", "٣", "", " 1", "9" * 5000, "1_0"])
def test_no_such_position(text: str) -> None:
    with pytest.raises(RequestError, match="expected a whole number from 0 to 9"):
        position_of(text, 10)


def test_positions() -> None:
    assert [position_of(text, 10) for text in ("0", "9", "007")] == [0, 9, 7]
