"""The builds of an index: each has a table of its own, which stays until no reader holds it.

A reader holds a build with a shared lock on the folder of its table; it goes with the process. A build that index.json no
longer names is removed when nobody holds it. Where there are no such locks (Windows), a reader whose table is removed gets
an error, never other rows: no table is ever made again under the same name.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plada.errors import ReferenceMismatch
from plada.indexer.store import TABLE, Store

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class BuildHold:
    """Keeps the table at `path` from being removed, for as long as this object lives; `held` says whether it does."""

    __slots__ = ("_handle", "held")

    def __init__(self, path: Path | None, *, alone: bool = False) -> None:
        self._handle, self.held = -1, False
        if path is None or fcntl is None:
            return
        with contextlib.suppress(OSError):
            self._handle = os.open(path, os.O_RDONLY)
            fcntl.flock(self._handle, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            self.held = True

    def release(self) -> None:
        """Let go of the table."""
        handle, self._handle, self.held = self._handle, -1, False
        if handle >= 0:
            os.close(handle)

    def __del__(self) -> None:
        self.release()

    def __reduce__(self) -> tuple[Any, ...]:
        return BuildHold, (None,)  # a handle means nothing in another process


def table_of(info: Mapping[str, Any]) -> str:
    """Name of the table that an index.json (or building.json) describes."""
    return str(info.get("table", TABLE))


def open_build(folder: Path) -> tuple[dict[str, Any], BuildHold] | None:
    """What index.json of a folder says, and a hold on the build that it names; None where there is no finished index."""
    store = Store(folder)
    info = store.info()
    while info is not None:
        hold = BuildHold(Store(folder, table_of(info)).table_path)
        # Only what index.json does not name is removed: if it still names this build, the hold came in time.
        again = store.info()
        if again is not None and table_of(again) == table_of(info):
            return again, hold
        info = again
    return None


def next_build(store: Store, *, restart: bool = False, keep_finished: bool = False) -> Store:
    """The store of the unfinished build that is here, or of a new one; old builds that nobody holds are removed.

    With `restart` the unfinished index is given up first, and unless `keep_finished` the finished one. The caller holds the lock.

    Raises:
        ReferenceMismatch: rows are here that neither index.json nor building.json describes.
    """
    if restart:
        store.plan_path.unlink(missing_ok=True)
    if restart and not keep_finished:
        store.info_path.unlink(missing_ok=True)
        shutil.rmtree(store.folder / "ann", ignore_errors=True)
    info, unfinished = store.info(), store.unfinished()
    if info is not None and unfinished is not None and table_of(info) == table_of(unfinished):
        store.plan_path.unlink(missing_ok=True)  # what a kill has left at the very end
        unfinished = None
    named = {table_of(said) for said in (info, unfinished) if said is not None}
    if not named and not restart:
        lost = [path.stem for path in _tables(store) if Store(store.folder, path.stem).rows()]
        if lost:
            raise ReferenceMismatch(
                f"{store.folder}: the rows of {lost[0]} are here and no index.json that describes them. Restore it, or "
                "throw them away with --restart"
            )
    sweep(store, named)
    table = table_of(unfinished) if unfinished is not None else f"{TABLE}-{secrets.token_hex(8)}"
    return Store(store.folder, table)


def sweep(store: Store, named: set[str]) -> None:
    """Remove the tables that are not `named` and that nobody holds."""
    for path in _tables(store):
        if path.stem in named:
            continue
        hold = BuildHold(path, alone=True)
        if hold.held or fcntl is None:
            shutil.rmtree(path, ignore_errors=True)
        hold.release()


def _tables(store: Store) -> list[Path]:
    return sorted(store.folder.glob(f"{TABLE}*.lance"))
