"""The table of a selection: made, written, and read again beside its payload."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plada.common.failures import first_line
from plada.common.files import whole_file
from plada.common.statistics import class_ranks
from plada.errors import DataError, RequestError
from plada.labeler.pseudo_labels import PseudoLabels
from plada.payload.payload import Payload
from plada.selection.rules.rule import Chosen
from plada.sources.parquet_errors import PARQUET_ERRORS

ABOUT = "plada"  # name of what a table says of its selection, among its metadata

_COLUMNS = ("position", "key", "label", "score", "class_rank")


@dataclass(frozen=True, slots=True, eq=False)
class SelectionTable:
    """Rows in order of position: positions int64 [k], keys (pyarrow string array [k]), scores float64 [k] and ranks in
    their class int64 [k], 0 the best. `report` is what select said, `options` what it was asked for; both are empty in a
    table that another program has written again."""

    positions: npt.NDArray[np.int64]
    keys: Any
    scores: npt.NDArray[np.float64]
    ranks: npt.NDArray[np.int64]
    report: Mapping[str, Any]
    options: Mapping[str, Any]


def read_table(path: str | Path, payload: Payload | None = None) -> SelectionTable:
    """The table of a selection; `payload` is what it must have been written with.

    Raises:
        RequestError: it cannot be read, or is of another payload. DataError: a column is missing, or not of numbers.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except PARQUET_ERRORS as err:
        raise RequestError(
            f"{path}: cannot be read as Parquet ({first_line(err)}). Give what `plada select --table` wrote"
        ) from err
    missing = [name for name in _COLUMNS if name not in table.column_names]
    if missing:
        raise DataError(
            f"{path}: has no column '{missing[0]}'; expected {', '.join(_COLUMNS)}. Give what `plada select --table` wrote"
        )
    try:
        table = table.sort_by("position")
        positions, labels, ranks = (
            table[name].to_numpy().astype(np.int64, casting="same_kind") for name in ("position", "label", "class_rank")
        )
        scores = table["score"].to_numpy().astype(np.float64)
        keys = table["key"].combine_chunks().cast(pa.string())
    except (TypeError, ValueError, pa.ArrowException) as err:
        raise DataError(f"{path}: a column does not hold what it should ({err})") from err
    if payload is not None and not (
        np.array_equal(positions, payload.positions) and np.array_equal(labels, payload.labels)
    ):
        both = int(np.isin(payload.positions, positions).sum())
        raise RequestError(
            f"{path}: is the table of another selection: {both} of the payload's {len(payload)} images are among its "
            f"{len(positions)}, or they have other labels. Give the table that was written with this payload"
        )
    about = _about(table)
    return SelectionTable(positions, keys, scores, ranks, about.get("report", {}), about.get("asked", {}))


def _about(table: Any) -> dict[str, dict[str, Any]]:
    """What select said, as far as it is there; a table is data, and this only informs."""
    try:
        said = json.loads((table.schema.metadata or {}).get(ABOUT.encode(), b"{}"))
    except ValueError:
        return {}
    if not isinstance(said, dict):
        return {}
    return {name: part for name, part in said.items() if isinstance(part, dict)}


def make_table(labels: PseudoLabels, chosen: Chosen, keys: list[str]) -> Any:
    """The table of a selection (pyarrow) in order of position; `keys` [k] are those of chosen.rows, best first."""
    import pyarrow as pa

    order = np.argsort(chosen.rows)
    rows = chosen.rows[order]
    return pa.table(
        {
            "position": pa.array(labels.positions[rows].astype(np.uint32)),
            "key": pa.array([keys[i] for i in order], pa.string()),
            "label": pa.array(labels.labels[rows].astype(np.int32)),
            "score": pa.array(chosen.scores[order]),
            "class_rank": pa.array(class_ranks(labels.labels[chosen.rows])[order].astype(np.int32)),
        }
    )


def write_table(table: Any, path: Path, about: Mapping[str, Any] | None = None) -> None:
    """A selection's table as Parquet; `about` (plain values: report, asked) goes into its metadata, for `plada report`."""
    import pyarrow.parquet as pq

    metadata = {ABOUT: json.dumps(about)} if about is not None else None
    with whole_file(path) as part:
        pq.write_table(table.replace_schema_metadata(metadata), part, compression="zstd")
