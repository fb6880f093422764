"""From a place to a collection: the form of the copy that lies there is detected, and its reader chosen."""

import re
from pathlib import Path

import pyarrow.parquet as pq

from plada.common.progress import Report, Tracker, silent
from plada.errors import PladaError, RequestError
from plada.sources.collection import Collection, is_image_name
from plada.sources.formats.columns import image_columns
from plada.sources.formats.folder import FolderCollection, open_folder
from plada.sources.formats.lance import open_lance
from plada.sources.formats.numbered import INCOMPLETE
from plada.sources.formats.parquet import ParquetCollection, open_parquet
from plada.sources.formats.passed_over import advice
from plada.sources.formats.tars import TarCollection, open_tars
from plada.sources.parquet_errors import PARQUET_ERRORS
from plada.sources.storage import Files, open_files

_DAMAGED: tuple[type[Exception], ...] = (PladaError, *PARQUET_ERRORS)
FORMS = ("folder", "tars", "webdataset", "parquet", "lance")
_OPTIONS = ("column", "image-extension")
_BEFORE = re.compile(rf"({INCOMPLETE}:|({'|'.join(_OPTIONS)})=[^:/]+:)+")
_MAX_FOLDERS = 64  # that are opened to find out the form


def open_collection(place: str | Path, *, cache: Path | None = None, report: Report = silent) -> Collection:
    """The collection of images at a local path or an fsspec URL; large listings are kept below `cache`.

    The form is detected from what lies there: images, tars (one a synset, or WebDataset shards), parquet, or a Lance data
    set. `FORM:PLACE` names it instead, such as `webdataset:/data/shards`. `incomplete:` before it says that files are meant
    to be missing, of those that others speak of (`-00001-of-00003`); `column=NAME:` which column holds the images;
    `image-extension=jpg:` which members of WebDataset's samples are the images.

    Raises:
        RequestError: nothing there. DataError: the files are no good (no image, duplicate keys, cut tars).
    """
    before, text = split_options(str(place))
    options = dict(pair.split("=") for pair in before.split(":") if "=" in pair)
    incomplete, column, extension = INCOMPLETE in before.split(":"), *(options.get(name, "") for name in _OPTIONS)
    form, place = _split_form(text)
    if form == "lance" or (form is None and place.rstrip("/").endswith(".lance")):
        return open_lance(place, column=column)
    files, only = open_files(place)
    chosen = form or form_at(files, only)
    if column and chosen != "parquet":
        raise RequestError(f"--column {column}: for parquet and Lance; {place} is read as {chosen}. Leave it out")
    if extension and chosen not in ("tars", "webdataset"):
        raise RequestError(f"--image-extension {extension}: for WebDataset; {place} is read as {chosen}. Leave it out")
    collection: ParquetCollection | TarCollection | FolderCollection
    if chosen == "parquet":
        collection = open_parquet(files, only=only, incomplete=incomplete, column=column)
    elif chosen in ("tars", "webdataset"):
        collection = open_tars(
            files, form=form, only=only, incomplete=incomplete, extension=extension, cache=cache, report=report
        )
    elif only:
        todo = advice(only)
        raise RequestError(
            f"{place}: expected a folder, a tar or a parquet file; this is a file of another kind{'. ' if todo else ''}{todo}"
        )
    else:
        collection = open_folder(files, cache=cache, report=report)
    for remark in ("" if form else _choice(collection, place), collection.listing.remark):
        if remark:
            Tracker("list", None, report).say(f"{place}: {remark}")
    return collection


def _choice(collection: Collection, place: str) -> str:
    """Which form was taken, and how to ask for another; empty for a folder, which is what it looks like."""
    if isinstance(collection, ParquetCollection):
        columns = collection.columns
        return f"read as parquet: images in column {columns.image}, keys in {columns.key}"
    if not isinstance(collection, TarCollection):
        return ""
    if collection.form == "tars":
        return f"read as one tar a class: a key begins with the tar's name. If these are shards, say webdataset:{place}"
    return (
        "read as WebDataset shards: a key is a member's path up to the first dot of its name. If each tar is a class, say "
        f"tars:{place}"
    )


def form_at(files: Files, only: str) -> str:
    """folder, tars or parquet: what the first file of a known kind is, folders nearer to the root first. Parquet without
    a column of images does not count: img2dataset leaves such statistics beside its images."""
    if only:
        return _kind(only) or "folder"
    level = [""]
    looked, statistics = 0, False
    while level and looked < _MAX_FOLDERS:
        below: list[str] = []
        for folder in level[:_MAX_FOLDERS]:
            entries = sorted(files.entries(folder), key=lambda entry: entry.name)
            looked += 1
            shown = [entry for entry in entries if entry.name and not entry.name.startswith(".")]
            kinds = {kind for entry in shown if not entry.is_folder and (kind := _kind(entry.name))}
            # Shards win over an image beside them: their reader then says that both are there.
            if "tars" in kinds:
                return "tars"
            if "parquet" in kinds:
                first = next(entry for entry in shown if _kind(entry.name) == "parquet" and not entry.is_folder)
                if first.fault or _holds_images(files, f"{folder}/{first.name}".lstrip("/")):
                    return "parquet"
                kinds.remove("parquet")
                statistics = True
            if kinds:
                return "folder"
            below += [f"{folder}/{entry.name}".lstrip("/") for entry in shown if entry.is_folder]
        level = below
    return "parquet" if statistics else "folder"  # nothing else: the reader says what is missing


def _holds_images(files: Files, path: str) -> bool:
    """Whether a parquet file has a column of images; one that cannot be read has, so that its reader says what is wrong."""
    try:
        with files.open(path) as stream:
            return bool(image_columns(pq.read_schema(stream)))
    except _DAMAGED:
        return True


def _kind(name: str) -> str | None:
    if name.lower().endswith(".tar"):
        return "tars"
    if name.lower().endswith(".parquet"):
        return "parquet"
    return "folder" if is_image_name(name.rpartition("/")[2]) else None


def split_options(text: str) -> tuple[str, str]:
    """What stands before a place, colon included, and the place: `incomplete:`, `column=NAME:`, `image-extension=jpg:`."""
    at = match.end() if (match := _BEFORE.match(text)) else 0
    return text[:at], text[at:]


def _split_form(place: str) -> tuple[str | None, str]:
    form, colon, rest = place.partition(":")
    return (form, rest) if colon and form in FORMS and not Path(place).exists() else (None, place)
