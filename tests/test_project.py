"""What stands around the code: workflows, the Makefile and what the package says of itself agree with each other."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from plada import __version__

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def workflow(name: str) -> Any:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: install the extra `docs`")
    return yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8"))


def test_what_is_tested_is_what_the_package_claims() -> None:
    matrix = workflow("test")["jobs"]["test"]["strategy"]["matrix"]
    claimed = re.findall(r"Python :: (3\.\d+)$", "\n".join(PROJECT["classifiers"]), re.MULTILINE)
    assert matrix["python"] == claimed == ["3.11", "3.12", "3.13"]
    assert PROJECT["requires-python"] == f">={claimed[0]}"
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "macos"}
    assert {line.rpartition(":: ")[2] for line in PROJECT["classifiers"] if line.startswith("Operating")} == {
        "Linux",
        "MacOS",
    }
    (entrance,) = [step["run"] for step in workflow("test")["jobs"]["test"]["steps"] if "run" in step]
    assert (ROOT / entrance).exists()
    assert os.access(ROOT / entrance, os.X_OK)


def test_a_release_is_a_tag_and_needs_no_secret() -> None:
    release = workflow("release")
    assert release[True]["push"] == {"tags": ["v*"]}  # YAML takes the word `on` for a truth
    publish = release["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert "secrets." not in (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    assert PROJECT["version"] == __version__
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {__version__}\n" in citation


def test_the_site_is_built_strictly_and_published_from_main_alone() -> None:
    docs = workflow("docs")
    runs = [step.get("run") for step in docs["jobs"]["build"]["steps"]]
    assert "mkdocs build --strict" in runs
    assert docs[True]["push"] == {"branches": ["main"]}
    assert docs["jobs"]["publish"]["if"] == "github.event_name == 'push'"


@pytest.mark.parametrize("name", ["test", "docs", "release"])
def test_a_workflow_may_read_and_no_more_unless_it_says_so(name: str) -> None:
    assert workflow(name)["permissions"] == {"contents": "read"}


@pytest.mark.parametrize(
    ("index", "nvidia", "taken"),
    [("https://index.invalid/cpu", "", True), ("https://index.invalid/cpu", "/dev/nvidiactl", False), ("", "", False)],
    ids=["no GPU", "a GPU", "no index"],
)
def test_torch_for_the_cpu_is_taken_where_there_is_no_gpu(index: str, nvidia: str, taken: bool, tmp_path: Path) -> None:
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    command = [make, "--dry-run", "test", f"VENV={tmp_path / 'venv'}", f"NVIDIA={nvidia}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        command, cwd=ROOT, env={**environment, "TORCH_CPU_INDEX": index}, capture_output=True, text=True, check=True
    )
    installs = [line for line in done.stdout.splitlines() if "pip install" in line]
    assert len(installs) == 2
    assert all((f"--extra-index-url {index}" in line) == taken for line in installs) or not index
    assert ("--extra-index-url" in done.stdout) == taken
