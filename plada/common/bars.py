"""Progress bars, for people: on a terminal, or in a notebook."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from plada.common.text import visible

if TYPE_CHECKING:
    from plada.common.progress import Progress


def is_watched() -> bool:
    """Whether a person sees what this process shows: standard error is a terminal, or this is a notebook."""
    return in_notebook() or (sys.stderr is not None and sys.stderr.isatty())


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    shell = sys.modules.get("IPython")
    running = shell.get_ipython() if shell is not None else None
    return type(running).__name__ == "ZMQInteractiveShell"


@contextmanager
def progress_bars() -> "Iterator[Callable[[Progress], None]]":
    """Something to hand to a call as `report`: a bar for each stage, on standard error, or in the notebook's cell."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description:>18}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.0f}/s"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    # Without ipywidgets Rich would show every step in a cell as a line of its own, with a warning.
    widgets = in_notebook() and importlib.util.find_spec("ipywidgets") is not None
    with Bars(*columns, console=Console(stderr=not widgets, force_jupyter=widgets)) as bars:
        tasks: dict[str, Any] = {}

        def show(progress: "Progress") -> None:
            task = tasks.get(progress.stage)
            if task is None or next(t for t in bars.tasks if t.id == task).finished:
                task = tasks[progress.stage] = bars.add_task(progress.stage, total=progress.total, rate=0.0)
            if progress.note:
                bars.print(visible(f"{progress.stage}: {progress.note}"), markup=False, highlight=False)
            bars.update(task, completed=progress.done, total=progress.total, rate=progress.rate)

        yield show
