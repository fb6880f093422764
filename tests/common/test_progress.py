"""Progress: work that says nothing for long is heard all the same."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from plada.common import bars as bars_module
from plada.common import progress
from plada.common.progress import Progress, Report, Tracker, silent, with_heartbeat


@with_heartbeat
def work(steps: int, *, seconds: float, report: Report = silent) -> int:
    tracker = Tracker("sorting", steps, report)
    for _ in range(steps):
        time.sleep(seconds)
        tracker.advance()
    time.sleep(seconds)
    return steps


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_SILENCE", 0.02)


def test_a_long_step_is_heard_while_it_lasts() -> None:
    heard: list[Progress] = []
    assert work(2, seconds=0.2, report=heard.append) == 2
    stages = [(event.stage, event.done) for event in heard]
    assert stages[0] == ("work", 0), "before the first stage the call itself is named"
    assert stages.count(("sorting", 1)) > 1
    assert stages[-1] == ("after sorting", 0), "what has ended is not said to go on"
    assert not any(thread.name == "plada heartbeat" for thread in threading.enumerate())


def test_messages_are_not_repeated() -> None:
    heard: list[Progress] = []

    @with_heartbeat
    def speak(*, report: Report = silent) -> None:
        Tracker("choose", None, report).say("trying herd")
        time.sleep(0.2)

    speak(report=heard.append)
    assert [event.note for event in heard if event.note] == ["trying herd"]
    assert len(heard) > 2


def test_quick_work_and_work_within_work_are_heard_once() -> None:
    heard: list[Progress] = []

    @with_heartbeat
    def outer(*, report: Report = silent) -> int:
        return work(3, seconds=0, report=report)

    outer(report=heard.append)
    assert {event.stage for event in heard} == {"sorting"}


def test_nobody_listens_nobody_speaks() -> None:
    before = threading.active_count()
    seen: list[int] = []

    @with_heartbeat
    def count(*, report: Report = silent) -> None:
        seen.append(threading.active_count())

    count()
    assert seen == [before]


def test_a_listener_that_fails_stops_the_work_at_its_next_step() -> None:
    def fails(_: Progress) -> None:
        raise RuntimeError("the listener's own")

    with pytest.raises(RuntimeError, match="own"):
        work(1, seconds=0.1, report=fails)


def test_calls_show_bars_where_a_person_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal, or in a notebook; a call within another is silent, and so is one that is told to be."""
    shown: list[str] = []

    @contextmanager
    def bars() -> Iterator[Report]:
        yield lambda event: shown.append(event.stage)

    monkeypatch.setattr(progress, "progress_bars", bars)

    @progress.with_heartbeat
    def inner(*, report: Report = progress.silent) -> None:
        progress.Tracker("inner", 1, report).advance()

    @progress.with_heartbeat
    def outer(*, report: Report = progress.silent) -> None:
        inner()
        progress.Tracker("outer", 1, report).advance()

    outer()
    assert shown == []  # the tests run without a terminal
    monkeypatch.setattr(progress, "is_watched", lambda: True)
    outer()
    assert shown == ["outer"]
    outer(report=progress.silent)
    assert shown == ["outer"]


def test_bars_are_drawn() -> None:
    with bars_module.progress_bars() as report:
        progress.Tracker("listing", 2, report).advance(2)
        progress.Tracker("listing", None, report).say("[red]a note[/red]")
    assert not bars_module.in_notebook()
