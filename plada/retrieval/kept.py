"""What a home keeps: indexes, pulled payloads, packs, manifests and caches, with their sizes; and how they are removed.

Nothing is ever half removed: a folder or file first takes a name in trash/, where no command looks, and is then deleted.
"""

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plada.common.checksums import Damaged, read_sealed_json, write_sealed_json
from plada.common.outputs import raise_output_error
from plada.common.summary import Summary
from plada.errors import PladaError, RequestError, ResourceError, UnknownName
from plada.indexer.builds import BuildHold, table_of
from plada.indexer.parts import PARTS
from plada.indexer.store import Store, check_index_name

KINDS = ("index", "payload", "pack", "manifest")
_TRASH = "trash"
_YOUNG = 3600.0  # seconds in which an unfinished file may still be written by a running process


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptItem(Summary):
    """Something that a home keeps.

    `kind` is index, payload, pack or manifest; `bytes` what it takes on the disk; `images` None where that is not known.
    `problem` says why it is not complete, and is "" for a complete one.
    """

    kind: str
    name: str
    path: str
    bytes: int
    images: int | None = None
    encoder: str = ""
    problem: str = ""

    @property
    def complete(self) -> bool:
        """Whether it can be used."""
        return not self.problem

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON has it."""
        return {**Summary.to_dict(self), "complete": self.complete}


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheFolder(Summary):
    """A cache: what it holds, its files and bytes, and how many bytes were freed by pruning."""

    name: str
    path: str
    files: int
    bytes: int
    freed: int = 0


def list_kept(home: Path, kind: str) -> list[KeptItem]:
    """All of a kind, damaged and unfinished ones too, by name."""
    if kind == "index":
        return [_index(path) for path in _below(home / "indexes", "*") if path.is_dir()]
    if kind == "payload":
        return [
            _file(kind, f"{path.parent.name}/{path.stem}", path) for path in _below(home / "catalogues", "*/*.plada")
        ]
    if kind == "pack":
        return [_file(kind, path.stem, path) for path in _below(home / "packs", "*.pack")]
    if kind == "manifest":
        return [_manifest(path) for path in _below(home / "references", "*") if path.is_dir()]
    raise UnknownName("kind", kind, KINDS)


def find_item(home: Path, name: str, kind: str) -> KeptItem:
    """The one of that name. Raises UnknownName: there is none."""
    listed = {item.name: item for item in list_kept(home, kind)}
    if name not in listed:
        raise UnknownName(kind, name, listed)
    return listed[name]


def remove_item(home: Path, name: str, kind: str) -> KeptItem:
    """Remove one; it is gone at once or stays whole.

    Raises:
        UnknownName: There is none. RequestError: It belongs to a catalogue. ResourceError: Another process uses it.
    """
    item = find_item(home, name, kind)
    if kind == "payload":
        raise RequestError(
            f"payload {name}: belongs to a catalogue, which would fetch it again. Delete {item.path} yourself"
        )
    with _alone(item):
        thrown = _throw_away(home, Path(item.path))
    _delete(thrown)
    return item


def rename_index(home: Path, name: str, new: str) -> KeptItem:
    """Give an index another name.

    Raises:
        UnknownName: There is no such index. RequestError: The new name is taken, or not a plain one; the index is damaged or
            unfinished. ResourceError: Another process uses it.
    """
    item = find_item(home, name, "index")
    check_index_name(new)
    if item.problem:
        raise RequestError(f"index {name}: {item.problem}. Only a complete index can be renamed")
    place = home / "indexes" / new
    if os.path.lexists(place):
        raise RequestError(f"index {new}: already there. Choose another name, or remove it: plada indexes remove {new}")
    with _alone(item):
        try:
            store = Store(Path(item.path))
            info = {key: value for key, value in (store.info() or {}).items() if key != "digest"}
            Path(item.path).rename(place)
            write_sealed_json(Store(place).info_path, {**info, "name": new})
        except OSError as err:
            raise_output_error(place, err)
    return find_item(home, new, "index")


def list_caches(home: Path, *, prune: bool = False) -> list[CacheFolder]:
    """The caches and their sizes; with `prune` their files are deleted, apart from those that may still be being written."""
    folders = [*(path for path in _below(home / "cache", "*") if path.is_dir()), home / _TRASH]
    return [_cache(path, prune=prune) for path in folders if path.is_dir()]


def _cache(folder: Path, *, prune: bool) -> CacheFolder:
    files = bytes_there = freed = 0
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        with suppress(OSError):
            found = path.lstat()
            files, bytes_there = files + 1, bytes_there + found.st_size
            unfinished = path.name.endswith((".part", ".lock")) and time.time() - found.st_mtime < _YOUNG
            if prune and not unfinished:
                path.unlink()
                freed += found.st_size
    if prune and folder.name == _TRASH:
        shutil.rmtree(folder, ignore_errors=True)
    return CacheFolder(name=folder.name, path=str(folder), files=files, bytes=bytes_there, freed=freed)


def _below(folder: Path, pattern: str) -> list[Path]:
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith(".")) if folder.is_dir() else []


def _index(folder: Path) -> KeptItem:
    problem, info = "", None
    try:
        info = Store(folder).info()
        if info is None:
            unfinished = Store(folder).plan_path.exists() or (folder / PARTS).exists()
            problem = "not finished: run the same `plada index` again" if unfinished else "holds no index.json"
        elif not Store(folder, table_of(info)).table_path.is_dir():
            problem = "its table is missing: make the index again"
    except (PladaError, OSError) as err:
        problem = str(err)
    said = info or {}
    encoder, images = said.get("encoder"), said.get("images")
    if info is not None and not problem and not (isinstance(encoder, dict) and isinstance(images, int)):
        problem = "index.json names no encoder or no images: make the index again"
    return KeptItem(
        kind="index", name=folder.name, path=str(folder), bytes=_size(folder), problem=problem,
        images=images if isinstance(images, int) else None,
        encoder=str(encoder.get("name", "")) if isinstance(encoder, dict) else "",
    )  # fmt: skip


def _manifest(folder: Path) -> KeptItem:
    problem, images = "", None
    try:
        said = read_sealed_json(folder / "reference.json")
        images = said.get("images") if isinstance(said.get("images"), int) else None
    except (OSError, ValueError, Damaged, PladaError) as err:
        problem = f"reference.json cannot be read ({err}): remove it; `plada verify` makes it again"
    return KeptItem(
        kind="manifest", name=folder.name, path=str(folder), bytes=_size(folder), images=images, problem=problem
    )


def _file(kind: str, name: str, path: Path) -> KeptItem:
    size = _size(path)
    return KeptItem(kind=kind, name=name, path=str(path), bytes=size, problem="" if size else "the file is empty")


def _size(place: Path) -> int:
    total = 0
    for path in [place, *place.rglob("*")] if place.is_dir() else [place]:
        with suppress(OSError):
            if not path.is_dir():
                total += path.lstat().st_size
    return total


@contextmanager
def _alone(item: KeptItem) -> Iterator[None]:
    """Hold an index while nobody builds or reads it; other kinds are single files, which their readers keep."""
    with ExitStack() as stack:
        if item.kind == "index":
            store = Store(Path(item.path))
            for folder in [store.folder, *_below(store.folder / PARTS, "*")]:
                stack.enter_context(Store(folder).lock())
            for table in _below(store.folder, "*.lance"):
                hold = BuildHold(table, alone=True)
                stack.callback(hold.release)
                if os.name == "posix" and not hold.held:
                    raise ResourceError(f"{item.path}: another process reads this index. Wait for it, or stop it")
        yield


def _throw_away(home: Path, path: Path) -> Path:
    trash = home / _TRASH / secrets.token_hex(8)
    try:
        trash.parent.mkdir(exist_ok=True)
        return path.rename(trash)
    except OSError as err:
        raise_output_error(path, err)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    with suppress(OSError):
        path.parent.rmdir()
