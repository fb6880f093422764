"""A log of training: a table, or event files for TensorBoard."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from plada.common.files import write_bytes
from plada.common.outputs import check_output_folder, check_outputs
from plada.common.packages import require

Log = Callable[[int, Mapping[str, float]], None]  # step, values by name
_FLUSH_SECONDS = 10  # a killed run loses at most this much of its event file


def no_log(_: int, __: Mapping[str, float]) -> None:
    """Log nothing."""


def check_log(path: Path | None) -> None:
    """Make sure that a log at `path` can be written. Raises MissingExtra: it is a folder for TensorBoard, and
    tensorboardX is not installed. RequestError, ResourceError: it cannot be written."""
    if path is None:
        return
    if path.suffix == ".csv":
        check_outputs(path)
    else:
        require("tensorboardX", extra="logs", purpose="a log for TensorBoard")
        check_output_folder(path)


@contextmanager
def open_log(path: Path | None) -> Iterator[Log]:
    """A log at `path`: a table if it ends in .csv, else a folder of TensorBoard's event files; none where it is None.
    Raises MissingExtra: as check_log."""
    check_log(path)
    if path is None:
        yield no_log
    elif path.suffix == ".csv":
        yield _table(path)
    else:
        from tensorboardX import SummaryWriter

        with SummaryWriter(str(path), flush_secs=_FLUSH_SECONDS) as writer:

            def log(step: int, values: Mapping[str, float]) -> None:
                for name, value in values.items():
                    writer.add_scalar(name, value, step)

            yield log


def _table(path: Path) -> Log:
    """A run that resumes from a checkpoint writes its last rows again: rows from its first step on are dropped."""
    names: list[str] = []

    def log(step: int, values: Mapping[str, float]) -> None:
        if not names:
            names.extend(values)
            write_bytes(path, f"step,{','.join(names)}\n{_rows_before(path, step)}".encode())
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{step},{','.join(f'{values[name]:.6g}' for name in names)}\n")

    return log


def _rows_before(path: Path, step: int) -> str:
    if not path.exists():
        return ""
    rows = (line.partition(",") for line in path.read_text(encoding="utf-8").splitlines())
    return "".join(f"{at},{rest}\n" for at, _, rest in rows if at.isdigit() and int(at) < step)
