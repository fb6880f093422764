"""Rates and times, as people write and read them."""

import pytest

from plada.common.units import format_rate, format_seconds, parse_rate
from plada.errors import RequestError


def test_rates() -> None:
    for text, rate in (("500bps", 500), ("9.6 kbps", 9600), ("1Mbit/s", 10**6), ("300", 300), (1200, 1200)):
        assert parse_rate(text) == rate
    for bad in ("", "fast", "0", "5 parsecs", "0.1bps", "-5"):
        with pytest.raises(RequestError, match="such as 500bps"):
            parse_rate(bad)
    assert [format_rate(rate) for rate in (500, 9600, 10**6, 2_500_000)] == [
        "500 bit/s", "9.6 kbit/s", "1 Mbit/s", "2.5 Mbit/s",
    ]  # fmt: skip


def test_times() -> None:
    assert [format_seconds(s) for s in (0.0123, 3.2, 59.96, 320, 7500)] == [
        "12 ms", "3.2 s", "60.0 s", "5 min 20 s", "2 h 5 min",
    ]  # fmt: skip
