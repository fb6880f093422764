"""Places that a call is to write to: tried before work begins, locked while it goes on, and filled whole or not at all."""

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from plada.errors import RequestError, ResourceError

# Of the disk, a quota, a limit on the size of files or on their number; a place that may not be written.
_RESOURCES = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE,
)  # fmt: skip
# Of a path that names no file, or cannot.
_REQUESTS = (errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.EEXIST, errno.ENOTEMPTY)


def raise_output_error(path: Path, err: OSError) -> NoReturn:
    """Say that an output could not be written.

    Raises:
        ResourceError: the disk is full or not writable. RequestError: the path cannot be one. OSError: `err` itself, where it says
            nothing about the place.
    """
    if err.errno in _RESOURCES:
        raise ResourceError(f"{path}: cannot be written ({err.strerror}). Free space or choose another place") from err
    if err.errno in _REQUESTS:
        raise RequestError(f"{path}: cannot be made ({err.strerror}). Name another place") from err
    raise err


def refuse_what_is_no_file(path: Path, *, links: bool = False) -> None:
    """Refuse to put a file in the place of a folder, a device or a pipe; with `links`, in that of a link.

    Raises:
        RequestError: something else than a file is there, or nothing can be.
    """
    try:
        mode = path.lstat().st_mode
        if links and stat.S_ISLNK(mode):
            raise RequestError(
                f"{path}: is a link; expected a file, or nothing. Name the file that it leads to, or another"
            )
        if stat.S_ISLNK(mode):
            mode = path.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as err:
        raise_output_error(path, err)
    except ValueError as err:  # a null character
        raise RequestError(f"{str(path)!r}: is no path ({err}). Name another") from err
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a device"
        raise RequestError(f"{path}: is {kind}; expected a file, or nothing. Name another")


def check_outputs(*paths: str | Path | None) -> None:
    """Try files that are to be written, before any work: nothing is left behind. None stands for no file.

    Raises:
        RequestError: one is a link, a folder, a device or a pipe, or cannot be made; two are the same.
        ResourceError: the disk is full or not writable.
    """
    named = [Path(path) for path in paths if path is not None]
    for path in named:
        refuse_what_is_no_file(path, links=True)
        _try_folder_of(path)
    places = [path.absolute() for path in named]
    twice = next((path for path in places if places.count(path) > 1), None)
    if twice is not None:
        raise RequestError(f"{twice}: is named for two outputs. Name another for one of them")


def check_output_folder(path: str | Path) -> None:
    """Try a folder that files are to be written into, likewise; it may be there already.

    Raises:
        RequestError: something else is there, or it cannot be made. ResourceError: the disk is full or not writable.
    """
    _try_folder_of(Path(path) / "file")


def check_new_folder(path: str | Path) -> None:
    """Try a folder that is to be made, likewise.

    Raises:
        RequestError: it is there already, or cannot be made. ResourceError: the disk is full or not writable.
    """
    if os.path.lexists(path):
        raise RequestError(f"{path}: already there. Name a folder that does not exist yet")
    _try_folder_of(Path(path))


def _try_folder_of(path: Path) -> None:
    """Make and remove a file in the folder of `path`, or in the nearest one above that is there."""
    above = path.absolute().parent
    try:
        while not os.path.lexists(above):
            above = above.parent
        if not above.is_dir():
            raise RequestError(f"{path}: cannot be made, since {above} is no folder. Name another place")
        # Without a buffer: what is left in one is written again when the file is closed, which fails before it is removed.
        with tempfile.NamedTemporaryFile(dir=above, prefix=".plada-", suffix=".part", buffering=0) as file:
            file.write(b"\0")
    except FileNotFoundError as err:  # a file system that makes no files
        raise RequestError(f"{path}: cannot be made ({err.strerror}). Name another place") from err
    except OSError as err:
        raise_output_error(path, err)
    except ValueError as err:
        raise RequestError(f"{str(path)!r}: is no path ({err}). Name another") from err


@contextmanager
def locked(path: Path | None) -> Iterator[None]:
    """Keep `path` to this process while it makes it, by a file beside it that goes with the process, however it ends. None locks
    nothing.

    Raises:
        ResourceError: another process makes it, or the lock cannot be made.
    """
    try:
        import fcntl  # not on every platform
    except ImportError:
        path = None
    if path is None:
        yield
        return
    place = path.with_name(f".{path.name}.lock")
    handle = -1
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while handle < 0:
            handle = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.lexists(place) or place.stat().st_ino != os.fstat(handle).st_ino:
                os.close(handle)  # the process that held it has removed it meanwhile
                handle = -1
    except BlockingIOError as err:
        os.close(handle)
        raise ResourceError(
            f"{path}: is being made by another process. Wait until it ends, or name another place"
        ) from err
    except OSError as err:
        if handle >= 0:
            os.close(handle)
        raise_output_error(path, err)
    try:
        yield
    finally:
        with suppress(OSError):
            place.unlink()
        os.close(handle)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a folder to fill; it takes the name `path` at the end, and is removed where something fails.

    Raises:
        RequestError: `path` is there already, or cannot be made. ResourceError: the disk is full or not writable; another process
            makes it.
    """
    with locked(path):
        check_new_folder(path)
        try:
            part = Path(tempfile.mkdtemp(prefix=f"{path.name}.", suffix=".part", dir=path.parent))
        except OSError as err:
            raise_output_error(path, err)
        try:
            part.chmod(0o777 & ~_umask())
            yield part
            part.rename(path)
        except OSError as err:
            raise_output_error(path, err)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _umask() -> int:
    """The bits that the user wants no new file to have; they can be read only by setting them."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
