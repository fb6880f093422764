"""From a place to a collection: which form of copy lies there, and the reader for it."""

from pathlib import Path

from plada.sources.collection import Collection
from plada.sources.folder import open_folder
from plada.sources.tars import has_tars, open_tars


def open_collection(place: str | Path) -> Collection:
    """The collection of images that lies at a local path.

    Raises:
        DataError: the files are no good (no image, duplicate keys, cut tars).
    """
    root = Path(place)
    return open_tars(root) if has_tars(root) else open_folder(root)
