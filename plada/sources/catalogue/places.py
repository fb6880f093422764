"""Where registered collections lie on this machine."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from plada.common.checksums import read_sealed_json
from plada.common.settings import setting
from plada.errors import RequestError
from plada.sources.catalogue.known import KNOWN
from plada.sources.targets.layouts import find_layout

_ANY_TARGET = ("parquet", "folders")  # a registered target may also lie so


def data_folder(home: Path, name: str) -> Path:
    """Where a registered collection of files is looked for first; a symbolic link will do."""
    return roots(home)[0] / name


def roots(home: Path) -> list[Path]:
    """The folders in which registered collections lie, in order: those of the setting `datasets`, then that of the home folder.

    Raises:
        RequestError: a folder of the setting is none.
    """
    chosen = setting("datasets", home)
    folders = [Path(part).expanduser() for part in chosen.value.split(os.pathsep) if part]
    for folder in folders:
        if not folder.is_dir():
            raise RequestError(
                f"datasets ({chosen.origin}): {folder} is no folder. Mend the setting, or make the folder"
            )
    return [*(folder.absolute() for folder in folders), home / "datasets"]


def looked_in(home: Path, name: str) -> list[Path]:
    """The places where a registered collection is looked for, in order.

    In each root: the names that its archives make, below its own folder and (where torchvision unpacks them) beside it; then the
    folder itself.
    """
    places: list[Path] = []
    for root in roots(home):
        folder, folders = root / name, KNOWN[name].folders
        inside = (*(folder / place for place in folders), *(root / place for place in folders))
        places += [*(place for place in inside if place != folder), folder]  # beside it may be below it, too
    return list(dict.fromkeys(places))


def find_source(home: Path, name: str) -> Path | str | None:
    """The folder of a registered collection as a reference, or the place of one that was used under this name; None where there
    is none."""
    place = next((place for place in looked_in(home, name) if place.is_dir()), None)
    if place is None:
        return _used_place(home, name)
    if KNOWN[name].role == "both" and (place / "train").is_dir():
        return place / "train"
    return place


def _used_place(home: Path, name: str) -> str | None:
    """Where the images of the index, or of the manifest, of this name lie; None where there is none, or nothing lies there."""
    indexed = (note.get("reference") for note in _notes([home / "indexes" / name / "index.json"]))
    places = [about.get("location") for about in indexed if isinstance(about, dict)]
    places += [note.get("location") for note in reference_notes(home) if note.get("name") == name]
    there = (place for place in places if isinstance(place, str) and place != name)
    return next((place for place in there if "://" in place or Path(place).exists()), None)


def reference_notes(home: Path) -> Iterator[dict[str, Any]]:
    """What is noted of each collection whose manifest is kept here: location, name, images, ids."""
    yield from _notes(sorted((home / "references").glob("*/reference.json")))


def _notes(paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """The notes that can be read: one that cannot is no reason not to look at the others."""
    for path in paths:
        with contextlib.suppress(OSError, ValueError):
            yield read_sealed_json(path)


def find_target(home: Path, name: str) -> tuple[Path, str] | None:
    """(folder, layout) of a registered target; None where no folder has one of its layouts."""
    for place in looked_in(home, name):
        if place.is_dir() and (layout := find_layout(place, (*KNOWN[name].layouts, *_ANY_TARGET))):
            return place, layout
    return None


def not_here(home: Path, name: str) -> NoReturn:
    """Say where a registered collection was looked for, and how to get it. Raises RequestError: always."""
    known = KNOWN[name]
    here = next((place for place in looked_in(home, name) if place.is_dir()), None)
    found = f"; {here} is there, but not in its layout" if here is not None else ""
    lying = Path(name)
    if not found and lying.is_dir():
        found = f"; the folder ./{name} is here: give ./{name} if that is it"
    raise RequestError(
        f"{name}: not on this machine; looked in {', '.join(str(root / name) for root in roots(home))}{found}. Put it there (or a link to it), or give "
        f"the folder's path instead of the name. Expected: {known.expects}. From: {known.obtain}"
    )
