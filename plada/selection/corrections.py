"""What a person says against a selection: keys to leave out, and other labels for some."""

import csv
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from plada.common.failures import first_line
from plada.errors import DataError, RequestError
from plada.labeler.pseudo_labels import PseudoLabels

I64 = npt.NDArray[np.int64]


def read_keys(path: Path) -> list[str]:
    """Keys of a text file, one a line; empty lines and those that begin with # do not count. A line that is a JSON string
    ("...") stands for its text: that is how a report writes keys with line breaks, or spaces at their ends.

    Raises:
        RequestError: it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as err:
        raise RequestError(f"{path}: cannot be read as text ({err}). Give one key a line") from err
    return [_key(line.strip()) for line in lines if line.strip() and not line.startswith("#")]


def _key(line: str) -> str:
    if line.startswith('"'):
        with suppress(ValueError):
            if isinstance(key := json.loads(line), str):
                return key
    return line


def read_labels(path: Path, classes: tuple[str, ...]) -> tuple[list[str], I64]:
    """(keys, labels int64 [n]) of a table of corrections: .parquet or .csv with a column `key` and a column `label`, which
    holds class names or numbers. A table that `--table` wrote, edited, will do.

    Raises:
        RequestError: it cannot be read. DataError: a column is missing, a class is unknown, a key is there twice.
    """
    keys, given = _columns(path)
    index = {name: number for number, name in enumerate(classes)}
    labels = np.zeros(len(keys), np.int64)
    for row, value in enumerate(given):
        text = str(value)
        number = index.get(text, int(text) if text.isdigit() else -1)
        if not 0 <= number < len(classes):
            raise DataError(
                f"{path}: image '{keys[row]}' has the label '{text}'; expected a class of the target "
                f"({', '.join(classes[:3])}, ...) or its number, 0 to {len(classes) - 1}"
            )
        labels[row] = number
    twice = sorted({key for key in keys if keys.count(key) > 1}) if len(set(keys)) != len(keys) else []
    if twice:
        raise DataError(f"{path}: image '{twice[0]}' is there twice. Keep one of its rows")
    return keys, labels


def _columns(path: Path) -> tuple[list[str], list[object]]:
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            table = pq.read_table(path)
            names, rows = table.column_names, table.to_pydict()
        else:
            with path.open(newline="", encoding="utf-8") as file:
                listed = list(csv.DictReader(file))
            names = list(listed[0]) if listed else ["key", "label"]
            rows = {name: [line[name] for line in listed] for name in names}
    except (OSError, ValueError, csv.Error) as err:
        raise RequestError(f"{path}: cannot be read as a table ({first_line(err)})") from err
    missing = [name for name in ("key", "label") if name not in names]
    if missing:
        raise DataError(f"{path}: has no column '{missing[0]}'; expected key and label, found {', '.join(names)}")
    return [str(key) for key in rows["key"]], list(rows["label"])


def left_out(labels: PseudoLabels, positions: I64) -> PseudoLabels:
    """The pseudo-labels of all other images; positions that have none do not matter.

    Raises:
        DataError: nothing is left.
    """
    keep = ~np.isin(labels.positions, positions)
    if not keep.any():
        raise DataError("every image that could be chosen was excluded. Exclude fewer")
    scores = {name: values[keep] for name, values in labels.scores.items()}
    return replace(labels, positions=labels.positions[keep], labels=labels.labels[keep], scores=scores)


def relabelled(labels: PseudoLabels, positions: I64, given: I64) -> PseudoLabels:
    """The pseudo-labels with `given` int64 [n] for the images at `positions` int64 [n]. A person is believed: these images
    get the largest scores there are, so that they come first in their class."""
    rows = np.searchsorted(labels.positions, positions)
    inside = rows < len(labels.positions)
    inside[inside] &= labels.positions[rows[inside]] == positions[inside]
    rows, given = rows[inside], given[inside]
    changed = labels.labels.copy()
    changed[rows] = given
    scores = {}
    for name, values in labels.scores.items():
        raised = values.copy()
        raised[rows] = values.max(initial=0)
        scores[name] = raised
    return replace(labels, labels=changed, scores=scores)
