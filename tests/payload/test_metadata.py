"""Names and notes: small, in one way only, and refused where they are anything else."""

import hashlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plada.errors import PayloadCorrupt
from plada.payload.metadata import (
    DICTIONARY,
    MAX_NAME,
    MAX_TEXT,
    default_names,
    notes_text,
    read_metadata,
    write_metadata,
)

NOTES = {"recipe": {"image_size": 8, "mirror": False}, "target": "menu", "teacher_accuracy": 0.7731}
NAMES = ("<script>", "new\nline", 'quo"te', "naïve 猫", "")


def test_the_dictionary_is_part_of_the_format() -> None:
    digest = hashlib.sha256(DICTIONARY).hexdigest()
    assert (len(DICTIONARY), digest[:16]) == (438, "9f5211c23754958f")


@pytest.mark.parametrize("names", [None, ("one",), NAMES, tuple(f"class {n}" for n in range(10_450))])
@pytest.mark.parametrize("notes", [{}, NOTES])
def test_names_and_notes_come_back(names: tuple[str, ...] | None, notes: dict[str, object]) -> None:
    body = write_metadata(names, notes)
    assert (body == b"") == (names is None and not notes)
    if body:
        assert read_metadata(body, len(names) if names else 3) == (names, notes)


@given(
    names=st.lists(
        st.text(st.characters(exclude_characters="\0", codec="utf-8")), min_size=1, max_size=20, unique=True
    ),
    notes=st.dictionaries(
        st.text(st.characters(codec="utf-8")),
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    ),
)
def test_any_names_and_notes_come_back(names: list[str], notes: dict[str, object]) -> None:
    infinite = any(isinstance(value, float) and abs(value) == float("inf") for value in notes.values())
    if infinite:
        with pytest.raises(ValueError, match="JSON"):
            notes_text(notes)
    else:
        assert read_metadata(write_metadata(tuple(names), notes), len(names)) == (tuple(names), notes)


def test_what_notes_usually_say_costs_few_bytes() -> None:
    assert len(write_metadata(None, {"recipe": {"image_size": 8, "mirror": False}})) <= 9
    assert (
        len(write_metadata(None, {"recipe": {"mirror": False}, "target": "caltech20", "teacher_accuracy": 0.908})) <= 24
    )


def test_text_that_does_not_shrink_is_sent_as_it_is() -> None:
    assert write_metadata(("q", "z"), {}) == b"\2q\0z"


def test_the_numbers_are_the_names_where_none_are_sent() -> None:
    assert default_names(3) == ("0", "1", "2")


def deflated(text: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=DICTIONARY)
    return packer.compress(text) + packer.flush()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "unknown kind 0"),
        (b"\0abc", "unknown kind 0"),
        (b"\1abc", "unknown kind 1"),
        (b"\x0aabc", "unknown kind 10"),
        (b"\2\xff\xfe", "not UTF-8"),
        (b"\2a\0b", "2 names and notes for 3 classes"),
        (b"\2a\0b\0c\0d", "4 names and notes for 3 classes"),
        (b"\2a\0b\0a", "some alike"),
        (b"\6a\0b\0c", "3 names and notes for 3 classes"),
        (b"\6a\0b\0c\0{", "not JSON"),
        (b"\4[1]", "not a JSON object"),
        (b"\4{}", "are empty"),
        (b'\4{"a": 1}', "not as the format writes it"),
        (b'\4{"b":1,"a":1}', "not as the format writes it"),
        (b'\4{"a":1.50}', "not as the format writes it"),
        (b'\4{"a":NaN}', "not JSON"),
        (b"\4" + b"[" * 100_000, "not JSON"),
        (b"\3\xff\xff", "do not decompress"),
        (b"\3" + deflated(b"a\0b\0c")[:-1], "do not end where"),
        (b"\3" + deflated(b"a\0b\0c") + b"\0", "do not end where"),
        (b"\3" + deflated(bytes(MAX_TEXT + 1)), "over 16777216 bytes"),
    ],
)
def test_anything_else_is_refused(body: bytes, words: str) -> None:
    with pytest.raises(PayloadCorrupt, match=words):
        read_metadata(body, 3)


def test_a_name_is_not_a_book() -> None:
    body = bytes([3]) + deflated(b"a" * (MAX_NAME + 1) + b"\0b")
    assert len(body) < 100
    with pytest.raises(PayloadCorrupt, match="a class name of 1025 letters; expected at most 1024"):
        read_metadata(body, 2)
