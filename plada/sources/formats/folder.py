"""A folder of image files, at any depth."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plada.common.progress import Report, silent
from plada.sources.collection import is_image_name, key_of, stream_by_position
from plada.sources.formats.listing import ListedCollection, ListingWriter, load_listing, settled
from plada.sources.storage import Files, LocalFiles, check_readable, slug, suffix_of, walk


@dataclass(frozen=True, slots=True)
class FolderCollection(ListedCollection):
    """Image files below a root, canonical order. Hidden files and folders, and other extensions, do not count."""

    files: Files  # a part of the listing is a file extension: path = key + part

    def read(self, position: int) -> bytes:
        suffix = self.listing.parts[self.listing.part_of[position]]
        return self.files.read(f"{self.listing.keys[position]}{suffix}")

    def stream(self, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
        return stream_by_position(self, start, stop)


def open_folder(root: Path | Files, *, cache: Path | None = None, report: Report = silent) -> FolderCollection:
    """List a folder of images. A large listing is kept below `cache` and used again while no folder has changed. Raises
    DataError: no image in it, two files with one key, a folder that may not be read, a link back to one above."""
    files = LocalFiles(root.absolute()) if isinstance(root, Path) else root
    kept = cache / slug(files.location) if cache is not None else None
    if kept is not None and (listing := load_listing(kept, lambda note: _unchanged(files, note), report)) is not None:
        return FolderCollection(files.location, listing, files)
    start, folders, suffixes = time.time_ns(), dict[str, str](), dict[str, int]()
    with ListingWriter(files.location, folder=kept, place=lambda part, _, key: key + part) as writer:
        for path, entry in walk(files):
            if entry.is_folder:
                folders[path] = entry.stamp
            elif is_image_name(entry.name):
                check_readable(files, path, entry)
                suffix = suffix_of(path)
                writer.add(key_of(path), entry.size, suffixes.setdefault(suffix, len(suffixes)), 0)
            elif entry.name:
                writer.passed.add(path)
        note = {"form": "folder", "folders": settled(folders, start)}
        return FolderCollection(files.location, writer.finish(tuple(suffixes), note), files)


def _unchanged(files: Files, note: dict[str, Any]) -> bool:
    """The time of a folder changes when a name in it does; what is inside a file is checked by its hash."""
    folders = note["folders"]
    return bool(folders) and all(files.stamp(folder) == stamp for folder, stamp in folders.items())
