"""The public names: that each is there, lazily and for type checkers, and has a docstring in Google's form."""

import ast
import importlib.util
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import plada

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", plada.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(plada, name) is not None


def test_type_checkers_are_told_what_is_loaded() -> None:
    """The imports under TYPE_CHECKING are those of the table, name by name."""
    tree = ast.parse((ROOT / "plada" / "__init__.py").read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    told = {
        alias.asname or alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert told == plada._WHERE
    assert set(plada.__all__) == set(told)
    assert set(plada.__all__) <= set(dir(plada))


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'indexx'"):
        _ = plada.indexx


def test_the_version_is_one() -> None:
    assert f'version = "{plada.__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert f"## {plada.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def public() -> Iterator[tuple[str, Any]]:
    """Every exported function and class, and the public methods and properties of these classes, with their names."""
    for name in plada.__all__:
        value = getattr(plada, name)
        yield name, value
        for inner, member in vars(value).items() if isinstance(value, type) else ():
            member = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            if inspect.isfunction(member) and not inner.startswith("_"):
                yield f"{name}.{inner}", member


def head(value: Any) -> tuple[Path, range]:
    """The file of a function or class, and the lines from its first to the last of its docstring."""
    value = inspect.unwrap(value)
    file, (lines, first) = Path(inspect.getfile(value)), inspect.getsourcelines(value)
    node = ast.parse(inspect.cleandoc("\n" + "".join(lines)) if lines[0][:1] == " " else "".join(lines)).body[0]
    assert isinstance(node, (ast.FunctionDef, ast.ClassDef))
    return file, range(first, first + (node.body[0].end_lineno or 1))


@pytest.mark.skipif(importlib.util.find_spec("ruff") is None, reason="no ruff here (it is in pladata[dev])")
def test_docstrings_of_public_names_are_googles() -> None:
    ruff = [
        sys.executable, "-m", "ruff", "check", "--no-cache", "--isolated", "--select", "D", "--output-format", "json",
        "--config", 'lint.pydocstyle.convention="google"', "--config", 'target-version="py311"', str(ROOT / "plada"),
    ]  # fmt: skip
    faults = json.loads(subprocess.run(ruff, capture_output=True, text=True, check=False).stdout)
    heads = {name: head(value) for name, value in public()}
    wrong = sorted(
        f"{name}: {fault['code']} {fault['message']}"
        for fault in faults
        for name, (file, lines) in heads.items()
        if Path(fault["filename"]) == file and fault["location"]["row"] in lines
    )
    assert len(heads) > 40
    assert not wrong, "\n".join(wrong)


def test_docstrings_of_public_calls_say_what_goes_in_and_comes_out() -> None:
    """What ruff does not ask for: that there are such sections. Calls without parameters say it in one line."""
    wrong = []
    for name, value in public():
        signature = inspect.signature(value) if inspect.isfunction(value) else inspect.Signature()
        if signature.parameters.keys() - {"self", "cls"}:
            text = inspect.getdoc(value) or ""
            wanted = ["Args", "Returns"] if signature.return_annotation is not None else ["Args"]
            text = text.replace("\nYields:\n", "\nReturns:\n")
            wrong += [f"{name}: no {section}" for section in wanted if f"\n{section}:\n" not in text]
    assert not wrong, "\n".join(wrong)
