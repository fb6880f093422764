"""Sizes in bytes, rates in bits a second and times, as people write them."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from plada.errors import RequestError

MAX_SEED = 2**32 - 1  # what every generator takes
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def parse_size(text: str | int) -> int:
    """Bytes of `1MB` (1 000 000), `1MiB` (1 048 576), `200 kB`, or a bare number. Raises RequestError: not a size, or
    less than one byte."""
    size = _measure(text, _UNITS)
    if size is None:
        raise RequestError(
            f"size '{text}': expected a number with B, kB, MB, GB, KiB, MiB or GiB, such as 200kB or 1MB"
        )
    if size < 1:
        raise RequestError(f"size '{text}': expected at least one byte")
    return size


def _measure(text: str | int, units: Mapping[str, int]) -> int | None:
    """A number with a unit, in whole base units; None for anything else."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z/]*)\s*", str(text))
    unit = units.get(match[2].lower()) if match else None
    return None if match is None or unit is None else round(float(match[1]) * unit)


def parse_share(text: str | float) -> float:
    """The share that `1%` or 0.01 stands for. Raises RequestError: not a share above 0 and up to 1."""
    plain = str(text).strip()
    try:
        share = float(plain.removesuffix("%")) / (100 if plain.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise RequestError(f"keep rate '{text}': expected a share such as 1% or 0.01, above 0 and up to 1")
    return share


def check_seed(seed: int) -> int:
    """A seed as it is. Raises RequestError: not a whole number from 0 to MAX_SEED."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise RequestError(f"seed {seed}: expected a whole number from 0 to {MAX_SEED}")
    return seed


def format_size(size: int) -> str:
    """`1 987 bytes`, `147.3 kB`, `1.02 MB`: short enough for a table, decimal like the budget."""
    if size < 10_000:
        return f"{size:,} bytes".replace(",", " ")
    if size < 1_000_000:
        return f"{size / 1e3:.1f} kB"
    return f"{size / 1e6:.2f} MB" if size < 10**9 else f"{size / 1e9:.2f} GB"


def group_digits(count: int) -> str:
    """`1 281 167`: a count for people."""
    return f"{count:,}".replace(",", " ")


_RATES = {"": 1, "bps": 1, "bit/s": 1, "kbps": 10**3, "kbit/s": 10**3, "mbps": 10**6, "mbit/s": 10**6}


def parse_rate(text: str | int) -> int:
    """Bits a second of `500bps`, `9.6 kbps`, `2Mbit/s`, or a bare number. Raises RequestError: not a rate, or less than
    one bit a second."""
    rate = _measure(text, _RATES)
    if not rate:
        raise RequestError(f"rate '{text}': expected bits a second, such as 500bps, 9.6kbps or 1Mbps")
    return rate


def format_seconds(seconds: float) -> str:
    """`12 ms`, `3.2 s`, `5 min 20 s`, `2 h 5 min`."""
    if seconds < 1:
        return f"{1e3 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def format_time(seconds: float) -> str:
    """A moment in seconds since 1970 as people write it: `2030-01-31 12:00 UTC`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def format_rate(rate: int) -> str:
    """`500 bit/s`, `9.6 kbit/s`, `1 Mbit/s`."""
    for unit, size in (("Mbit/s", 10**6), ("kbit/s", 10**3)):
        if rate >= size:
            return f"{rate / size:g} {unit}"
    return f"{rate} bit/s"
