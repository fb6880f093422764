"""A folder of image files, at any depth."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from plada.errors import DataError
from plada.sources.collection import canonical_order, is_image_name, key_of


@dataclass(frozen=True, slots=True)
class FolderCollection:
    """Image files below `root`, canonical order. Hidden files and folders, and other extensions, do not count."""

    root: Path
    keys: Any
    sizes: npt.NDArray[np.int64]
    paths: Any  # pyarrow string array [N]: path below the root, extension included

    @property
    def location(self) -> str:
        return str(self.root)

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, position: int) -> bytes:
        path = self.root / str(self.paths[position])
        try:
            return path.read_bytes()
        except OSError as err:
            raise DataError(f"{path}: listed but cannot be read ({err.strerror}). Restore it or list again") from err


def open_folder(root: Path) -> FolderCollection:
    """List a folder of images.

    Raises:
        DataError: no image in it, two files with one key, a folder that may not be read.
    """
    paths: list[str] = []
    sizes: list[int] = []
    for path, size in _walk(root, "", frozenset()):
        paths.append(path)
        sizes.append(size)
    keys = [key_of(path) for path in paths]
    order = canonical_order(keys, paths, str(root))
    return FolderCollection(
        root=root.absolute(),
        keys=pa.array([keys[i] for i in order], pa.string()),
        sizes=np.asarray(sizes, np.int64)[order],
        paths=pa.array([paths[i] for i in order], pa.string()),
    )


def _walk(root: Path, below: str, ancestors: frozenset[tuple[int, int]]) -> list[tuple[str, int]]:
    """(path below root, bytes) of every image. Links are followed; a link back to an ancestor is refused."""
    here = root / below
    try:
        status = here.stat()
        if (status.st_dev, status.st_ino) in ancestors:
            raise DataError(f"{here}: a link that leads back to a folder above it. Remove the link")
        above = ancestors | {(status.st_dev, status.st_ino)}
        found: list[tuple[str, int]] = []
        with os.scandir(here) as entries:
            for entry in entries:
                path = f"{below}/{entry.name}" if below else entry.name
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    found.extend(_walk(root, path, above))
                elif is_image_name(entry.name):
                    found.append((path, entry.stat().st_size))
        return found
    except OSError as err:
        raise DataError(f"{here}: cannot be listed ({err.strerror}). Mend the permissions or the link") from err
