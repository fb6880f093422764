"""The folder of indexes and caches, and files that are written whole or not at all."""

import errno
import glob
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from plada.common.outputs import raise_output_error, refuse_what_is_no_file
from plada.errors import RequestError

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # of the disk, a quota, or a limit on the size of files


def local_place(place: str | Path) -> str:
    """A path as it is, the path of a file:// URL, or any other text as it is."""
    text = str(place)
    url = urlparse(text) if text.startswith("file:") and "://" in text else None
    return unquote(url.path) if url is not None else text


def last_name(path: Path) -> str:
    """The last part of a path, also of `.` and `..`; links are not followed."""
    return Path(os.path.abspath(path)).name  # noqa: PTH100 - resolve() would follow them


def home_directory(home: str | Path | None = None) -> Path:
    """Folder of indexes, manifests and caches: `home`, else $PLADA_HOME, else the platform's user data folder.

    Raises:
        RequestError: it is a URL.
    """
    configured = home if home is not None else os.environ.get("PLADA_HOME") or None
    if configured is not None:
        place = local_place(configured)
        if re.match(r"[a-z][a-z0-9+]+:/", place):  # a Path has lost one of the two slashes
            raise RequestError(
                f"home {place}: expected a folder on a disk, not a URL. What is at a URL is read by --index URL"
            )
        return Path(place).expanduser().absolute()
    import platformdirs  # takes 50 ms, and only without a home of one's own

    return Path(platformdirs.user_data_dir("plada", appauthor=False))


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary neighbour of `path` to write; it takes the name only when its bytes are on disk.

    Raises:
        RequestError: a folder, a device or a pipe is there, or no file can be. ResourceError: the disk is full or not
            writable. Nothing is left behind.
    """
    refuse_what_is_no_file(path)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_dead_parts(path)
        yield part
        with part.open("rb+") as written:
            os.fsync(written.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except OSError as err:
        raise_output_error(path, err)
    finally:
        with suppress(OSError):  # a disk that cannot be written holds nothing to remove
            part.unlink(missing_ok=True)


def remove_dead_parts(path: Path, *, idle: float = 3600.0) -> None:
    """Remove the unfinished files of `path` whose writers were killed, and that nobody has touched for `idle` seconds: on a
    shared disk a writer may be a process of another machine."""
    for part in path.parent.glob(f"{glob.escape(path.name)}.*.part"):
        number = part.name.removesuffix(".part").rpartition(".")[2]
        if number.isascii() and number.isdigit() and not _is_running(int(number)):
            with suppress(OSError):
                if time.time() - part.stat().st_mtime >= idle:
                    part.unlink()


def _is_running(number: int) -> bool:
    """Whether there is a process of this number here."""
    if os.name != "posix":
        return True  # there a signal of 0 would end it
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is another user's
        return True
    return True


@contextmanager
def one_writer(path: Path) -> Iterator[bool]:
    """Wait until no other process of this machine makes `path`; whether it was made meanwhile. For files whose unfinished part
    has one name, so that a run that was stopped resumes from it."""
    before = _stamp(path)
    if fcntl is None:  # not on Windows
        yield False
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f"{path.name}.lock")
    while True:
        file = lock.open("w")
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if _stamp(lock) == _stamp_of(os.fstat(file.fileno())):
            break
        file.close()  # who held it has removed it
    try:
        yield before != _stamp(path)
    finally:
        lock.unlink(missing_ok=True)
        file.close()


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        return _stamp_of(path.stat())
    except OSError:
        return None


def _stamp_of(found: os.stat_result) -> tuple[int, int]:
    return found.st_mtime_ns, found.st_ino


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the platform lets a folder be opened."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with whole_file(path) as part:
        part.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented, key-sorted JSON: the same value gives the same bytes."""
    write_bytes(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())
