"""A few thousand steps of the fuzzer, and proof that it would notice."""

from pathlib import Path

import pytest

from plada.payload.payload import Payload, parse_payload
from tests.fuzz import fuzz_payload
from tests.fuzz.fuzz_payload import GOLDEN, fuzz, known_side, try_one


def test_nothing_is_found(tmp_path: Path) -> None:
    found = fuzz(seconds=30, count=800, seed=1, crashes=tmp_path / "crashes")
    assert not [what for _, what in found.wrong if not what.startswith("took")]
    assert found.outcomes["PayloadCorrupt"] > 100
    assert found.outcomes["PayloadTruncated"] > 20
    assert found.outcomes["other content"] > 0  # checksums made anew reach the coders


def test_a_wrong_label_would_be_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = (GOLDEN / "v2-gaps-zstd.plada").read_bytes()
    truth = parse_payload(data, side=known_side()).payload
    other = Payload(
        truth.positions, (truth.labels + 1) % 5, truth.classes, truth.reference, truth.key_id, truth.content_id
    )

    class Parsed:
        payload = other

    monkeypatch.setattr(fuzz_payload, "parse_payload", lambda *_, **__: Parsed)
    with pytest.raises(AssertionError, match="wrong labels"):
        try_one(data + b"x", data, truth, None, known_side(), right=False, partial=True)
    with pytest.raises(AssertionError, match="not noticed"):
        try_one(data + b"x", data, truth, None, known_side(), right=False, partial=False)
    monkeypatch.undo()
    monkeypatch.setattr(fuzz_payload, "try_one", lambda *_, **__: [][1])
    found = fuzz(seconds=30, count=3, seed=1, crashes=tmp_path / "crashes")
    assert len(found.wrong) == 3
    assert len(list((tmp_path / "crashes").iterdir())) == 3
