"""Settings: from the environment, the file, the defaults, in this order; what is wrong in the file is named."""

from pathlib import Path

import pytest

import plada
from plada.common.settings import setting
from plada.errors import RequestError, UnknownName


@pytest.fixture(autouse=True)
def without_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PLADA_ENCODER", "PLADA_DATASETS", "PLADA_DOWNLOAD"):
        monkeypatch.delenv(name, raising=False)


def test_a_value_comes_from_the_variable_then_the_file_then_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [each.origin for each in plada.config(home=tmp_path)] == ["default"] * 3
    (found,) = plada.config("encoder", 'a "b" \\ c', home=tmp_path)
    assert (found.value, found.origin) == ('a "b" \\ c', str(tmp_path / "config.toml"))
    monkeypatch.setenv("PLADA_ENCODER", "clip-l")
    assert plada.config("encoder", home=tmp_path)[0].origin == "$PLADA_ENCODER"
    monkeypatch.delenv("PLADA_ENCODER")
    assert plada.config("encoder", unset=True, home=tmp_path)[0].value == ""
    assert setting("download", tmp_path).value == "ask"


@pytest.mark.parametrize("text", ["encoder = clip", "\xff\x00", "encoder = 3", "[encoder]\nname = 'clip'"])
def test_a_file_that_is_no_list_of_settings_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(text, "latin-1")
    with pytest.raises(RequestError, match=r"config\.toml"):
        plada.config(home=tmp_path)


def test_names_and_values_that_are_unknown_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="encoder"):
        plada.config("encodr", "clip", home=tmp_path)
    with pytest.raises(RequestError, match="ask or yes"):
        plada.config("download", "maybe", home=tmp_path)
    (tmp_path / "config.toml").write_text('colour = "red"\n')
    with pytest.raises(UnknownName, match=r"config\.toml"):
        plada.config(home=tmp_path)
