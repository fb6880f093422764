"""What a person or a program sees while work goes on."""

import json
import re

import numpy as np
import pytest

from plada.commands.console.output import print_json, print_table, reporter
from plada.common.progress import Progress

EVENTS = [Progress("embed", 10, 100, 5.0), Progress("embed", 100, 100, 5.0), Progress("hash", 3, None, 1.0)]


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with reporter(as_json=True) as report:
        for event in EVENTS:
            report(event)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [{"type": "progress", "stage": "embed", "done": 100, "total": 100, "rate": 5.0}]


def test_a_long_stage_is_told_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([0.0, 0.5, 1.2, 1.3, 2.5])
    monkeypatch.setattr("plada.commands.console.output.time.monotonic", lambda: next(seconds))
    with reporter(as_json=True) as report:
        for done in (1, 5, 9, 2, 6):
            report(Progress("read", done, 10, 5.0))
    assert [json.loads(line)["done"] for line in capsys.readouterr().out.splitlines()] == [9, 6]


def test_the_first_line_comes_soon_and_others_before_five_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    times = [number / 10 for number in range(101)]
    seconds = iter(times)
    monkeypatch.setattr("plada.commands.console.output.time.monotonic", lambda: next(seconds))
    told = [0.0]
    with reporter(as_json=False) as report:
        for now in times:
            report(Progress("teacher: penalty", 0, 35, 0.0))
            if capsys.readouterr().err:
                told.append(now)
    assert 0 < told[1] < 2
    assert max(np.diff([*told, times[-1]])) < 5


def test_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with reporter(as_json=False) as report:
        for event in EVENTS:
            report(event)
    seen = capsys.readouterr()
    assert seen.out == ""
    assert seen.err.splitlines() == ["embed: 100 of 100, 5/s"]


def test_a_stage_that_counts_nothing_says_that_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = iter(np.arange(0, 40, 4.0).tolist())
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    with reporter(as_json=False) as report:
        for _ in range(4):
            report(Progress("choose", 0, None, 0.0))
    assert set(capsys.readouterr().err.splitlines()) == {"choose: still working"}


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with reporter(as_json=False, quiet=True) as report:
        report(EVENTS[1])
    assert capsys.readouterr() == ("", "")


def test_bars_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with reporter(as_json=False) as report:
        for event in [*EVENTS, EVENTS[0]]:
            report(event)
    assert "embed" in capsys.readouterr().err


def test_names_are_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([["[red]class[/red]", "x" * 150]], head=("name", "value"), title="t")
    shown = capsys.readouterr().out
    assert "[red]class[/red]" in shown
    assert "x" * 150 in shown


def test_what_is_left_is_told_where_it_can_be(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([0.0, 10.0, 20.0, 30.0])
    monkeypatch.setattr("plada.commands.console.output.time.monotonic", lambda: next(seconds))
    with reporter(as_json=False) as report:
        report(Progress("embed", 10, 100, 5.0))  # the first of a stage only starts its clock
        report(Progress("embed", 50, 100, 5.0))
        report(Progress("embed", 60, None, 0.0))
        report(Progress("embed", 100, 100, 8.0))
    assert capsys.readouterr().err.splitlines() == [
        "embed: 50 of 100, 5/s, 10 s left", "embed: 60, 0/s", "embed: 100 of 100, 8/s",
    ]  # fmt: skip


def test_notes_are_told_at_once_in_every_way(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = Progress("train", 3, 10, 2.0, note="goes on after step [3]")
    with reporter(as_json=False) as report:
        report(noted)
    assert capsys.readouterr().err == "train: goes on after step [3]\n"
    with reporter(as_json=True) as report:
        report(noted)
    assert json.loads(capsys.readouterr().out)["note"] == "goes on after step [3]"
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with reporter(as_json=False) as report:
        report(noted)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)  # without colours
    assert "train: goes on after step [3]" in shown


def test_json_has_no_numbers_that_json_has_not() -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        print_json("summary", {"accuracy": float("nan")})
