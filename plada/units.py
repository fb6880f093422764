"""Sizes in bytes, as people write them."""

import re

from plada.errors import RequestError

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def parse_size(text: str | int) -> int:
    """Bytes of `1MB` (1 000 000), `1MiB` (1 048 576), `200 kB`, or a bare number.

    Raises:
        RequestError: not a size, or less than one byte.
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)\s*", str(text))
    unit = _UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise RequestError(
            f"size '{text}': expected a number with B, kB, MB, GB, KiB, MiB or GiB, such as 200kB or 1MB"
        )
    size = round(float(match[1]) * unit)
    if size < 1:
        raise RequestError(f"size '{text}': expected at least one byte")
    return size


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
