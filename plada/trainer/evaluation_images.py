"""The images that a model is tested on: of a target, or of a folder that holds nothing but test images. Classes are found by name."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from plada.common.files import last_name, local_place
from plada.errors import DataError
from plada.sources.catalogue.known import KNOWN
from plada.sources.collection import is_image_name
from plada.sources.formats.folder import open_folder
from plada.sources.registry import open_target
from plada.sources.targets.layouts import find_layout
from plada.sources.targets.split_folders import EVALUATION, TEST, TRAIN, VALIDATION, read_name, visible_folders
from plada.sources.targets.target import EmptyCollection, Split, Target, join_notes

_SHOWN = 3  # names in a message


def open_test(spec: str | Path, home: Path, *, held_out: bool) -> Target:
    """The target `spec`, or where that is a folder with test/CLASS/ or CLASS/ alone, one with all its images as test.

    With `held_out` the images of a folder of CLASS/ alone are split as `select` and `train` split them.

    Raises as `open_target` does.
    """
    text = local_place(spec)
    root = Path(text).expanduser()
    known = text.partition(":")[0] in KNOWN  # as open_target sees it: ./NAME is a folder
    place = _test_folder(root, held_out=held_out) if not known and root.is_dir() else None
    if place is None:
        return open_target(spec, home)
    folder, note = place
    collection = open_folder(folder)
    names = [key.partition("/")[0] for key in collection.keys.to_pylist()]
    classes = tuple(sorted(set(names)))
    numbers = {name: number for number, name in enumerate(classes)}
    labels = np.array([numbers[name] for name in names], np.int64)
    nothing = Split(EmptyCollection(str(folder)), np.zeros(0, np.int64), np.zeros(0, np.int64))
    test = Split(collection, np.arange(len(labels), dtype=np.int64), labels)
    return Target(last_name(root), classes, nothing, nothing, test, note=note)


def _test_folder(root: Path, *, held_out: bool) -> tuple[Path, str] | None:
    """The folder of CLASS/ that all is tested of, and what is said of it; None where `root` is a target with a training part."""
    layout = find_layout(root)
    folders = visible_folders(root)
    if layout in ("folders", "train-val"):
        parts = {kind: folder for folder in folders if (kind := read_name(folder.name)[0]) is not None}
        if TRAIN in parts:
            return None
        part = next((parts[kind] for kind in (TEST, EVALUATION, VALIDATION) if kind in parts), None)
        return None if part is None else (part, f"test: {part.name}/; there is no train/")
    loose = any(is_image_name(path.name) and path.name[0] != "." and path.is_file() for path in root.iterdir())
    if layout not in (None, "classes") or not folders or loose or (layout == "classes" and held_out):
        return None
    other = "" if held_out else "; --held-out takes the fifth that select and train hold out"
    return root, f"test: all images of the class folders{other}"


def check_classes(
    own: tuple[str, ...], target_classes: tuple[str, ...], target: str, whose: str = "the payload's"
) -> None:
    """Refuse to test on images of unknown classes: the number would mean nothing. Raises DataError: a class of the target
    that `own` does not name."""
    known = set(own)
    unknown = tuple(name for name in target_classes if name not in known)
    if unknown:
        raise DataError(
            f"target {target}: its {len(target_classes)} classes ({_some(target_classes)}) are not {whose} {len(own)} "
            f"({_some(own)}): unknown {_some(unknown)}. Test on the target that it is for, or give folders the model's names"
        )


def with_classes(own: tuple[str, ...], target: Target, *, whose: str = "the payload's") -> Target:
    """The target with the classes `own`, in their order; images keep their class by its name.

    Raises:
        DataError: a class of the target that `own` does not name.
    """
    if own == target.classes:
        return target
    check_classes(own, target.classes, target.name, whose)
    place = {name: number for number, name in enumerate(own)}
    numbers = np.array([place[name] for name in target.classes], np.int64)
    train, validation, test = (
        None if split is None else replace(split, labels=numbers[split.labels])
        for split in (target.train, target.validation, target.test)
    )
    missing = tuple(name for name in own if name not in set(target.classes))
    note = f"no image of {len(missing)} of {whose} {len(own)} classes ({_some(missing)})" if missing else ""
    assert train is not None
    assert validation is not None
    return replace(
        target, classes=own, train=train, validation=validation, test=test, note=join_notes(target.note, note)
    )


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
