"""What keeps the code readable: short modules, short signatures. docs/decisions.md says why there is no limit on functions."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import plada

ROOT = Path(__file__).resolve().parents[1]
LINES = 500  # of a module
PARAMETERS = 16  # of a public call, or of a command
POSITIONAL = 8  # of any function


def functions() -> Iterator[tuple[str, ast.arguments, bool]]:
    """Dotted name, parameters, and whether it is a method, of every function of the package, those within others too."""
    for path in sorted((ROOT / "plada").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        methods = {id(node) for each in ast.walk(tree) if isinstance(each, ast.ClassDef) for node in each.body}
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield f"{module}.{node.name}", node.args, id(node) in methods


def positional(arguments: ast.arguments, method: bool) -> int:
    return len(arguments.posonlyargs) + len(arguments.args) - method


def public_calls() -> dict[str, int]:
    """Parameters of every function and class of plada.__all__, and of the methods of these classes, by name."""
    counts = {}
    for name in plada.__all__:
        value = getattr(plada, name)
        if isinstance(value, type) and issubclass(value, Exception):  # these take a message
            continue
        counts[name] = len(inspect.signature(value).parameters)
        for method, call in vars(value).items() if isinstance(value, type) else ():
            if inspect.isfunction(call) and not method.startswith("_"):
                counts[f"{name}.{method}"] = len(inspect.signature(call).parameters) - 1
    return counts


def over(counts: dict[str, int], limit: int) -> str:
    return "\n".join(f"{name}: {count}" for name, count in counts.items() if count > limit)


def test_no_module_is_too_long() -> None:
    counts = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in (ROOT / "plada").rglob("*.py")
    }
    assert not over(counts, LINES), over(counts, LINES)


def test_public_calls_take_few_parameters() -> None:
    assert not over(public_calls(), PARAMETERS), over(public_calls(), PARAMETERS)


def test_commands_take_few_parameters() -> None:
    """As they are written: a group of options is one parameter."""
    counts = {
        name: positional(arguments, method) + len(arguments.kwonlyargs)
        for name, arguments, method in functions()
        if name.startswith("plada.commands.")
    }
    assert len(counts) > 40
    assert not over(counts, PARAMETERS), over(counts, PARAMETERS)


def test_no_function_takes_many_positional_parameters() -> None:
    counts = {name: positional(arguments, method) for name, arguments, method in functions()}
    assert len(counts) > 1000
    assert not over(counts, POSITIONAL), over(counts, POSITIONAL)


def test_the_counters_count() -> None:
    arguments = {name: (positional(each, method), len(each.kwonlyargs)) for name, each, method in functions()}
    assert arguments["plada.reports.plots.panels"] == (3, 5)
    assert arguments["plada.retrieval.index.reference"] == (0, 0)
    assert public_calls()["report"] == len(inspect.signature(plada.report).parameters) > 10
    assert over({"a": 3, "b": 4}, 3) == "b: 4"
