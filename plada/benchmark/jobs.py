"""One job of a benchmark: a target under a seed, with every method, budget and keep rate that is to be measured."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from plada.benchmark.label_methods import CURVE, KEPT, send_at_keep_rate
from plada.benchmark.messages import DoesNotFit, Outcome
from plada.benchmark.methods import METHODS
from plada.benchmark.rows import Key, Row, RowFile
from plada.benchmark.scenario import Scenario, label_reference
from plada.benchmark.students import StudentPlan, student_accuracy
from plada.common.progress import Report, Tracker, silent
from plada.labeler.teachers import TeacherSpec
from plada.payload.coders.compiled import functions
from plada.retrieval.index import open_index

_COMPILE = 10**9  # steps: enough for the coders' functions to be compiled, or loaded


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchJob:
    """What is measured on one target under one seed. Plain data, so that another process can do it.

    `spec` is how the target is opened, `target` its name.
    """

    index: str
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
    student: StudentPlan
    teacher: TeacherSpec | None = None

    def row_keys(self) -> Iterator[Key]:
        """The keys of all rows, in the order in which they are measured."""
        for budget in (None, *self.budgets):
            for method in self.methods:
                if METHODS[method].once == (budget is None):
                    yield self.target, self.seed, method, budget, None
        for number, keep in enumerate(self.keeps):
            for rule in CURVE if number else KEPT:
                yield self.target, self.seed, rule, None, keep

    @property
    def rows(self) -> RowFile:
        """The file of its rows."""
        return RowFile(self.out, self.target, self.seed)

    def missing(self) -> list[Key]:
        """The keys of rows that are not measured yet."""
        done = {row.key for row in self.rows.read()}
        return [key for key in self.row_keys() if key not in done]


def measure(job: BenchJob, report: Report = silent) -> int:
    """Measure what is missing, row by row; returns the number of new rows."""
    job.rows.mend()
    missing = job.missing()
    if not missing:
        return 0
    if job.pack is not None:
        functions(_COMPILE)

    tracker = Tracker(f"{job.target} {job.seed}", len(missing), report)
    index = open_index(job.index, home=job.index_home)
    labelled = label_reference(index, job.spec, job.seed, home=job.home, teacher=job.teacher, device=job.student.device)
    scenario = Scenario(index, labelled, job.seed, pack=job.pack)
    for key in missing:
        job.rows.append(_row(scenario, job.student, key))
        tracker.advance()
    return len(missing)


def _row(scenario: Scenario, student: StudentPlan, key: Key) -> Row:
    target, seed, method, budget, keep = key
    began = time.monotonic()
    outcome: Outcome
    if keep is not None:
        outcome = send_at_keep_rate(scenario, method, keep)
    else:
        outcome = METHODS[method].send(scenario, budget or 0)
    accuracy = outcome if isinstance(outcome, DoesNotFit) else student_accuracy(scenario, outcome.content, student)
    row = partial(
        Row, target=target, seed=seed, method=method, budget=budget, keep=keep, teacher=scenario.teacher_accuracy,
        seconds=round(time.monotonic() - began, 3),
    )  # fmt: skip
    if isinstance(accuracy, DoesNotFit):
        return row(bytes=accuracy.needs, images=0, accuracy=None, note=accuracy.note)
    assert not isinstance(outcome, DoesNotFit)
    return row(bytes=outcome.size, images=len(outcome.content), accuracy=accuracy, detail=dict(outcome.detail))
