"""One unit of a benchmark: a target under a seed, every method, budget and keep rate that is not measured yet."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from plada.benchmark.course import Course
from plada.benchmark.labels import CURVE, KEPT, at_keep_rate
from plada.benchmark.methods import METHODS
from plada.benchmark.rows import Key, Lines, Row
from plada.benchmark.sent import Answer, Sent, Unfit
from plada.benchmark.students import Students, score
from plada.common.progress import Report, Tracker, silent
from plada.payload.coders.compiled import functions
from plada.retrieval.index import open_index

_COMPILE = 10**9  # steps: enough for the coders' functions to be compiled, or loaded
_PARENT_SECONDS = 0.5  # how often a worker looks whether its parent still lives


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What is measured: `spec` names the target called `target`. Plain data, so that another process can do it."""

    index: Path
    index_home: Path
    spec: str
    target: str
    seed: int
    home: Path
    out: Path
    pack: Path | None
    budgets: tuple[int, ...]
    keeps: tuple[float, ...]
    methods: tuple[str, ...]
    students: Students

    def cells(self) -> Iterator[Key]:
        """The keys of all rows, in the order in which they are measured."""
        for budget in (None, *self.budgets):
            for method in self.methods:
                if METHODS[method].once == (budget is None):
                    yield self.target, self.seed, method, budget, None
        for number, keep in enumerate(self.keeps):
            for rule in CURVE if number else KEPT:
                yield self.target, self.seed, rule, None, keep


def measure(unit: Unit, report: Report = silent) -> int:
    """Measure what is missing, row by row; returns the number of new rows."""
    lines = Lines(unit.out, unit.target, unit.seed)
    done = {row.key for row in lines.read(mend=True)}
    missing = [key for key in unit.cells() if key not in done]
    if not missing:
        return 0
    if unit.pack is not None:
        functions(_COMPILE)

    tracker = Tracker(f"{unit.target} {unit.seed}", len(missing), report)
    index = open_index(unit.index, home=unit.index_home)
    course = Course(index, unit.spec, unit.seed, home=unit.home, pack=unit.pack)
    for key in missing:
        lines.append(_row(course, unit, key))
        tracker.advance()
    return len(missing)


def _row(course: Course, unit: Unit, key: Key) -> Row:
    target, seed, method, budget, keep = key
    began = time.monotonic()
    answer: Answer = (
        at_keep_rate(course, method, keep) if keep is not None else METHODS[method].ask(course, budget or 0)
    )
    found = score(course, answer.what, unit.students) if isinstance(answer, Sent) else answer
    row = partial(
        Row, target=target, seed=seed, method=method, budget=budget, keep=keep, teacher=course.teacher,
        seconds=round(time.monotonic() - began, 3),
    )  # fmt: skip
    if isinstance(found, Unfit):
        return row(bytes=found.needs, images=0, accuracy=None, note=found.note)
    assert isinstance(answer, Sent)
    return row(bytes=answer.size, images=len(answer.what), accuracy=found, detail=dict(answer.detail))


def start_worker(parent: int) -> None:
    """Of a worker process: leave Ctrl-C to the parent, and go when the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
