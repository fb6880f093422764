"""Food-101 as it is published: images/CLASS/ID.jpg, and the official split in meta/train.txt and meta/test.txt."""

from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from plada.errors import DataError
from plada.sources.folder import open_folder
from plada.sources.targets import Split, Target, set_aside


def open_food101(root: Path, *, name: str | None = None, seed: int = 0) -> Target:
    """Read the published layout; the lines of the meta files are keys below images/, such as apple_pie/1005649.

    Raises:
        DataError: a listed image is missing, or no image at all.
    """
    collection = open_folder(root / "images")

    def split(part: str) -> Split:
        lines = [line.strip() for line in (root / "meta" / f"{part}.txt").read_text().splitlines() if line.strip()]
        found = pc.index_in(lines, collection.keys)
        if found.null_count:
            missing = next(line for line, place in zip(lines, found.to_pylist(), strict=True) if place is None)
            raise DataError(
                f"{root}: meta/{part}.txt names {missing}, which is not in images/. Unpack the archive again"
            )
        labels = np.array([index[line.partition("/")[0]] for line in lines], np.int64)
        return Split(collection, np.asarray(found, np.int64), labels)

    index = {
        label: place
        for place, label in enumerate(sorted({key.partition("/")[0] for key in collection.keys.to_pylist()}))
    }
    whole = split("train")
    test = split("test")
    train, validation = set_aside(whole, len(index), seed=seed)
    return Target(name or "food101", tuple(index), train, validation, test)
