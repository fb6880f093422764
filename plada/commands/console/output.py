"""What the command line shows: progress bars on a terminal, plain lines elsewhere, JSON on request, tables."""

import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from plada.common.bars import progress_bars
from plada.common.progress import Progress, Report
from plada.common.text import visible

if TYPE_CHECKING:
    from plada.sources.unreadable import UnreadableGroup

_QUIET_SECONDS = 3.5  # between two plain lines of one stage
_FIRST_SECONDS = 1.0  # after which a command that has said nothing yet says where it is
_STARTING_SECONDS = 0.4  # after which a command that has said nothing yet says that it is starting


class FirstSign:
    """Says once that a command is starting, if the command has said nothing in its first moments.

    It begins before the command imports anything heavy, since loading torch alone may take seconds.
    """

    def __init__(self, name: str, *, as_json: bool) -> None:
        self._name = name
        self._as_json = as_json
        self._lock = threading.Lock()
        self._over = False
        self._timer = threading.Timer(_STARTING_SECONDS, self._say)
        self._timer.daemon = True

    def __enter__(self) -> "FirstSign":
        _signs.append(self)
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        _signs.remove(self)

    def end(self) -> None:
        """The command says something itself, or has ended."""
        self._timer.cancel()
        with self._lock:
            self._over = True

    def _say(self) -> None:
        with self._lock:
            if self._over:
                return
            self._over = True
            if self._as_json:
                event = {"type": "progress", "stage": self._name, "done": 0, "total": None, "rate": 0.0}
                print(json.dumps(event), flush=True)
            else:
                print(f"{self._name}: starting", file=sys.stderr, flush=True)


_signs: list[FirstSign] = []  # of the command that runs


def end_first_sign() -> None:
    """Something else is said: that the command starts need not be."""
    for sign in _signs:
        sign.end()


@contextmanager
def reporter(*, as_json: bool, quiet: bool = False) -> Iterator[Report]:
    """Something to hand to a call as `report`; what it shows goes to standard error, JSON to standard output."""
    if quiet:
        yield lambda _: None
    elif as_json:
        yield _json_lines()
    elif sys.stderr.isatty():
        with progress_bars() as bars:

            def show(progress: Progress) -> None:
                end_first_sign()
                bars(progress)

            yield show
    else:
        yield _plain_lines()


def print_json(kind: str, value: Mapping[str, Any]) -> None:
    """One JSON object on one line of standard output."""
    end_first_sign()
    print(json.dumps({"type": kind, **value}, allow_nan=False), flush=True)


def print_line(text: Any, *, error: bool = False) -> None:
    """One line of standard output, or standard error; whatever the text holds, it stays one line and is shown."""
    end_first_sign()
    print(visible(str(text)), file=sys.stderr if error else sys.stdout)


def print_table(rows: Sequence[Sequence[str]], *, head: Sequence[str] = (), title: str = "") -> None:
    """A table of text; the first column is what the others are about."""
    from rich.console import Console
    from rich.table import Table

    end_first_sign()
    # Off a terminal nothing is cut to a width nobody has.
    console = Console(width=None if sys.stdout.isatty() else 200)
    table = Table(*head, title=_plain(title) if title else None, show_header=bool(head), title_justify="left")
    if not head:
        for _ in rows[0]:
            table.add_column()
    for row in rows:
        table.add_row(*(_plain(cell) for cell in row))
    console.print(table)


def print_unreadable(groups: "Sequence[UnreadableGroup]") -> None:
    """A table of unreadable images by reason, on standard output; nothing where all could be read."""
    if groups:
        rows = [[str(group.images), group.reason, group.example] for group in groups]
        print_table(rows, head=("images", "reason", "example"), title="unreadable")


def _plain(cell: str) -> Any:
    """Names come from data: they are made visible, and never read as markup."""
    from rich.text import Text

    return Text(visible(cell))


class _Pace:
    """Lets the events of each stage through at most once in `seconds`, and always the one that ends it; the first of all as
    soon as _FIRST_SECONDS have passed."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._began: float | None = None  # when the first event came
        self._shown = False
        self._seen: dict[str, tuple[int, float]] = {}

    def __call__(self, progress: Progress) -> bool:
        now = time.monotonic()
        done, last = self._seen.get(progress.stage, (-1, now))
        if progress.done < done:  # the same stage anew: another student, another split
            last = now
        show = now - last >= self.seconds or (progress.done == progress.total and progress.done != done)
        self._began = now if self._began is None else self._began
        show = show or (not self._shown and now - self._began >= _FIRST_SECONDS)
        self._shown = self._shown or show
        self._seen[progress.stage] = (progress.done, now if show else last)
        return show


def _json_lines() -> Report:
    due = _Pace(1.0)

    def show(progress: Progress) -> None:
        if progress.note or due(progress):
            event = {
                "stage": progress.stage,
                "done": progress.done,
                "total": progress.total,
                "rate": round(progress.rate, 1),
                **({"note": progress.note} if progress.note else {}),
            }
            print_json("progress", event)

    return show


def _plain_lines() -> Report:
    due = _Pace(_QUIET_SECONDS)

    def show(progress: Progress) -> None:
        if progress.note:
            print_line(f"{progress.stage}: {progress.note}", error=True)
        elif not due(progress):
            return
        elif progress.total is None and not progress.done:
            print_line(f"{progress.stage}: still working", error=True)
        else:
            total = f" of {progress.total}" if progress.total is not None else ""
            left = (progress.total - progress.done) / progress.rate if progress.total and progress.rate else 0
            ending = f", {left:.0f} s left" if left else ""
            print_line(f"{progress.stage}: {progress.done}{total}, {progress.rate:.0f}/s{ending}", error=True)

    return show
