"""The command that installs what is missing is right for the copy of plada that says it."""

import json
from pathlib import Path

import pytest

from plada import errors


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """plada as it lies in site-packages, with the metadata of an installation."""
    site = tmp_path / "site-packages"
    (site / "plada").mkdir(parents=True)
    metadata = site / f"{errors.DISTRIBUTION}-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Name: {errors.DISTRIBUTION}\nVersion: 0.1.0\n")
    monkeypatch.setattr(errors, "__file__", str(site / "plada" / "errors.py"))
    monkeypatch.syspath_prepend(site)
    return metadata


def test_a_clone_names_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(errors.__file__).parents[1]
    monkeypatch.chdir(tmp_path)
    assert errors.install_command("cpu") == f"pip install '{root}[cpu]'"
    monkeypatch.chdir(root)
    assert errors.install_command("cpu") == "pip install '.[cpu]'"


def test_an_installed_copy_names_the_distribution(elsewhere: Path) -> None:
    assert errors.install_command("sign") == "pip install 'pladata[sign]'"


def test_a_copy_installed_from_a_folder_names_the_folder(elsewhere: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a clone"
    folder.mkdir()
    (folder / "pyproject.toml").touch()
    (elsewhere / "direct_url.json").write_text(json.dumps({"url": folder.as_uri(), "dir_info": {"editable": False}}))
    assert errors.install_command("cpu") == f"pip install '{folder}[cpu]'"
    (folder / "pyproject.toml").unlink()
    assert errors.install_command("cpu") == "pip install 'pladata[cpu]'"


@pytest.mark.parametrize("origin", ["{", "[]", '{"url": "https://host/pladata.whl", "archive_info": {}}'])
def test_odd_metadata_does_no_harm(elsewhere: Path, origin: str) -> None:
    (elsewhere / "direct_url.json").write_text(origin)
    assert errors.install_command("cpu") == "pip install 'pladata[cpu]'"
