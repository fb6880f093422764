"""Targets of which only the class names are known: `classes:cat,dog`."""

from pathlib import Path

import numpy as np

from plada.errors import RequestError
from plada.selection.corrections import read_keys
from plada.sources.targets.target import Nothing, Split, Target

PREFIX = "classes:"


def named_target(target: str | Path) -> Target | None:
    """The target of `classes:cat,dog` or `classes:FILE` (a name a line), without images; None for any other text.

    Raises:
        RequestError: fewer than two different names, a file that cannot be read.
    """
    text = str(target)
    if not text.startswith(PREFIX):
        return None
    path = Path(text.removeprefix(PREFIX)).expanduser()
    if path.is_file():
        names, title = read_keys(path), path.stem
    else:
        names, title = [name.strip() for name in text.removeprefix(PREFIX).split(",") if name.strip()], "classes"
    if len(names) < 2 or len(set(names)) != len(names):
        raise RequestError(
            f"target {text}: expected two or more different class names, commas between, or a file of them"
        )
    nothing = Split(Nothing(text), np.zeros(0, np.int64), np.zeros(0, np.int64))
    return Target(title, tuple(names), nothing, nothing, None, note="class names alone, no images")
