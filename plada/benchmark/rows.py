"""The rows of a benchmark: appended one by one while it runs, then written as a table."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from plada.common.files import whole_file
from plada.errors import DataError

_FOLDER = "rows"
Key = tuple[str, int, str, int | None, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One method on one target under one seed, at a `budget` in bytes, at a `keep` rate of the reference, or at neither.

    `bytes` were counted (None: it is not sent), `images` were sent or named, `accuracy` is a student's on the test images,
    `teacher` the teacher's, both 0..1. Where a method does not fit, `accuracy` is None and `note` says why.
    """

    target: str
    seed: int
    method: str
    budget: int | None
    keep: float | None
    bytes: int | None
    images: int
    accuracy: float | None
    teacher: float
    seconds: float
    note: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """What the row is about; each key is measured once."""
        return self.target, self.seed, self.method, self.budget, self.keep


class RowFile:
    """The rows of one target and seed in a file of JSON lines; each line is appended in one write."""

    def __init__(self, folder: Path, target: str, seed: int) -> None:
        self.path = folder / _FOLDER / f"{target}-{seed}.jsonl"

    def read(self) -> list[Row]:
        """The rows, without a last line that is cut. Raises DataError: a line is not one of ours."""
        rows = []
        for number, line in enumerate(self._lines().splitlines(), 1):
            try:
                rows.append(Row(**json.loads(line)))
            except (ValueError, TypeError) as err:
                raise DataError(f"{self.path}: line {number} is no row of a benchmark. Delete the file; it is measured again") from err  # fmt: skip
        return rows

    def mend(self) -> None:
        """Remove a last line that is cut; only the process that appends may do so."""
        if self.path.exists():
            with self.path.open("rb+") as file:
                file.truncate(len(self._lines()))

    def append(self, row: Row) -> None:
        """Add one row, in one write."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
        handle = os.open(self.path, flags, 0o644)
        try:
            os.write(handle, (json.dumps(asdict(row), sort_keys=True, allow_nan=False) + "\n").encode())
        finally:
            os.close(handle)

    def _lines(self) -> bytes:
        data = self.path.read_bytes() if self.path.exists() else b""
        return data[: data.rfind(b"\n") + 1]


def write_parquet(rows: Iterable[Row], path: Path) -> None:
    """The rows that have an accuracy as a Parquet table; `detail` is JSON."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {
        "target": pa.string(), "seed": pa.int32(), "method": pa.string(), "budget": pa.int64(), "keep": pa.float64(),
        "bytes": pa.int64(), "images": pa.int64(), "accuracy": pa.float64(), "teacher": pa.float64(),
        "seconds": pa.float64(), "detail": pa.string(),
    }  # fmt: skip
    listed = [{**asdict(row), "detail": json.dumps(row.detail, sort_keys=True)} for row in rows if row.accuracy is not None]  # fmt: skip
    table = pa.table({name: pa.array([row[name] for row in listed], kind) for name, kind in kinds.items()})
    with whole_file(path) as part:
        pq.write_table(table, part)
