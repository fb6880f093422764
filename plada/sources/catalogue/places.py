"""Where registered collections lie on this machine."""

from pathlib import Path
from typing import NoReturn

from plada.errors import RequestError
from plada.sources.catalogue.known import KNOWN
from plada.sources.targets.layouts import find_layout

_ANY_TARGET = ("parquet", "folders")  # a registered target may also lie so


def data_folder(home: Path, name: str) -> Path:
    """Where a registered collection of files is looked for first; a symbolic link will do."""
    return home / "datasets" / name


def looked_in(home: Path, name: str) -> list[Path]:
    """The places where a registered collection is looked for, in order.

    The names that its archives make, below its own folder and (where torchvision unpacks them) beside it; then the
    folder itself.
    """
    folder = data_folder(home, name)
    folders = KNOWN[name].folders
    places = (*(folder / place for place in folders), *(folder.parent / place for place in folders), folder)
    return [*dict.fromkeys(place for place in places if place != folder), folder]  # beside it may be below it, too


def find_source(home: Path, name: str) -> Path | None:
    """The folder of a registered collection as a reference; None where there is none."""
    place = next((place for place in looked_in(home, name) if place.is_dir()), None)
    if place is not None and KNOWN[name].role == "both" and (place / "train").is_dir():
        return place / "train"
    return place


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
    raise RequestError(
        f"{name}: not on this machine; looked in {data_folder(home, name)}{found}. Put it there (or a link to it), or give "
        f"the folder's path instead of the name. Expected: {known.expects}. From: {known.obtain}"
    )
