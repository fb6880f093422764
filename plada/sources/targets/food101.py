"""Food-101 as it is published: images/CLASS/ID.jpg, and the official split in meta/train.txt and meta/test.txt."""

from pathlib import Path

from plada.sources.formats.folder import open_folder
from plada.sources.targets.split_lists import SplitList, listed_target, read_lines
from plada.sources.targets.target import Target, TargetRequest


def open_food101(root: Path, request: TargetRequest) -> Target:
    """Read the published layout; the lines of the meta files are keys below images/, such as apple_pie/1005649. Raises
    DataError: a listed image or a list is missing, or no image at all."""
    collection = open_folder(root / "images")
    classes = tuple(sorted({key.partition("/")[0] for key in collection.keys.to_pylist()}))
    parts = {}
    for part in ("train", "test"):
        file = root / "meta" / f"{part}.txt"
        keys = read_lines(file)
        parts[part] = SplitList(file, keys, [key.partition("/")[0] for key in keys])
    return listed_target(request, collection, classes, parts)
