"""The folder of indexes and caches, and files that are written whole or not at all."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from plada.errors import ResourceError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # of the disk, a quota, or a limit on the size of files


def home_directory(home: str | Path | None = None) -> Path:
    """Folder of indexes, manifests and caches: `home`, else $PLADA_HOME, else the platform's user data folder."""
    if home is not None:
        return Path(home).expanduser().absolute()
    if configured := os.environ.get("PLADA_HOME"):
        return Path(configured).expanduser().absolute()
    import platformdirs  # takes 50 ms, and only without a home of one's own

    return Path(platformdirs.user_data_dir("plada", appauthor=False))


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary neighbour of `path` to write; it takes the name only when its bytes are on disk. Raises
    ResourceError: the disk is full or not writable; nothing is left behind."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open("rb+") as written:
            os.fsync(written.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except OSError as err:
        if err.errno in (*DISK_FULL, errno.EROFS, errno.EACCES):
            raise ResourceError(
                f"{path}: cannot be written ({err.strerror}). Free space or choose another place"
            ) from err
        raise
    finally:
        part.unlink(missing_ok=True)


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
