"""The command as shells and scripts meet it: real processes with pipes, terminals, closed and full outputs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import plada
from plada.cli import app
from plada.commands.console import pipes as streams

pty = pytest.importorskip("pty", reason="no terminals of its own on this system")

PLADA = [sys.executable, "-m", "plada"]
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7])(?:;\d+)*m")


def bare() -> dict[str, str]:
    """The environment without what says how to show things."""
    return {name: value for name, value in os.environ.items() if not name.endswith("_COLOR") and name != "TERM"}


def run(*arguments: str | Path, **options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*PLADA, *map(str, arguments)], capture_output=True, text=True, env={**bare(), **options}, timeout=6000
    )


def in_shell(line: str) -> "subprocess.CompletedProcess[str]":
    """A line of bash with `plada` in it; the exit status is that of the first command that failed."""
    command = line.replace("plada", f"'{sys.executable}' -m plada", 1)
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, env=bare(), timeout=6000
    )


def on_a_terminal(*arguments: str | Path, **options: str) -> str:
    """What a terminal is shown, standard output and standard error together."""
    ours, its = pty.openpty()
    process = subprocess.Popen(
        [*PLADA, *map(str, arguments)], stdin=its, stdout=its, stderr=its, env={**bare(), "TERM": "xterm-256color", **options}
    )  # fmt: skip
    os.close(its)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux ends a terminal nobody writes to any more with an error
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert process.wait(timeout=600) == 0
    return shown.decode()


def test_the_version_is_one_line() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"plada {plada.__version__}\n", "")


def test_results_go_to_standard_output_and_progress_to_standard_error(pictures: Path) -> None:
    done = run("index", pictures, "--name", "p", "--encoder", "gradients", "--workers", "0")
    assert done.returncode == 0, done.stderr
    assert "index p" in done.stdout
    assert "24" in done.stdout
    lines = done.stderr.splitlines()
    assert lines
    for line in lines:
        assert re.fullmatch(r"[a-z ]+: (\d+( of \d+)?, \d+/s(, \d+ s left)?|still working|starting)", line), line
    for stream in (done.stdout, done.stderr):
        assert "\x1b" not in stream
        assert "\r" not in stream


def test_quiet_leaves_the_results(pictures: Path) -> None:
    done = run("index", pictures, "--name", "p", "--encoder", "gradients", "--workers", "0", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    assert "index p" in done.stdout
    again = run("index", pictures, "--name", "p", "--encoder", "gradients", "--workers", "0", "-q", "--json")
    (line,) = again.stdout.splitlines()
    assert json.loads(line)["type"] == "summary"


@pytest.mark.parametrize(
    "command", sorted(c.name or str(c.callback.__name__) for c in app.registered_commands if c.callback)
)
def test_every_command_can_be_hushed_and_speaks_json(command: str) -> None:
    callback = next(
        c.callback for c in app.registered_commands if c.callback and command in (c.name, c.callback.__name__)
    )
    assert {"quiet", "as_json"} <= set(callback.__annotations__)


def unread(*arguments: str | Path) -> tuple[int, str]:
    """Exit status and standard error of a command whose reader has left before it prints."""
    ours, its = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [*PLADA, *map(str, arguments)], stdout=its, stderr=subprocess.PIPE, text=True, env=bare(), timeout=6000
    )
    os.close(its)
    return done.returncode, done.stderr


@pytest.mark.parametrize("command", ["datasets", "datasets --json", "select --help", "--version", "no-such"])
def test_a_reader_that_has_left_ends_it_quietly(command: str) -> None:
    status, said = unread(*command.split())
    if "no-such" in command:  # a failure is told where it always is
        assert status == 2
        assert "No such" in said
    else:
        assert (status, said) == (streams.READER_LEFT, "")


def test_head_takes_what_it_wants() -> None:
    done = in_shell("plada datasets --json | head -c 10")
    assert done.returncode in (0, streams.READER_LEFT)  # all of it may be in the pipe before head leaves
    assert (done.stdout, done.stderr) == ('{"type": "', "")


def test_a_reader_that_stays_gets_everything() -> None:
    done = in_shell("plada datasets --json | cat")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["type"] == "summary"


def test_a_reader_of_progress_that_leaves_ends_it_too(pictures: Path) -> None:
    done = in_shell(f"plada index '{pictures}' --name p --encoder gradients --workers 0 2>&1 >/dev/null | true")
    assert done.returncode in (0, streams.READER_LEFT)  # the index may be finished before the first line of progress
    assert done.stderr == ""


def test_a_failure_keeps_its_exit_status_in_a_pipe() -> None:
    done = in_shell("plada datasets no-such-set | head -1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("plada: ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize("command", ["--version", "datasets --json", "datasets"])
def test_a_full_disk_is_said(command: str) -> None:
    done = in_shell(f"plada {command} > /dev/full")
    assert done.returncode == 7
    (line,) = done.stderr.splitlines()
    assert line.startswith(("plada: ", '{"type": "error", "code": 7,'))
    assert "No space left on device" in line


def test_without_any_output_it_still_works(pictures: Path, tmp_path: Path) -> None:
    done = in_shell(f"plada index '{pictures}' --name p --encoder gradients --workers 0 <&- >&- 2>&-")
    assert done.returncode == 0
    made = run("search", "position:3", "-k", "1", "--json")
    assert [hit["position"] for hit in json.loads(made.stdout.splitlines()[-1])["hits"]] == [3]


def test_names_that_an_output_cannot_encode_are_escaped(pictures: Path, tmp_path: Path) -> None:
    folder = pictures / "bär"
    folder.mkdir()
    (pictures / "n0" / "image_00.png").rename(folder / "öl.png")
    assert run("index", pictures, "--name", "p", "--encoder", "gradients", "-q", "--workers", "0").returncode == 0
    done = run("search", "position:0", "-k", "24", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "b\\xe4r/\\xf6l" in done.stdout


def test_colours_are_for_terminals_that_want_them() -> None:
    for command in (["datasets", "--help"], ["datasets"]):
        assert not COLOUR.search(on_a_terminal(*command, NO_COLOR="1"))
        assert "\x1b" not in run(*command).stdout
    assert "\x1b[1m" in on_a_terminal("datasets")


def test_bars_on_a_terminal_without_colour(pictures: Path) -> None:
    shown = on_a_terminal(
        "index", pictures, "--name", "p", "--encoder", "gradients", "--workers", "0", NO_COLOR="1", COLUMNS="100"
    )
    assert "━" in shown
    assert "index p" in shown
    assert not COLOUR.search(shown)


def test_a_pipe_of_our_own_that_breaks_is_not_taken_for_a_reader_that_left() -> None:
    code = """
import plada
from plada import cli
def fail(*_, **__):
    raise BrokenPipeError(32, "Broken pipe")
plada.datasets = fail
import sys
sys.argv = ["plada", "datasets"]
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=bare())
    assert done.returncode == 1
    assert "RuntimeError: datasets: a pipe between plada's own processes broke" in done.stderr


def test_exit_statuses_of_what_runs() -> None:
    def leave(code: object) -> None:
        raise SystemExit(code)

    assert streams._status(lambda: None) == 0
    assert [streams._status(lambda code=code: leave(code)) for code in (None, 0, 4, "text")] == [0, 0, 4, 1]  # type: ignore[misc]
