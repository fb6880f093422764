"""What was measured, line by line: a run that was stopped goes on, and a folder of another run is refused."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from plada.common.files import whole_file, write_json
from plada.errors import DataError, RequestError

FORMAT = 1
IDENTITY, LINES = "bench.json", "rows"  # the file that says which run a folder holds; the folder of its lines
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
        """What a row is about: measured once."""
        return self.target, self.seed, self.method, self.budget, self.keep


class Lines:
    """Rows of one target and seed in a file of JSON lines, each appended whole."""

    def __init__(self, folder: Path, target: str, seed: int) -> None:
        self.path = folder / LINES / f"{target}-{seed}.jsonl"

    def read(self, *, mend: bool = False) -> list[Row]:
        """The rows, without a last line that is cut; `mend` takes it off the file, which only who appends may ask for.

        Raises:
            DataError: a line is not one of ours.
        """
        if not self.path.exists():
            return []
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if mend and len(whole) < len(data):
            with self.path.open("rb+") as file:
                file.truncate(len(whole))
        rows = []
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                rows.append(Row(**json.loads(line)))
            except (ValueError, TypeError) as err:
                raise DataError(f"{self.path}: line {number} is no row of a benchmark. Delete the file; it is measured again") from err  # fmt: skip
        return rows

    def append(self, row: Row) -> None:
        """Add one row, in one write."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, (json.dumps(asdict(row), sort_keys=True, allow_nan=False) + "\n").encode())
        finally:
            os.close(handle)


def claim(folder: Path, run: Mapping[str, Any], targets: Mapping[str, str]) -> None:
    """Make `folder` that of this run, or find that it is. `run` is what decides every number, `targets` are digests of
    the targets' images by name; other targets may join later.

    Raises:
        RequestError: it holds another run, other images under a target's name, or something else.
    """
    place = folder / IDENTITY
    known: dict[str, str] = {}
    if place.exists():
        try:
            there = json.loads(place.read_text())
            known = dict(there.pop("targets"))
        except (ValueError, KeyError, TypeError, AttributeError) as err:
            raise RequestError(f"{place}: not written by `plada bench`. Name another --out") from err
        wanted = json.loads(json.dumps({"format": FORMAT, **run}))
        different = next((name for name in sorted(wanted.keys() | there.keys()) if wanted.get(name) != there.get(name)), None)  # fmt: skip
        if different is not None:
            raise RequestError(
                f"{folder}: holds a benchmark with {different} {_short(there.get(different))}; this one has "
                f"{_short(wanted.get(different))}. Name another --out, or delete it"
            )
        for name, digest in targets.items():
            if known.get(name, digest) != digest:
                raise RequestError(
                    f"{folder}: holds rows of target {name} with other images. Name another --out, or restore the target"
                )
    elif folder.exists() and any(folder.iterdir()):
        raise RequestError(f"{folder}: holds something that is no benchmark. Name another --out, a new or empty folder")
    write_json(place, {"format": FORMAT, **run, "targets": {**known, **targets}})


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


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
