"""docs/payload-format.md says what the code does, where it can be compared."""

import hashlib
import re
from pathlib import Path

import numpy as np

from plada.payload.coders.body import MAX_KEPT
from plada.payload.container import MAX_CLASSES, MAX_IMAGES, MAX_SERIAL, MAX_TOTAL
from plada.payload.metadata import DICTIONARY, MAX_TEXT
from plada.payload.payload import parse_payload
from plada.payload.segments import MAX_SEGMENTS, scatter

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "payload-format.md").read_text()


def block(after: str) -> list[str]:
    """The lines of the first fenced block behind some words."""
    found = re.search(r"```text\n(.*?)```", TEXT[TEXT.index(after) :], re.DOTALL)
    assert found is not None
    return found[1].splitlines()


def test_the_dictionary() -> None:
    said = "".join(block("The dictionary is these")).replace("\\0", "\0").encode()
    assert said == DICTIONARY
    assert f"these {len(said)} bytes" in TEXT
    assert hashlib.sha256(said).hexdigest() in TEXT


def test_the_file_in_full() -> None:
    payload = parse_payload(bytes.fromhex("".join(block("A file in full")))).payload
    assert (payload.reference, payload.classes) == (1000, ("0",))
    assert (list(payload.positions), list(payload.labels)) == ([3], [0])
    assert (payload.key_id, payload.content_id) == (bytes(range(8)), bytes(range(8, 16)))


def test_the_example_of_segments() -> None:
    said = re.search(r"10 blocks in 4 segments are dealt out as ([0-9 ,]+)\.", TEXT)
    assert said is not None
    dealt = scatter(np.arange(11, dtype=np.int64), 4).segments
    assert [[int(n) for n in part.split()] for part in said[1].split(",")] == [list(s) for s in dealt]


def test_the_limits() -> None:
    assert (MAX_TOTAL, MAX_IMAGES, MAX_CLASSES, MAX_SERIAL) == (2**30, 2**28, 65535, 2**32 - 1)
    assert (MAX_KEPT, MAX_TEXT, MAX_SEGMENTS) == (2**24, 2**24, {"blocks": 4096, "layers": 16})
    for words in ("2^30 bytes", "N <= 2^28", "C <= 65535", "k <= 2^24", "4096 segments", "16 layers", "1 .. 2^32 - 1"):
        assert words in TEXT
