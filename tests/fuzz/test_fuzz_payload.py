"""A few thousand steps of the fuzzer, and proof that it would notice."""

from pathlib import Path

import pytest

from plada.payload.payload import Payload, parse_payload
from tests.fuzz import fuzz_payload
from tests.fuzz.fuzz_payload import GOLDEN, fuzz, golden_context, try_one

SLOW = ("v2-pack-many", "v2-pack-even-many")  # 700 classes: seconds each where nothing is compiled


def test_nothing_is_found(tmp_path: Path) -> None:
    found = fuzz(seconds=60, count=600, seed=1, crashes=tmp_path / "crashes", without=SLOW)
    assert not [what for _, what in found.wrong if not what.startswith("took")]
    tried = sum(found.outcomes.values())
    assert found.outcomes["PayloadCorrupt"] > tried / 4
    assert found.outcomes["PayloadTruncated"] > tried / 20
    assert found.outcomes["other content"] > 0  # checksums made anew reach the coders


def test_a_wrong_label_would_be_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = (GOLDEN / "v2-gaps-zstd.plada").read_bytes()
    truth = parse_payload(data, shared=golden_context()).payload
    other = Payload(
        truth.positions, (truth.labels + 1) % 5, truth.classes, truth.reference, truth.key_id, truth.content_id
    )

    class Parsed:
        payload = other

    monkeypatch.setattr(fuzz_payload, "parse_payload", lambda *_, **__: Parsed)
    with pytest.raises(AssertionError, match="wrong labels"):
        try_one(data + b"x", data, truth, None, golden_context(), right=False, partial=True)
    with pytest.raises(AssertionError, match="not noticed"):
        try_one(data + b"x", data, truth, None, golden_context(), right=False, partial=False)
    monkeypatch.undo()
    monkeypatch.setattr(fuzz_payload, "try_one", lambda *_, **__: [][1])
    found = fuzz(seconds=30, count=3, seed=1, crashes=tmp_path / "crashes", without=SLOW)
    assert len(found.wrong) == 3
    assert len(list((tmp_path / "crashes").iterdir())) == 3
