"""What a machine says of itself."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from plada.common import machine
from plada.common.machine import cores, cpu_quota, free_cores, peak_memory


def test_what_a_parent_holds_is_not_counted_for_its_child() -> None:
    held = np.ones(1 << 26)  # 512 MB, written to
    code = "from plada.common.machine import peak_memory; print(peak_memory())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    own = peak_memory()
    assert own is not None and own > held.nbytes
    assert int(said) < 200 << 20


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a/cpu.max": "150000 100000", "cpu.max": "max 100000"}, 1.5),
        ({"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 100000", "cpu.max": "400000 100000"}, 0.5),
        ({"a/cpu.max": "max 100000"}, None),
        ({"cpu,cpuacct/a/cpu.cfs_quota_us": "200000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"}, 2.0),
        ({"cpu,cpuacct/a/cpu.cfs_quota_us": "-1", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"}, None),
        ({"a/cpu.max": "words"}, None),
        ({}, None),
    ],
)
def test_a_containers_share_of_the_machine(files: dict[str, str], expected: float | None, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(text + "\n")
    version = "4:cpu,cpuacct:/a\n3:memory:/a" if any("cpuacct" in name for name in files) else "0::/a/b"
    (tmp_path / "groups").write_text(version + "\n")
    assert cpu_quota(tmp_path / "root", tmp_path / "groups") == expected
    assert cpu_quota(tmp_path / "root", tmp_path / "none") is None


def test_what_others_use_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four processors; ticks are those that others and this process took."""

    def busy(idle: int, own: float) -> int:
        stamps = iter([(0, 0, 4), (idle, 400, 4)])
        spent = iter([0.0, own])
        monkeypatch.setattr(machine, "_idle_time", lambda: next(stamps))
        monkeypatch.setattr(machine, "cores", lambda: 4)
        monkeypatch.setattr(time, "process_time", lambda: next(spent))
        return free_cores(1e-3)

    assert busy(400, 0) == 4
    assert busy(210, 0) == 2  # two are others'
    assert busy(0, 0) == 1
    assert busy(200, 0.002) == 4  # two are this process's own
    monkeypatch.undo()
    monkeypatch.setattr(machine, "_idle_time", lambda: None)
    monkeypatch.setattr(machine, "cores", lambda: 4)
    assert free_cores(1e-3) == 4


def test_this_machine() -> None:
    assert 1 <= free_cores(0.01) <= cores()
