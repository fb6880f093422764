"""Write docs/commands.md, docs/errors.md and docs/datasets.md from the program itself: python docs/generate.py. A test holds them to it."""

import inspect
import itertools
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from typer.models import ArgumentInfo

from plada import errors
from plada.cli import app
from plada.commands.console.help import EXAMPLES, in_panels

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS))  # for whoever loads this file from elsewhere, as the tests do

from datasets_page import datasets_page  # noqa: E402
from error_messages import messages  # noqa: E402

MADE = "<!-- Written by docs/generate.py; change the program, not this page. -->"
_VALUES = {Path: "PATH", int: "NUMBER", float: "NUMBER"}


def commands() -> str:
    """Every command with its arguments and options, as they are declared."""
    lines = ["# Commands", "", MADE, ""]
    lines += [
        "Every command is a Python call of the same name (`plada.select(...)`). `--json` prints one JSON object a line, the last "
        "one the summary; a failure is one line on standard error, and its exit status says of what kind ([errors.md](errors.md)).",
        "",
        "| command | |",
        "| --- | --- |",
    ]
    shown = sorted(
        (each.name or str(each.callback.__name__), each.callback) for each in app.registered_commands if each.callback
    )
    lines += [f"| [{name}](#plada-{name}) | {_cell(_first(call.__doc__))} |" for name, call in shown]
    for name, call in shown:
        lines += ["", f"## plada {name}", "", *_command(name, call)]
    return "\n".join(lines) + "\n"


def _command(name: str, call: Callable[..., Any]) -> Iterator[str]:
    hints = get_type_hints(call, include_extras=True)
    arguments: list[tuple[str, str]] = []
    options: dict[str, str] = {}
    for parameter in inspect.signature(call).parameters.values():
        kind, info = hints[parameter.name].__origin__, hints[parameter.name].__metadata__[0]
        row = f"| `{{}}` | {_cell(info.help or '')}{_default(parameter, info)} |"
        if isinstance(info, ArgumentInfo):
            many = "..." if any(get_origin(each) is list for each in (kind, *get_args(kind))) else ""
            shown = parameter.name.upper() + many
            arguments.append((shown if parameter.default is parameter.empty else f"[{shown}]", row.format(shown)))
        else:
            options[parameter.name] = row.format(_option(parameter.name, kind, info))
    yield " ".join((call.__doc__ or "").split())
    words = "".join(f" {shown}" for shown, _ in arguments)
    yield from ("", f"    plada {name}{words}{' [OPTIONS]' if options else ''}")
    if arguments:
        yield from ("", "| | |", "| --- | --- |", *(row for _, row in arguments))
    for panel, names in in_panels(name, list(options)):
        yield from ("", f"| {panel} | |", "| --- | --- |", *(options[option] for option in names))
    yield from ("", "For example:", "", *(f"    {line}" for line in EXAMPLES[name]))


def _option(name: str, kind: Any, info: Any) -> str:
    # Beside Annotated, Typer keeps the first name as the default.
    named = [each for each in (info.default, *(info.param_decls or ())) if isinstance(each, str)]
    flags = sorted(named or [f"--{name.replace('_', '-')}"], key=len, reverse=True)
    plain = next(each for each in (get_args(kind) or (kind,)) if each is not type(None))
    plain = (get_args(plain) or (plain,))[0]
    value = "" if plain is bool else f" {_VALUES.get(plain, 'TEXT')}"
    return ", ".join(flags) + value


def _default(parameter: inspect.Parameter, info: Any) -> str:
    default = parameter.default
    if default is parameter.empty:
        return "" if isinstance(info, ArgumentInfo) else " Required."
    if default is None or default is False or default in ((), []) or "[default:" in (info.help or ""):
        return ""
    return f" [default: {default}]"


def _first(text: str | None) -> str:
    return " ".join((text or "").split()).partition(". ")[0].rstrip(".") + "."


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def error_page() -> str:
    """Every class of plada/errors.py and every message: what is wrong, and what helps."""
    kinds = [kind for _, kind in _tree(errors.PladaError, 0)]
    listed = messages()
    lines = ["# Errors", "", MADE, ""]
    lines += [
        "What a user can cause ends in one line: where, what was expected, what was found, what to do. The exit status says of what "
        "kind it is; with `--json` the line is an object with `code`, `kind` (the class below) and `message`. In Python all are "
        "`plada.PladaError`, and what a caller may act on is an attribute.",
        "",
        "| exit status | class | means |",
        "| --- | --- | --- |",
        "| 0 | | done |",
    ]
    for depth, kind in _tree(errors.PladaError, 0):
        indent = "&nbsp;&nbsp;" * depth
        lines.append(f"| {kind.exit_code} | {indent}[`{kind.__name__}`](#{kind.__name__.lower()}) | {_means(kind)} |")
    lines += [
        "",
        f"The {len(listed)} messages follow, read from the source: the cause, and what helps. *Slanted* words stand for what a message "
        "fills in; of [a\\|b] it says one, and [a] not always. Where nothing stands beside a message, what helps against its class "
        "does. To find yours, search for the words that are not slanted.",
    ]
    for kind in kinds:
        lines += ["", f"## {kind.__name__}", "", f"Exit status {kind.exit_code}. {_means(kind)}", "", kind.remedy]
        for topic, group in itertools.groupby((m for m in listed if m.kind == kind.__name__), lambda m: m.topic):
            lines += ["", f"**{topic}**", "", "| what is wrong | what helps |", "| --- | --- |"]
            lines += [f"| {_said(message.cause)} | {_said(message.remedy)} |" for message in group]
    return "\n".join(lines) + "\n"


def _means(kind: type[errors.PladaError]) -> str:
    return "Nothing that anybody planned for." if kind is errors.PladaError else _cell(inspect.getdoc(kind) or "")


def _said(text: str) -> str:
    """A message as a cell of a table, its <names> slanted."""
    return re.sub(r"<([^<>]+)>", r"*\1*", text.replace("*", "\\*").replace("|", "\\|"))


def _tree(kind: type[errors.PladaError], depth: int) -> Iterator[tuple[int, type[errors.PladaError]]]:
    yield depth, kind
    for below in sorted(kind.__subclasses__(), key=lambda each: (each.exit_code, inspect.getsourcelines(each)[1])):
        if below.__module__ == errors.__name__:
            yield from _tree(below, depth + 1)


PAGES = {"commands.md": commands, "errors.md": error_page, "datasets.md": datasets_page}

if __name__ == "__main__":
    for name, made in PAGES.items():
        (DOCS / name).write_text(made(), encoding="utf-8")
