"""What a user has set once: environment variables, then config.toml in the home folder, then the defaults."""

import json
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

from plada.common.files import home_directory, whole_file
from plada.common.summary import Summary
from plada.errors import RequestError, UnknownName

FILE = "config.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting(Summary):
    """A setting: its value, `origin` (where the value comes from), and what it is for."""

    name: str
    value: str
    origin: str
    purpose: str


@dataclass(frozen=True, slots=True)
class _Kind:
    variable: str
    default: str
    purpose: str
    values: tuple[str, ...] = ()


_KINDS = {
    "encoder": _Kind("PLADA_ENCODER", "", "the encoder of `plada index` where none is given"),
    "download": _Kind("PLADA_DOWNLOAD", "ask", "whether the weights of that encoder may be downloaded", ("ask", "yes")),
    "datasets": _Kind("PLADA_DATASETS", "", f"folders of registered collections, {os.pathsep} between"),
}


def settings(home: str | Path | None = None) -> list[Setting]:
    """All settings, with their values and where these come from.

    Raises:
        RequestError: config.toml cannot be read, or a value is none that the setting takes. UnknownName: it has a name that is no
            setting.
    """
    kept, path = _read(home), _path(home)
    result = []
    for name, kind in _KINDS.items():
        if value := os.environ.get(kind.variable, ""):
            origin = f"${kind.variable}"
        elif name in kept:
            value, origin = kept[name], str(path)
        else:
            value, origin = kind.default, "default"
        _check(name, value, origin)
        result.append(Setting(name=name, value=value, origin=origin, purpose=kind.purpose))
    return result


def setting(name: str, home: str | Path | None = None) -> Setting:
    """One setting. Raises as `settings`."""
    return next(each for each in settings(home) if each.name == name)


def write_setting(name: str, value: str | None, home: str | Path | None = None) -> None:
    """Keep a value in config.toml; None removes it.

    Raises:
        UnknownName: there is no such setting. RequestError: it does not take this value, or the file cannot be read.
        ResourceError: it cannot be written.
    """
    if name not in _KINDS:
        raise UnknownName("setting", name, _KINDS)
    kept, path = _read(home), _path(home)
    kept.pop(name, None)
    if value is not None:
        _check(name, value, "plada config set")
        kept[name] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    # A JSON string is a TOML basic string: https://toml.io/en/v1.0.0#string
    lines = [f"{key} = {json.dumps(text, ensure_ascii=False)}\n" for key, text in sorted(kept.items())]
    with whole_file(path) as part:
        part.write_text("".join(lines), "utf-8")


def _path(home: str | Path | None) -> Path:
    return home_directory(home) / FILE


def _read(home: str | Path | None) -> dict[str, str]:
    path = _path(home)
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as err:
        raise RequestError(f'{path}: expected settings as TOML, NAME = "VALUE" ({err}). Mend it, or delete it') from err
    for name, value in found.items():
        if name not in _KINDS:
            raise UnknownName("setting", name, _KINDS, hint=f"It stands in {path}")
        if not isinstance(value, str):
            raise RequestError(f"{path}: {name}: expected a text in quotes, found {value!r}")
    return found


def _check(name: str, value: str, origin: str) -> None:
    allowed = _KINDS[name].values
    if allowed and value not in allowed:
        raise RequestError(f"{origin}: {name} is {' or '.join(allowed)}, not {value!r}")
