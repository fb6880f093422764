"""Progress of long work: a stream of events that the caller may show, log or ignore."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


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


def silent_beat() -> None:
    """What long work calls now and then, by default."""


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

    def beat(self) -> None:
        """Report again what is done, within an item that takes long."""
        self.advance(0)

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
