"""What the doctor advises."""

from pathlib import Path

import pytest

import plada
from plada.api.doctor import Package, advise
from plada.errors import install_command


def package(name: str, version: str | None = "1", problem: str = "", extra: str = "") -> Package:
    return Package(name=name, version=version, problem=problem, extra=extra)


def test_nothing_wrong_nothing_said() -> None:
    assert advise((package("torch"),), ["faiss-cpu"], ("cpu",), 0) == []


def test_both_faiss_packages_come_first() -> None:
    advice = advise((package("torch", None, "not installed", "client"),), ["faiss-cpu", "faiss-gpu"], (), None)
    assert "overwrite each other's files" in advice[0]
    assert "pip uninstall -y faiss-cpu faiss-gpu" in advice[0]


def test_both_faiss_packages_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one as pip would have left it: a distribution whose files are the first one's."""
    for name in ("faiss_cpu", "faiss_gpu"):
        (tmp_path / f"{name}-1.15.1.dist-info").mkdir()
        (tmp_path / f"{name}-1.15.1.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: 1.15.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = plada.doctor(home=tmp_path)
    assert found.advice[0].startswith("faiss-cpu and faiss-gpu are both installed")


def test_missing_packages_name_their_extra() -> None:
    missing = (package("torch", None, "not installed", "client"), package("lancedb", None, "not installed", "cpu"))
    advice = advise(missing, [], (), None)
    assert advice[0] == f"for training (torch): {install_command('client')}"
    assert advice[1].startswith("for indexing, search and selection (lancedb): " + install_command("cpu"))


def test_a_broken_package_says_why() -> None:
    assert advise((package("torchvision", "0.28", "no nms"),), ["faiss-cpu"], ("cpu",), 0) == [
        "torchvision 0.28 is installed but does not load: no nms"
    ]


def test_a_gpu_that_faiss_does_not_see() -> None:
    advice = advise((package("torch"),), ["faiss-cpu"], ("cpu", "cuda:0 X"), 0)
    assert advice[0].endswith(install_command("gpu"))
