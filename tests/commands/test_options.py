"""What all commands share: NAME=VALUE options, figures in words, and how a failure looks."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plada.commands.console.options import pairs, percent, seconds
from plada.common.units import (
    format_rate,
    format_seconds,
    format_size,
    group_digits,
    parse_rate,
    parse_share,
    parse_size,
)
from plada.errors import RequestError

NAMES = st.text("abcdefghij_", min_size=1, max_size=8)


@given(
    st.dictionaries(NAMES, st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)))
)
def test_values_that_read_as_json_are_taken_as_such(values: dict[str, object]) -> None:
    assert pairs([f"{name}={json.dumps(value)}" for name, value in values.items()]) == values


@given(NAMES, st.text(max_size=20))
def test_every_other_value_is_text(name: str, value: str) -> None:
    found = pairs([f"{name}={value}"])[name]
    try:
        assert found == json.loads(value) or found != found
    except ValueError:
        assert found == value


def test_the_last_of_two_options_counts_and_values_may_hold_equals_signs() -> None:
    assert pairs(["a=1", "a=2", "b=x=y", "c="]) == {"a": 2, "b": "x=y", "c": ""}
    assert pairs(None) == {}


@pytest.mark.parametrize("text", ["", "a", "=", "=1", " "])
def test_what_is_no_pair(text: str) -> None:
    with pytest.raises(RequestError, match="expected NAME=VALUE"):
        pairs(["fine=1", text])


def test_figures_in_words() -> None:
    assert (percent(None), percent(0.5), percent(1)) == ("unknown", "50.0%", "100.0%")
    assert seconds({"load": 1.25, "embed": 0}) == "load 1.2, embed 0.0"
    assert group_digits(14_197_122) == "14 197 122"


@given(st.integers(1, 10**12))
def test_a_bare_number_is_a_size_and_a_rate(number: int) -> None:
    assert parse_size(number) == parse_size(str(number)) == parse_size(f" {number} B ") == number
    assert parse_rate(number) == parse_rate(f"{number}bps") == number


@given(
    st.integers(1, 10**6),
    st.sampled_from([("kB", 10**3), ("MB", 10**6), ("GB", 10**9), ("KiB", 2**10), ("MiB", 2**20)]),
)
def test_units_multiply(number: int, unit: tuple[str, int]) -> None:
    name, size = unit
    assert parse_size(f"{number}{name}") == parse_size(f"{number} {name.lower()}") == number * size


@given(st.integers(1, 10**12))
def test_a_size_for_people_is_near_the_size(size: int) -> None:
    shown = format_size(size)
    if shown.endswith("bytes"):
        assert int(shown.removesuffix(" bytes").replace(" ", "")) == size
    else:
        assert parse_size(shown) == pytest.approx(size, rel=0.006)


@given(st.integers(1, 10**10))
def test_a_rate_for_people_is_a_rate(rate: int) -> None:
    assert parse_rate(format_rate(rate).replace(" ", "")) == pytest.approx(rate, rel=1e-5)


@given(st.floats(0.001, 1))
def test_shares_are_the_same_in_both_spellings(share: float) -> None:
    assert parse_share(share) == share
    assert parse_share(f"{100 * share!r}%") == pytest.approx(share)


@pytest.mark.parametrize("text", ["0", "0%", "101%", "1.01", "-1%", "", "%", "half", "nan", "inf"])
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(RequestError, match="above 0 and up to 1"):
        parse_share(text)


@pytest.mark.parametrize("text", ["0", "0.2bps", "fast", "-3", "1 GBps", "", "1e3"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(RequestError, match="expected bits a second"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("spent", "shown"),
    [
        (0, "0 ms"),
        (0.0123, "12 ms"),
        (1, "1.0 s"),
        (59.94, "59.9 s"),
        (60, "1 min 0 s"),
        (320, "5 min 20 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_times_for_people(spent: float, shown: str) -> None:
    assert format_seconds(spent) == shown
