"""From a place to a collection: the form of the copy that lies there is detected, and its reader chosen."""

from pathlib import Path

from plada.common.progress import Report, silent
from plada.errors import RequestError
from plada.sources.collection import Collection, is_image_name
from plada.sources.formats.folder import open_folder
from plada.sources.formats.lance import open_lance
from plada.sources.formats.parquet import open_parquet
from plada.sources.formats.tars import open_tars
from plada.sources.storage import Files, open_files

FORMS = ("folder", "tars", "webdataset", "parquet", "lance")
_MAX_FOLDERS = 64  # that are opened to find out the form


def open_collection(place: str | Path, *, cache: Path | None = None, report: Report = silent) -> Collection:
    """The collection of images at a local path or an fsspec URL; large listings are kept below `cache`.

    The form is detected from what lies there: images, tars (one a synset, or WebDataset shards), parquet, or a Lance data
    set. `FORM:PLACE` names it instead, such as `webdataset:/data/shards`.

    Raises:
        RequestError: nothing there. DataError: the files are no good (no image, duplicate keys, cut tars).
    """
    form, place = _split_form(str(place))
    if form == "lance" or (form is None and place.rstrip("/").endswith(".lance")):
        return open_lance(place)
    files, only = open_files(place)
    chosen = form or form_at(files, only)
    if chosen == "parquet":
        return open_parquet(files, only=only)
    if chosen in ("tars", "webdataset"):
        return open_tars(files, form=form, only=only, cache=cache, report=report)
    if only:
        raise RequestError(f"{place}: expected a folder, a tar or a parquet file; this is a file of another kind")
    return open_folder(files, cache=cache, report=report)


def form_at(files: Files, only: str) -> str:
    """folder, tars or parquet: what the first file of a known kind is, folders nearer to the root first."""
    if only:
        return _kind(only) or "folder"
    level = [""]
    looked = 0
    while level and looked < _MAX_FOLDERS:
        below: list[str] = []
        for folder in level[:_MAX_FOLDERS]:
            entries = sorted(files.entries(folder), key=lambda entry: entry.name)
            looked += 1
            shown = [entry for entry in entries if entry.name and not entry.name.startswith(".")]
            kinds = {kind for entry in shown if not entry.is_folder and (kind := _kind(entry.name))}
            # Shards win over an image beside them: their reader then says that both are there.
            if kinds:
                return min(kinds - {"folder"}, default="folder")
            below += [f"{folder}/{entry.name}".lstrip("/") for entry in shown if entry.is_folder]
        level = below
    return "folder"


def _kind(name: str) -> str | None:
    if name.endswith(".tar"):
        return "tars"
    if name.endswith(".parquet"):
        return "parquet"
    return "folder" if is_image_name(name.rpartition("/")[2]) else None


def _split_form(place: str) -> tuple[str | None, str]:
    form, colon, rest = place.partition(":")
    return (form, rest) if colon and form in FORMS and not Path(place).exists() else (None, place)
