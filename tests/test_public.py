"""The public names, and the version."""

from pathlib import Path

import pytest

import plada

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", plada.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(plada, name) is not None


def test_all_is_what_can_be_loaded() -> None:
    assert sorted(plada.__all__) == sorted(plada._WHERE)
    assert set(plada.__all__) <= set(dir(plada))


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'indexx'"):
        _ = plada.indexx


def test_the_version_is_one() -> None:
    assert f'version = "{plada.__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert f"## {plada.__version__}" in (ROOT / "CHANGELOG.md").read_text()
