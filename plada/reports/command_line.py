"""A Python call as the shell command that does the same."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

_OPTION = {"model_args": "model-arg"}
_JOINED = {"teacher"}  # several in one option, commas between; others are repeated


def command_line(command: str, arguments: Sequence[str], options: Mapping[str, Any]) -> str:
    """`plada COMMAND ARGUMENTS OPTIONS`, quoted for a POSIX shell; `options` by the call's parameters. None, False and
    empty ones are left out.

    >>> command_line("select", [], {"target": "my food", "budget": 2000, "force": True, "recipe": {"epochs": 3}})
    "plada select --target 'my food' --budget 2000 --force --recipe epochs=3"
    """
    words = ["plada", command, *arguments]
    for name, value in options.items():
        option = f"--{_OPTION.get(name, name).replace('_', '-')}"
        if value is None or value is False:
            continue
        if value is True:
            words.append(option)
        elif isinstance(value, Mapping):
            words += [word for key, item in value.items() for word in (option, f"{key}={_text(item)}")]
        elif isinstance(value, (list, tuple)) and name not in _JOINED:
            words += [word for item in value for word in (option, _text(item))]
        else:
            words += [option, ",".join(map(str, value)) if isinstance(value, (list, tuple)) else _text(value)]
    return shlex.join(words)


def changed_options(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call, by name, that are not None and not the defaults, as plain values: enough to repeat it.

    >>> changed_options({"target": "food", "keep": None, "budget": "2kB", "seed": 0}, {"budget": "1MB", "seed": 0})
    {'target': 'food', 'budget': '2kB'}
    """
    changed = {name: value for name, value in values.items() if value is not None and value != defaults.get(name)}
    return {name: _plain(value) for name, value in changed.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value)


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, (bool, float, list, dict)) else str(value)
