"""A log of training: a plain table, or the event files that TensorBoard reads."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from plada.common.files import write_bytes
from plada.trainer.records import field_bytes, field_double, field_float, field_number, frame

Log = Callable[[int, Mapping[str, float]], None]  # step, values by name


def no_log(_: int, __: Mapping[str, float]) -> None:
    """The default: none."""


def open_log(path: Path) -> Log:
    """Where values of training go: a table if `path` ends in .csv, else a folder of TensorBoard event files."""
    return _table(path) if path.suffix == ".csv" else _events(path)


def _table(path: Path) -> Log:
    """A run that goes on from a checkpoint writes its last rows again: those from its first step on are dropped."""
    names: list[str] = []

    def log(step: int, values: Mapping[str, float]) -> None:
        if not names:
            names.extend(values)
            write_bytes(path, f"step,{','.join(names)}\n{_before(path, step)}".encode())
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{step},{','.join(f'{values[name]:.6g}' for name in names)}\n")

    return log


def _before(path: Path, step: int) -> str:
    if not path.exists():
        return ""
    rows = (line.partition(",") for line in path.read_text(encoding="utf-8").splitlines())
    return "".join(f"{at},{rest}\n" for at, _, rest in rows if at.isdigit() and int(at) < step)


def _events(folder: Path) -> Log:
    """TensorBoard's format: TFRecords of the Event message (tensorflow/core/util/event.proto)."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"events.out.tfevents.{time.time_ns()}.plada"
    path.write_bytes(frame(field_double(1, time.time()) + field_bytes(3, b"brain.Event:2")))

    def log(step: int, values: Mapping[str, float]) -> None:
        summary = b"".join(
            field_bytes(1, field_bytes(1, name.encode()) + field_float(2, value)) for name, value in values.items()
        )
        event = field_double(1, time.time()) + field_number(2, step) + field_bytes(5, summary)
        with path.open("ab") as file:
            file.write(frame(event))

    return log
