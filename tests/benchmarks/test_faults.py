"""benchmarks/faults.py: a few of its turned bits and its hostile files; a miss is counted as one."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("lancedb")

from benchmarks import faults, faults_flips
from benchmarks.faults_flips import Believed


def test_a_few_flips() -> None:
    figures = faults.measure(["flips"], flips=60, kills=0, seed=1)
    assert (figures["flips"], figures["flips_caught"], figures["flips_missed"]) == (60, 60, [])
    assert len(figures["flips_by_kind"]) >= 15
    assert "| model, a network |" in "\n".join(faults.report(figures))


def test_a_flip_that_is_believed_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "believed"
    path.write_bytes(b"x" * 100)
    kinds = [
        Believed(name="anything", files=(path,), read=lambda: path.read_bytes().hex(), share=1),
        Believed(name="strict", files=(path,), read=lambda: str(path.read_bytes().decode("ascii") and 1), share=1),
    ]
    monkeypatch.setattr(faults_flips, "believed", lambda material: kinds)
    figures = faults_flips.measure(None, flips=40, seed=0)  # type: ignore[arg-type]
    assert figures["flips_by_kind"]["anything"] == {faults_flips.WRONG: 20}
    strict = figures["flips_by_kind"]["strict"]
    assert strict[faults_flips.FOREIGN] + strict[faults_flips.RIGHT] == 20
    assert figures["flips_caught"] == strict[faults_flips.RIGHT] == 40 - len(figures["flips_missed"])
    assert path.read_bytes() == b"x" * 100
    assert np.all([text.startswith(("anything: ", "strict: ")) for text in figures["flips_missed"]])
