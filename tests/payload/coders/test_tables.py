"""Integer tables: their digests are those of the document, and they are what they are called."""

import math
import re
from pathlib import Path

import pytest

from plada.payload.coders import tables

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "payload-coders.md"


@pytest.mark.parametrize("name", ["SQ", "ST", "LN", "EXP", "NB"])
def test_every_digest_is_the_documents(name: str) -> None:
    named = re.search(rf"^\| {name} \|.*`([0-9a-f]{{64}})`", DOCUMENT.read_text(), re.MULTILINE)
    assert named is not None
    assert tables.digests()[name] == named[1]


def test_squash_and_stretch_undo_each_other() -> None:
    squash, stretch = tables.squash(), tables.stretch()
    assert len(squash) == 2 * tables.LIMIT + 1
    assert len(stretch) == 65536
    assert squash[tables.LIMIT] == 32768
    assert all(abs(p - 65536 / (1 + math.exp(-s / 256))) < 2 for s, p in enumerate(squash, -tables.LIMIT))
    assert all(abs(stretch[p] - 256 * math.log(p / (65536 - p))) < 1 for p in range(1, 65536))
    assert all(1 <= p <= 65535 for p in squash)
    assert stretch[0] == stretch[1] == -tables.LIMIT


def test_logarithm_and_exponential_are_within_one_unit() -> None:
    assert all(0 <= v - 256 * math.log1p(m / 1024) < 1 for m, v in enumerate(tables.logarithm()))
    exponential = tables.exponential()
    assert exponential[tables.LIMIT] == 1 << 24
    assert all(abs(v / math.exp(s / 256) / 2**24 - 1) < 1 / 128 for s, v in enumerate(exponential, -tables.LIMIT))


@pytest.mark.parametrize("row", [30, 45, 60])
def test_the_negative_binomial_is_one(row: int) -> None:
    r, mean = 1 / 4, math.exp((88 * row + 44) / 256) / 65536
    term = (r / (r + mean)) ** r
    at_most, n, before = term, 0, 1.0
    for level in range(tables.LEVELS):
        tail = 1 - at_most
        found = tables.negative_binomial()[row * tables.LEVELS + level]
        if tail > 1e-6:
            assert abs(found - 256 * math.log(tail / (before - tail))) < 3
        before = tail
        while n + 1 < 2 << level:
            term *= mean / (mean + r) * (n + r) / (n + 1)
            at_most += term
            n += 1
