"""A person's corrections of a selection: keys to leave out, and other labels for some."""

import csv
import json
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from plada.common.arrays import I64
from plada.common.failures import first_line
from plada.common.text import csv_text
from plada.errors import DataError, RequestError
from plada.labeler.pseudo_labels import PseudoLabels
from plada.retrieval.index import Index

RANK = "class_rank"  # a column that tells what `--table` wrote from a list made by hand
# What the labels of a table of corrections are: by the column's type, or of a CSV file, which has none.
_NAMES, _NUMBERS, _TEXT, _EITHER = "names", "numbers", "text", "names or numbers"
_MAX_DIGITS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrections:
    """What is changed in the teacher's labels before images are chosen.

    Attributes:
        exclude: Text file of keys to leave out, one a line.
        relabel: Table (.parquet or .csv) of keys and labels that a person says are right.
        distinct: Cosine of embeddings, above 0 and up to 1: of images of a class that are nearer to each other only the surest
            can be chosen. None leaves all in.
        drop_leaks: Choose others instead of near copies of the target's test images.

    Examples:
        >>> import plada
        >>> corrections = plada.Corrections(exclude="exclude.txt")
        >>> plada.select("characters", target="few", budget=200, rule="herd", keep="10%", corrections=corrections).report.bytes <= 200
        True
    """

    exclude: str | Path | None = None
    relabel: str | Path | None = None
    distinct: float | None = None
    drop_leaks: bool = False


@dataclass(frozen=True, slots=True)
class Corrected:
    """Pseudo-labels after a person's corrections: `given` int64 [n] are that person's labels of the images at `positions` [n].
    `remark` counts corrected images that cannot be chosen; it is empty where all can."""

    labels: PseudoLabels
    positions: I64
    given: I64
    remark: str = ""


def correct(labels: PseudoLabels, index: Index, classes: tuple[str, ...], corrections: Corrections) -> Corrected:
    """Pseudo-labels with the labels that a person says are right, without the images that are to be left out.

    Raises:
        RequestError: a file that cannot be read. DataError: a key that the reference does not have; nothing is left.
    """
    remark, positions, given = "", np.zeros(0, np.int64), np.zeros(0, np.int64)
    if corrections.relabel is not None:
        path = Path(corrections.relabel)
        keys, given = read_labels(path, classes)
        positions = _positions_of(index, keys, path)
        outside = np.flatnonzero(~np.isin(positions, labels.positions))
        if len(outside):
            remark = (
                f"{len(outside)} of the {len(keys)} images of {path} are not among those that can be chosen from, such as "
                f"'{keys[outside[0]]}': they could not be read, or are outside the shortlist. Their labels change nothing"
            )
        labels = relabelled(labels, positions, given)
    if corrections.exclude is not None:
        path = Path(corrections.exclude)
        labels = without(labels, _positions_of(index, read_keys(path), path))
    return Corrected(labels, positions, given, remark)


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
        lines = path.read_text(encoding="utf-8-sig").splitlines()
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
    """(keys, labels int64 [n]) of a table of corrections: .parquet or .csv with a column `key` and a column `label`.

    The column's type says what labels are: whole numbers are class numbers, as `--table` writes them, text is class names. A
    CSV file has no types. Its labels are names, or numbers where no class is called by a number; with a column `class_rank`
    it is what `--table` wrote, and holds numbers.

    Raises:
        RequestError: it cannot be read. DataError: a column is missing or of another type, a class is unknown, a key is
            there twice.
    """
    keys, given, kind = _columns(path)
    index = {name: number for number, name in enumerate(classes)}
    called_by_number = next((name for name in classes if _is_number(name)), None)
    if kind == _TEXT and called_by_number is None:
        kind = _EITHER
    labels = np.zeros(len(keys), np.int64)
    for row, value in enumerate(given):
        number = -1
        if kind in (_NAMES, _TEXT, _EITHER):
            number = index.get(value, -1)
        if kind in (_NUMBERS, _EITHER) and number < 0 and _is_number(value):
            number = int(value)
        if not 0 <= number < len(classes):
            raise DataError(
                f"{path}: image '{keys[row]}' has the label '{value}'; expected {_expected(kind, classes, called_by_number)}"
            )
        labels[row] = number
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise DataError(f"{path}: image '{key}' is there twice. Keep one of its rows")
        seen.add(key)
    return keys, labels


def _is_number(text: str) -> bool:
    """Digits that any program reads alike, few enough for a class number."""
    return text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS


def _expected(kind: str, classes: tuple[str, ...], called_by_number: str | None) -> str:
    """What a label may be, for a message."""
    name = f"a class of the target ({', '.join(classes[:3])}, ...)"
    number = f"number, 0 to {len(classes) - 1}"
    if kind == _NUMBERS:
        return f"the {number}, of a class of the target. Class names belong in a column of text"
    if kind == _NAMES:
        return f"{name}. A column of text holds names; numbers, 0 to {len(classes) - 1}, belong in one of whole numbers"
    if kind == _TEXT:
        return (
            f"{name}. There is a class called '{called_by_number}', so a CSV file holds names; give numbers as Parquet"
        )
    return f"{name} or its {number}"


def _columns(path: Path) -> tuple[list[str], list[str], str]:
    """(keys, labels, what labels are) of a table, all as text."""
    import pyarrow as pa

    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            table = pq.read_table(path)
            names = table.column_names
        else:
            with path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file)
                listed = list(reader)
            names = list(reader.fieldnames or ["key", "label"])
    except (OSError, ValueError, csv.Error, pa.ArrowException) as err:
        raise RequestError(f"{path}: cannot be read as a table ({first_line(err)})") from err
    for name in ("key", "label"):
        if names.count(name) != 1:
            raise DataError(
                f"{path}: has {'no column' if name not in names else 'more than one column'} '{name}'; expected key and label, "
                f"found {', '.join(names)}"
            )
    if path.suffix == ".parquet":
        kind = _kind_of(path, table.schema.field("label").type)
        keys, given = (table[name].to_pylist() for name in ("key", "label"))
    else:
        kind = _NUMBERS if RANK in names else _TEXT
        keys, given = (
            [None if line[name] is None else csv_text(line[name]) for line in listed] for name in ("key", "label")
        )
    for name, values in (("key", keys), ("label", given)):
        if None in values:
            raise DataError(f"{path}: row {values.index(None) + 1} has no {name}. Fill it in, or remove the row")
    return [str(key) for key in keys], [str(value) for value in given], kind


def _kind_of(path: Path, kind: Any) -> str:
    """What labels of a Parquet column of the type `kind` are."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_integer(kind):
        return _NUMBERS
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _NAMES
    raise DataError(
        f"{path}: column 'label' is of type {kind}; expected whole numbers (class numbers) or text (class names)"
    )


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
