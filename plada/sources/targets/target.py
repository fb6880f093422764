"""A target: the task of a client, as classes and images for training, validation and test."""

import math
from collections.abc import Collection as Names
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from plada.common.arrays import I64, Bools
from plada.errors import DataError, RequestError
from plada.sources.collection import Collection, is_image_name
from plada.sources.formats.folder import FolderCollection, open_folder
from plada.sources.names import alike_in_form
from plada.sources.targets.split_folders import find_split_folders, looks_split, visible_folders

VALIDATION_SHARE = 0.2  # of the training images, where a target brings no validation split
TEST_SHARE = 0.2  # of all images, where a target brings no split at all


@dataclass(frozen=True, slots=True)
class Split:
    """Some images of a collection: positions int64 [n] and labels int64 [n] (indices into the target's classes)."""

    collection: Collection
    positions: I64
    labels: I64

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True, slots=True)
class EmptyCollection:
    """A collection without images, for a target of which only the names of its classes are known."""

    location: str

    @property
    def keys(self) -> Any:
        import pyarrow as pa

        return pa.array([], pa.string())

    @property
    def sizes(self) -> I64:
        return np.zeros(0, np.int64)

    def __len__(self) -> int:
        return 0

    def read(self, position: int) -> bytes:
        raise DataError(f"{self.location}: has no images")

    def stream(self, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
        return iter(())


@dataclass(frozen=True, slots=True)
class Target:
    """Classes and splits. `recipe` holds training options that suit these images (say, no mirroring of letters);
    `note` says what is not the publisher's: how it was split, and a count that is not the known one."""

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split | None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    def noted(self, text: str) -> "Target":
        """The same target with one more remark; an empty one adds nothing."""
        return replace(self, note=join_notes(self.note, text))


def join_notes(*notes: str) -> str:
    """Remarks one after another; empty ones add nothing."""
    return "; ".join(note for note in notes if note)


@dataclass(frozen=True, slots=True)
class TargetRequest:
    """How a target is wanted: its name, the seed of splits made here, and options that the layout may know."""

    name: str
    seed: int = 0
    options: Mapping[str, str] = field(default_factory=dict)
    validation_is_test: bool = False  # the set has no labelled test images; its validation images serve as such


def make_target(
    name: str,
    classes: tuple[str, ...],
    whole: Split,
    validation: Split | None,
    test: Split | None,
    *,
    seed: int = 0,
    note: str = "",
) -> Target:
    """A target of published splits; where there is no validation, a seeded fifth of the training images becomes it.

    Raises:
        DataError: a class without training images.
    """
    empty = np.flatnonzero(np.bincount(whole.labels, minlength=len(classes)) == 0)
    if len(empty):
        raise DataError(
            f"{whole.collection.location}: no training image of class '{classes[empty[0]]}'. Restore the images, or "
            "remove the class"
        )
    note = join_notes(note, alike_in_form(classes, "class names"))
    if validation is not None:
        return Target(name, classes, whole, validation, test, note=note)
    train, held = set_aside(whole, len(classes), seed=seed)
    own = f"validation: {VALIDATION_SHARE:.0%} of the training images, stratified, seed {seed}"
    return Target(name, classes, train, held, test, note=join_notes(note, own))


def split_target(name: str, classes: tuple[str, ...], everything: Split, *, seed: int = 0, note: str = "") -> Target:
    """A target that comes without any split: a seeded, stratified fifth is the test, a fifth of the rest validation."""
    whole, test = split_off(everything, len(classes), seed=seed)
    own = f"test: {TEST_SHARE:.0%} of all images, split here, stratified, seed {seed}"
    return make_target(name, classes, whole, None, test, seed=seed, note=join_notes(note, own))


def open_folder_target(root: Path, *, name: str | None = None, seed: int = 0) -> Target:
    """A target laid out as train/CLASS/* (and test/CLASS/*, validation/CLASS/* where there are such folders), under these
    names or others that say the same (plada.sources.targets.split_folders).

    Without a validation folder a seeded, stratified fifth of the training images is set aside. A folder of CLASS/*
    alone is split (see split_target); `note` says so.

    Raises:
        RequestError: neither train/ nor two class folders; what looks like a part of a split and is not understood.
        DataError: a class without training images, classes that differ between splits, no image at all.
    """
    if not looks_split(root):
        return open_unsplit_target(root, name=name, seed=seed)
    parts = find_split_folders(root)
    target = open_class_folders(name or root.name, parts.train, parts.validation, parts.test, seed=seed)
    return target.noted(parts.note)


def open_class_folders(name: str, train: Path, validation: Path | None, test: Path | None, *, seed: int = 0) -> Target:
    """A target whose parts are folders of CLASS/*; raises as open_folder_target does."""
    collection = open_folder(train)
    classes = _classes(collection, train)
    held, tested = (
        _split(open_folder(part), classes, part) if part is not None else None for part in (validation, test)
    )
    target = make_target(name, classes, _split(collection, classes, train), held, tested, seed=seed)
    for split in (held, tested):
        target = target.noted(_passed_over(split.collection) if split is not None else "")
    return target.noted(_passed_over(collection)).noted(_nesting(collection))


def open_unsplit_target(
    root: Path, *, name: str | None = None, seed: int = 0, leave_out: Names[str] = (), note: str = ""
) -> Target:
    """A target of CLASS/* alone, split here; the folders in `leave_out` are no classes.

    Raises:
        RequestError: fewer than two class folders, or images outside them: this is no target.
        DataError: a class without images.
    """
    if not looks_unsplit(root):
        raise RequestError(
            f"{root}: a target is a folder with train/CLASS/ and test/CLASS/ below it, or with CLASS/ folders alone, "
            "to be split here; there is no train/ here"
        )
    collection = open_folder(root)
    classes = _classes(collection, root, leave_out)
    index = {label: place for place, label in enumerate(classes)}
    labels = np.array([index.get(label, -1) for label in _class_names(collection)], np.int64)
    kept = np.flatnonzero(labels >= 0)
    target = split_target(name or root.name, classes, Split(collection, kept, labels[kept]), seed=seed, note=note)
    return target.noted(_passed_over(collection)).noted(_nesting(collection))


def looks_unsplit(root: Path) -> bool:
    """Whether a folder holds class folders alone: two or more, no part of a split among them, no image beside them."""
    if not root.is_dir():
        return False
    loose = any(is_image_name(path.name) and path.name[0] != "." and not path.is_dir() for path in root.iterdir())
    return len(visible_folders(root)) >= 2 and not looks_split(root) and not loose


def split_off(split: Split, classes: int, *, share: float = TEST_SHARE, seed: int = 0) -> tuple[Split, Split]:
    """(the rest, a seeded stratified `share`), of ceil(share x images) images in all: the sizes that the paper has.

    Classes get their shares by largest remainder; one with two or more images gives at least one and keeps one.
    """
    counts = np.bincount(split.labels, minlength=classes)
    exact = share * counts
    quota = np.minimum(np.maximum(np.floor(exact), 1), np.maximum(counts - 1, 0)).astype(np.int64)
    wanted = math.ceil(share * len(split) - 1e-9)
    for label in np.argsort(quota - exact, kind="stable"):
        if quota.sum() >= wanted:
            break
        quota[label] += quota[label] < counts[label] - 1
    rng = np.random.default_rng([seed, 1])
    held = np.zeros(len(split), np.bool_)
    for label in range(classes):
        held[rng.permutation(np.flatnonzero(split.labels == label))[: quota[label]]] = True
    return _rows(split, ~held), _rows(split, held)


def set_aside(split: Split, classes: int, *, share: float = VALIDATION_SHARE, seed: int = 0) -> tuple[Split, Split]:
    """(the rest, a seeded stratified `share`): at least one image of each class that has two or more."""
    rng = np.random.default_rng(seed)
    held = np.zeros(len(split), np.bool_)
    for label in range(classes):
        rows = np.flatnonzero(split.labels == label)
        count = min(len(rows) - 1, max(1, round(share * len(rows))))
        held[rng.permutation(rows)[: max(count, 0)]] = True
    return _rows(split, ~held), _rows(split, held)


def _rows(split: Split, mask: Bools) -> Split:
    return Split(split.collection, split.positions[mask], split.labels[mask])


def _classes(collection: Collection, root: Path, leave_out: Names[str] = ()) -> tuple[str, ...]:
    classes = set(_class_names(collection)) - set(leave_out)
    folders = {path.name for path in visible_folders(root)}
    if empty := folders - classes - set(leave_out):
        passed = _passed_over(collection)
        raise DataError(
            f"{root}: no image of class '{min(empty)}'{' (' if passed else ''}{passed}{')' if passed else ''}. Add one, or "
            "remove the folder"
        )
    return tuple(sorted(classes))


def _class_names(collection: Collection) -> list[str]:
    names = []
    for key in collection.keys.to_pylist():
        top, slash, _ = key.partition("/")
        if not slash:
            raise DataError(f"{collection.location}: image '{key}' lies outside any class folder. Move it into one")
        names.append(top)
    return names


def _passed_over(collection: Collection) -> str:
    """What is said of files in a folder that are no images by their ending."""
    remark = collection.listing.remark if isinstance(collection, FolderCollection) else ""
    return f"{collection.location}: {remark}" if remark else ""


def _nesting(collection: Collection) -> str:
    """What is said of folders within class folders: their images count for the class.

    Raises:
        DataError: several classes hold the same folders, so that these look like the classes, or like parts of an image.
    """
    inner: dict[str, set[str]] = {}
    for key in collection.keys.to_pylist():
        top, _, rest = key.partition("/")
        below, slash, _ = rest.partition("/")
        if slash:
            inner.setdefault(top, set()).add(below)
    if not inner:
        return ""
    first, names = next(iter(inner.items()))
    for other, beside in inner.items():
        if other != first and len(both := sorted(names & beside)) > 1:
            raise DataError(
                f"{collection.location}: {first}/ and {other}/ both hold the folders {', '.join(f'{name}/' for name in both[:3])}; "
                "expected CLASS/ folders that hold images. Give the folder of the classes, or move away what is no image of "
                "the class"
            )
    return f"{len(inner)} class folder(s) hold folders, such as {first}/{min(names)}/: their images count for the class"


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
