"""A person's corrections of a selection: keys to leave out, and other labels for some."""

import csv
import json
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from plada.common.failures import first_line
from plada.common.text import csv_text
from plada.errors import DataError, RequestError
from plada.labeler.pseudo_labels import PseudoLabels
from plada.retrieval.index import Index

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrections:
    """What is changed in the teacher's labels before images are chosen.

    Attributes:
        exclude: Text file of keys to leave out, one a line.
        relabel: Table (.parquet or .csv) of keys and labels that a person says are right.
        distinct: Cosine of embeddings, above 0 and up to 1: of images of a class that are nearer to each other only the surest
            can be chosen. None leaves all in.
        drop_leaks: Choose others instead of near copies of the target's test images.
    """

    exclude: str | Path | None = None
    relabel: str | Path | None = None
    distinct: float | None = None
    drop_leaks: bool = False


def correct(labels: PseudoLabels, index: Index, classes: tuple[str, ...], corrections: Corrections) -> PseudoLabels:
    """The pseudo-labels with the labels that a person says are right, without the images that are to be left out.

    Raises:
        RequestError: a file that cannot be read. DataError: a key that the reference does not have; nothing is left.
    """
    if corrections.relabel is not None:
        path = Path(corrections.relabel)
        keys, given = read_labels(path, classes)
        labels = relabelled(labels, _positions_of(index, keys, path), given)
    if corrections.exclude is not None:
        path = Path(corrections.exclude)
        labels = without(labels, _positions_of(index, read_keys(path), path))
    return labels


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


def without(labels: PseudoLabels, positions: I64) -> PseudoLabels:
    """The pseudo-labels of all other images; positions that have none do not matter.

    Raises:
        DataError: nothing is left.
    """
    kept = ~np.isin(labels.positions, positions)
    if not kept.any():
        raise DataError(
            "every image that could be chosen was excluded, or is a copy of a test image. Exclude fewer, or take another "
            "reference"
        )
    return labels.where(kept)


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
            rows = {name: [csv_text(line[name] or "") for line in listed] for name in names}
    except (OSError, ValueError, csv.Error) as err:
        raise RequestError(f"{path}: cannot be read as a table ({first_line(err)})") from err
    missing = [name for name in ("key", "label") if name not in names]
    if missing:
        raise DataError(f"{path}: has no column '{missing[0]}'; expected key and label, found {', '.join(names)}")
    return [str(key) for key in rows["key"]], list(rows["label"])


def _positions_of(index: Index, keys: list[str], path: Path) -> I64:
    import pyarrow as pa
    import pyarrow.compute as pc

    rows: list[I64] = [np.zeros(0, np.int64)]
    names: list[str] = []
    at = 0
    wanted = pa.array(keys, pa.string())
    for batch in index.keys_in_order():
        matching = np.flatnonzero(np.asarray(pc.is_in(batch, value_set=wanted)))
        rows.append(matching + at)
        names += batch.take(pa.array(matching)).to_pylist()
        at += len(batch)
    places = dict(zip(names, np.concatenate(rows).tolist(), strict=True))
    for key in keys:
        if key not in places:
            raise DataError(f"{path}: the reference of index '{index.name}' has no image '{key}'")
    return np.array([places[key] for key in keys], np.int64)
