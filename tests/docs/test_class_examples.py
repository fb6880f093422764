"""Every public class has an example in its docstring, and each prints what it shows."""

import contextlib
import doctest
import inspect
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import plada
from plada.sources.formats.glyphs import render

CLASSES = [name for name in plada.__all__ if inspect.isclass(getattr(plada, name))]


def example(value: Any) -> str:
    """The Example section of a docstring, "" where there is none."""
    return (inspect.getdoc(value) or "").partition("\nExamples:\n")[2]


@pytest.mark.parametrize("name", CLASSES)
def test_a_public_class_has_an_example(name: str) -> None:
    assert ">>> " in example(getattr(plada, name))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, few_digits: Path) -> Iterator[Path]:
    """A folder and a home with what examples speak of: the index `characters`, `digits.plada`, `model.safetensors`, ..."""
    root = tmp_path_factory.mktemp("examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLADA_HOME", str(root / "home"))
        patch.chdir(root)
        (root / "few").symlink_to(few_digits)
        (root / "pool").mkdir()
        Image.fromarray(render(7, seed=0)).save("photo.png")
        for number in range(20):
            Image.fromarray(render(number, seed=0)).save(root / "pool" / f"{number}.png")
        plada.index("glyphs:count=400", name="characters")
        manifest = plada.open_images("glyphs:count=400").manifest
        for name, count in (("digits", 120), ("newer", 140)):  # labels by chance: choosing them would take longer
            labels = np.random.default_rng(0).permutation(np.arange(count) % 10)
            positions = np.arange(count) * 2
            identity = (len(manifest), manifest.key_id, manifest.content_id)
            classes = tuple("0123456789")
            plada.write_payload(plada.Payload(positions, labels, classes, *identity), f"{name}.plada")
        plada.train("digits.plada", student="linear", out="model.safetensors")
        (root / "exclude.txt").write_text(plada.open_index("characters").keys([3])[0] + "\n")
        yield root


def run_example(name: str, text: str) -> str:
    """What is wrong with an example: "" where it prints what it shows."""
    test = doctest.DocTestParser().get_doctest(text, {}, name, None, None)
    assert test.examples
    said = io.StringIO()
    with contextlib.redirect_stderr(io.StringIO()):
        doctest.DocTestRunner(verbose=False).run(test, out=said.write)
    return said.getvalue()


@pytest.mark.parametrize("name", CLASSES)
def test_an_example_runs(name: str, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(prepared)
    monkeypatch.setenv("PLADA_HOME", str(prepared / "home"))
    assert run_example(name, example(getattr(plada, name))) == ""


def test_an_example_that_prints_something_else_is_found() -> None:
    assert "Expected:" in run_example("wrong", ">>> 1 + 1\n3\n")
    assert run_example("right", ">>> 1 + 1\n2\n") == ""
