"""Progress of long work: a stream of events that the caller may show, log or ignore."""

import functools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import ParamSpec, TypeVar

from plada.common.bars import is_watched, progress_bars

_SILENCE = 1.0  # seconds without an event, after which a heartbeat repeats the last one
_P = ParamSpec("_P")
_R = TypeVar("_R")
_within: ContextVar[bool] = ContextVar("within another call", default=False)


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `total` items of a stage (None where the total is not known), at `rate` items a second; `note` is a message
    for the user."""

    stage: str
    done: int
    total: int | None
    rate: float
    note: str = ""


Report = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """The default listener."""


class Heartbeat:
    """A listener that passes events on, and from a thread of its own repeats the last one whenever nothing was reported for a
    second: one call of a library may take minutes. Within a stage it repeats what is done; behind its end it says "after STAGE".
    """

    def __init__(self, report: Report, stage: str) -> None:
        self._report = report
        self._last = Progress(stage, 0, None, 0.0)
        self._heard = time.monotonic()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="plada heartbeat", daemon=True)

    def __call__(self, progress: Progress) -> None:
        with self._lock:
            self._last, self._heard = progress, time.monotonic()
            self._report(progress)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        wait = _SILENCE
        while not self._stopped.wait(wait):
            with self._lock:
                now = time.monotonic()
                wait = self._heard + _SILENCE - now
                if wait > 0:
                    continue
                last = replace(self._last, note="")
                if last.done == last.total:
                    last = Progress(f"after {last.stage}", 0, None, 0.0)
                self._last, self._heard, wait = last, now, _SILENCE
                try:
                    self._report(last)
                except Exception:  # what the listener has to say, it says to the work itself
                    return


def with_heartbeat(call: Callable[_P, _R]) -> Callable[_P, _R]:
    """A function whose `report` hears of it at least once a second, however long its steps take.

    Called without `report` on a terminal or in a notebook it shows bars; elsewhere, and within another such function, nothing.
    """

    @functools.wraps(call)
    def wrapper(*args: _P.args, **options: _P.kwargs) -> _R:
        with ExitStack() as stack:
            report = options.get("report", silent)
            if "report" not in options and not _within.get() and is_watched():
                report = stack.enter_context(progress_bars())
            stack.callback(_within.reset, _within.set(True))
            if report is not silent and not isinstance(report, Heartbeat) and callable(report):
                options["report"] = stack.enter_context(Heartbeat(report, call.__name__))
            return call(*args, **options)

    return wrapper


class Tracker:
    """Counts the items of one stage and reports at most ten times a second, and once at its end.

    `began`: when the stage began, by time.monotonic, if that is not now.
    """

    def __init__(self, stage: str, total: int | None, report: Report, *, began: float | None = None) -> None:
        self.stage, self.total, self.report = stage, total, report
        self.done = 0
        self._start = time.monotonic() if began is None else began
        self._last = float("-inf")

    def advance(self, items: int = 1) -> None:
        """Count `items` more as done."""
        self.done += items
        now = time.monotonic()
        if now - self._last >= 0.1 or self.done == self.total:
            self._last = now
            self.report(Progress(self.stage, self.done, self.total, self.rate))

    def finish(self) -> None:
        """Count all that is left as done, where less was needed than was announced."""
        if self.total is not None and self.done < self.total:
            self.advance(self.total - self.done)

    def say(self, note: str) -> None:
        """Report a message for the user now."""
        self.report(Progress(self.stage, self.done, self.total, self.rate, note))

    @property
    def rate(self) -> float:
        """Items a second since the stage began."""
        return self.done / max(time.monotonic() - self._start, 1e-9)


@dataclass
class Clock:
    """Seconds spent in each named stage; a stage that is entered twice adds up."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - start
