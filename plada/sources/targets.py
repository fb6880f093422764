"""A target: the task to be served, as classes and images for training, validation and test."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plada.errors import DataError, RequestError
from plada.sources.collection import Collection
from plada.sources.folder import open_folder

VALIDATION_SHARE = 0.2  # of the training images, where a target brings no validation split
_VALIDATION_NAMES = ("validation", "valid", "val")


@dataclass(frozen=True, slots=True)
class Split:
    """Some images of a collection: positions int64 [n] and labels int64 [n] (indices into the target's classes)."""

    collection: Collection
    positions: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True, slots=True)
class Target:
    """Classes and splits. `recipe` holds training options that suit these images (say, no mirroring of letters)."""

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split | None
    recipe: Mapping[str, Any] = field(default_factory=dict)


def open_folder_target(root: Path, *, name: str | None = None, seed: int = 0) -> Target:
    """A target laid out as train/CLASS/* (and test/CLASS/*, validation/CLASS/* where there are such folders).

    Without a validation folder a seeded, stratified fifth of the training images is set aside.

    Raises:
        RequestError: no train/ folder.
        DataError: a class without training images, classes that differ between splits, no image at all.
    """
    if not (root / "train").is_dir():
        raise RequestError(
            f"{root}: a target is a folder with train/CLASS/ and test/CLASS/ below it; there is no train/ here"
        )
    train = open_folder(root / "train")
    names = _class_names(train)
    classes = tuple(sorted(set(names)))
    empty = {path.name for path in (root / "train").iterdir() if path.is_dir() and not path.name.startswith(".")} - set(
        classes
    )
    if empty:
        raise DataError(f"{root}/train: no image of class '{min(empty)}'. Add one, or remove the folder")
    whole = _split(train, classes, root / "train")
    brought = next((root / part for part in _VALIDATION_NAMES if (root / part).is_dir()), None)
    test = root / "test"
    if brought is not None:
        training, validation = whole, _split(open_folder(brought), classes, brought)
    else:
        training, validation = set_aside(whole, len(classes), seed=seed)
    return Target(
        name=name or root.name,
        classes=classes,
        train=training,
        validation=validation,
        test=_split(open_folder(test), classes, test) if test.is_dir() else None,
    )


def set_aside(split: Split, classes: int, *, share: float = VALIDATION_SHARE, seed: int = 0) -> tuple[Split, Split]:
    """(the rest, a seeded stratified `share`): at least one image of each class that has two or more."""
    rng = np.random.default_rng(seed)
    held = np.zeros(len(split), np.bool_)
    for label in range(classes):
        rows = np.flatnonzero(split.labels == label)
        count = min(len(rows) - 1, max(1, round(share * len(rows))))
        held[rng.permutation(rows)[: max(count, 0)]] = True
    return _rows(split, ~held), _rows(split, held)


def _rows(split: Split, mask: npt.NDArray[np.bool_]) -> Split:
    return Split(split.collection, split.positions[mask], split.labels[mask])


def _class_names(collection: Collection) -> list[str]:
    names = []
    for key in collection.keys.to_pylist():
        top, slash, _ = key.partition("/")
        if not slash:
            raise DataError(f"{collection.location}: image '{key}' lies outside any class folder. Move it into one")
        names.append(top)
    return names


def _split(collection: Collection, classes: tuple[str, ...], root: Path) -> Split:
    index = {name: label for label, name in enumerate(classes)}
    names = _class_names(collection)
    unknown = sorted(set(names) - set(index))
    if unknown:
        raise DataError(
            f"{root}: class '{unknown[0]}' has no training images. Class names must be the same in every split"
        )
    labels = np.array([index[name] for name in names], np.int64)
    return Split(collection, np.arange(len(labels), dtype=np.int64), labels)
