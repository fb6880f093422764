"""Standard output in pipes and scripts: a reader that leaves early, a full disk, no output at all."""

import contextlib
import errno
import os
import select
import sys
import traceback
from collections.abc import Callable
from types import TracebackType

from plada.common.text import visible
from plada.errors import ResourceError

READER_LEFT = 141  # what shells report of any program whose reader has left (128 + SIGPIPE)
_FULL = (errno.ENOSPC, errno.EDQUOT)


def run_command(command: Callable[[], None]) -> int:
    """Run `command`, bring what it printed to its reader, and return the exit status.

    If the reader leaves (`plada datasets | head`), the command ends without a word. Signals stay as they are: with the
    default for SIGPIPE a worker process that dies would take this one with it.
    """
    _open_missing()
    sys.excepthook = _print_traceback
    copies = [os.dup(stream.fileno()) for stream in (sys.stdout, sys.stderr)]  # Rich replaces those that broke
    try:
        status = _status(command)
        status = _flush() or status
        return READER_LEFT if status in (1, READER_LEFT) and any(map(_broken, copies)) else status
    finally:
        for descriptor in copies:
            os.close(descriptor)


def _print_traceback(kind: type[BaseException], err: BaseException, trace: TracebackType | None) -> None:
    """Like Python's own, with what the message of an error holds made visible."""
    for line in "".join(traceback.format_exception(kind, err, trace)).splitlines():
        print(visible(line), file=sys.stderr)


def reader_left() -> bool:
    """Whether nobody reads standard output or standard error any more."""
    try:
        return any(_broken(stream.fileno()) for stream in (sys.stdout, sys.stderr))
    except (AttributeError, OSError):  # replaced by something that is no file, as a test does
        return False


def _status(command: Callable[[], None]) -> int:
    try:
        command()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except OSError as err:  # of what is printed outside a command, such as the version
        if err.errno not in _FULL:
            raise
        return _print_failure(err)
    return 0


def _flush() -> int:
    """Write out what was printed; returns 0, or the exit status of the failure, after which nothing is left to write."""
    try:
        sys.stdout.flush()
        return 0
    except OSError as err:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
        return READER_LEFT if isinstance(err, BrokenPipeError) else _print_failure(err)


def _print_failure(err: OSError) -> int:
    with contextlib.suppress(OSError):
        print(f"plada: standard output: {err.strerror}; not all of it was written", file=sys.stderr)
    return ResourceError.exit_code


def _broken(descriptor: int) -> bool:
    """Whether a descriptor is the end of a pipe that nobody reads; always False where this cannot be asked."""
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(descriptor, 0)  # an error is reported always
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _open_missing() -> None:
    """Closed standard streams (`>&-`) lead to nowhere, so that no file of ours gets their numbers; names that a
    stream's encoding lacks are written escaped."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        if hasattr(getattr(sys, name), "reconfigure"):
            getattr(sys, name).reconfigure(errors="backslashreplace")
