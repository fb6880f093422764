"""Every public function has an example in its docstring, and the example does what it says."""

import doctest
import inspect
import shutil
from pathlib import Path

import numpy as np
import pytest

import plada
from plada.sources.registry import open_target
from plada.sources.targets.target import Target

FUNCTIONS = [name for name in plada.__all__ if inspect.isfunction(getattr(plada, name))]
SKIPPED = {"bench", "demo", "explore"}  # two take minutes and have tests of their own, the third serves until Ctrl-C
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture(scope="module")
def place(glyph_home: Path, few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the examples run: a home with the index `glyphs`; digits.plada with its table digits.parquet, other.plada; a model
    `student`; a folder `pictures`; the keys `server` and server.pub; a catalogue `shop` with the task `digits`."""
    folder = tmp_path_factory.mktemp("examples")
    home = folder / "home"
    shutil.copytree(glyph_home, home)
    target: Target = open_target("digits", home)
    (folder / "pictures").mkdir()
    for position in range(3):
        (folder / "pictures" / f"{position}.png").write_bytes(target.train.collection.read(position))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLADA_HOME", str(home))
        patch.chdir(folder)
        plada.select("glyphs", target="digits", budget=400, rule="balanced", out="digits.plada").write_table(
            "digits.parquet"
        )
        plada.select("glyphs", target=few_digits, budget=300, rule="spread", out="other.plada")
        plada.train("digits.plada", student="linear", out="student")
        plada.keygen("server")
        plada.publish("shop", ["digits.plada"], sign="server")
    return folder


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_an_example_that_runs(place: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of their names, one after the other: none needs what another has made."""
    monkeypatch.setenv("PLADA_HOME", str(place / "home"))
    monkeypatch.chdir(place)
    text = inspect.getdoc(getattr(plada, name)) or ""
    example = doctest.DocTestParser().get_doctest(text, {"plada": plada, "np": np, "Path": Path}, name, None, 0)
    assert example.examples, f"plada.{name} has no example"
    skipped = [each for each in example.examples if each.options.get(doctest.SKIP)]
    assert bool(skipped) == (name in SKIPPED)
    said: list[str] = []
    results = doctest.DocTestRunner(optionflags=_FLAGS).run(example, out=said.append)
    assert results.failed == 0, "".join(said)
