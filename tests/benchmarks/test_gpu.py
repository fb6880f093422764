"""The benchmark of a GPU says that there is none, and what it wants to show; how it measures is tried by its own --small."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import gpu


def test_without_a_gpu_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "b.md"
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--json", "--out", str(out)])
    assert gpu.main() == 2
    said = capsys.readouterr()
    assert "torch sees no GPU on this machine, so nothing was measured" in said.err
    assert json.loads(said.out.splitlines()[-1])["measured"] is False
    assert not out.exists()


def test_the_plan_is_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "b.md"
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--plan", "--out", str(out)])
    assert gpu.main() == 0
    text = out.read_text()
    assert "has not run: no machine with a GPU was at hand" in text
    assert [line.split(" | ")[0][2:] for line in text.splitlines() if line.startswith("| ")][2:] == [
        what for what, _ in gpu.GOALS.values()
    ]
    measured = gpu.table(dict.fromkeys(gpu.GOALS, 2.0), "a device")
    assert all(line.endswith("| 2 |") for line in measured[6:])


def test_figures_of_search_and_of_the_linear_fit() -> None:
    assert gpu.search_figures("cpu", gpu.SMALL)["same"] is True
    assert gpu.fit_figures("cpu", gpu.SMALL)["agree"] == 1
