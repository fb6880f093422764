"""Modules and functions stay short enough to be read: what may be longer is named here, and docs/decisions.md says why."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODULE, FUNCTION = 500, 60

# Longer than FUNCTION for their parameters and docstrings alone: one parameter a line, since each is an option of a command.
# Their bodies keep to FUNCTION like all others.
DECLARATIONS = {
    "benching.bench",
    "cli_bench.bench",
    "cli_index.index",
    "cli_select.select",
    "cli_train.train",
    "indexer.ann_build.build_ann",
    "indexing.index",
    "selecting.select",
    "selection.auto.choose_rule",
    "training.train",
}


def modules() -> Iterator[tuple[str, str]]:
    """Dotted name below plada, and text, of every module."""
    for path in sorted((ROOT / "plada").rglob("*.py")):
        yield ".".join(path.relative_to(ROOT / "plada").with_suffix("").parts), path.read_text(encoding="utf-8")


def functions() -> Iterator[tuple[str, int, int]]:
    """Name, lines in all (decorators aside), and lines of the body without its docstring, of every function."""
    for module, text in modules():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                body = node.body[1:] if ast.get_docstring(node) is not None else node.body
                last = node.end_lineno or node.lineno
                lines = last - body[0].lineno + 1 if body else 0
                yield f"{module}.{node.name}", last - node.lineno + 1, lines


def test_no_module_is_too_long() -> None:
    long = {name: count for name, text in modules() if (count := len(text.splitlines())) > MODULE}
    assert not long


def test_no_function_is_too_long() -> None:
    long = {name: lines for name, lines, _ in functions() if lines > FUNCTION}
    assert set(long) == DECLARATIONS, f"too long, or no longer long: {set(long) ^ DECLARATIONS}"


def test_no_body_is_too_long() -> None:
    long = {name: lines for name, _, lines in functions() if lines > FUNCTION}
    assert not long


def test_the_counter_counts() -> None:
    found = {name: (lines, body) for name, lines, body in functions()}
    assert len(found) > 1000
    lines, body = found["selecting.select"]
    assert lines > FUNCTION >= body > 30
