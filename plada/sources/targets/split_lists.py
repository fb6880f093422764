"""Targets whose splits are published as text files beside the images: which image belongs where, and its class."""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from plada.errors import DataError, RequestError
from plada.sources.collection import Collection, key_of
from plada.sources.formats.arrays import check_there
from plada.sources.formats.folder import open_folder
from plada.sources.targets.target import Split, Target, TargetRequest, make_target

_HELD_NOTE = "test: the published validation images"


@dataclass(frozen=True, slots=True)
class SplitList:
    """One part of a split: the file that lists it, keys in the collection, and class names."""

    file: Path
    keys: list[str]
    classes: list[str]


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty, stripped. Raises DataError: the file is missing, or is not UTF-8."""
    check_there(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as err:
        raise DataError(f"{path}: cannot be read ({err}). Unpack the archive again") from err
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_rows(path: Path, fields: int) -> list[list[str]]:
    """Lines of `fields` columns, split at white space; the last takes the rest of its line. Raises DataError: as
    read_lines, or a line with fewer columns."""
    rows = [line.split(maxsplit=fields - 1) for line in read_lines(path)]
    short = next((number for number, row in enumerate(rows) if len(row) < fields), None)
    if short is not None:
        raise DataError(
            f"{path}: line '{' '.join(rows[short])}' has fewer than {fields} columns. Unpack the archive again"
        )
    return rows


def find(listed: SplitList, collection: Collection, classes: tuple[str, ...]) -> Split:
    """The images and labels of one listed part. Raises DataError: a listed image is not there, or its class is not one
    of `classes`."""
    index = {label: place for place, label in enumerate(classes)}
    found = pc.index_in(pa.array(listed.keys, pa.string()), collection.keys)
    if found.null_count:
        missing = listed.keys[int(np.flatnonzero(np.asarray(found.is_null()))[0])]
        raise DataError(
            f"{listed.file} names {missing}, which is not in {collection.location} ({found.null_count} of "
            f"{len(listed.keys)} are missing). Unpack the archive again"
        )
    unknown = next((label for label in listed.classes if label not in index), None)
    if unknown is not None:
        raise DataError(
            f"{listed.file}: class '{unknown}' is none of the {len(classes)} known. Unpack the archive again"
        )
    return Split(
        collection, np.asarray(found, np.int64), np.array([index[label] for label in listed.classes], np.int64)
    )


def target_of_parts(
    request: TargetRequest, classes: tuple[str, ...], parts: Mapping[str, Split], *, note: str = ""
) -> Target:
    """A target of the parts train, and validation and test where there are such."""
    return make_target(
        request.name, classes, parts["train"], parts.get("validation"), parts.get("test"), seed=request.seed, note=note
    )


def listed_target(
    request: TargetRequest,
    collection: Collection,
    classes: tuple[str, ...],
    parts: Mapping[str, SplitList],
    *,
    note: str = "",
) -> Target:
    """A target of parts that are listed; raises as `find` does."""
    return target_of_parts(
        request, classes, {part: find(listed, collection, classes) for part, listed in parts.items()}, note=note
    )


def _by_folder(file: Path, keys: Iterable[str]) -> SplitList:
    listed = list(keys)
    return SplitList(file, listed, [key.rpartition("/")[0] for key in listed])


def open_dtd(root: Path, request: TargetRequest) -> Target:
    """DTD: images/CLASS/*.jpg and labels/train1.txt, val1.txt, test1.txt; option partition=1..10."""
    partition = request.options.get("partition", "1")
    if partition not in {str(number) for number in range(1, 11)}:
        raise RequestError(f"{request.name}: partition={partition}; there are the partitions 1 to 10")
    names = {"train": "train", "validation": "val", "test": "test"}
    files = {part: root / "labels" / f"{name}{partition}.txt" for part, name in names.items()}
    parts = {part: _by_folder(file, map(key_of, read_lines(file))) for part, file in files.items()}
    classes = tuple(sorted({label for listed in parts.values() for label in listed.classes}))
    note = f"partition {partition} of 10" if partition != "1" else ""
    return listed_target(request, open_folder(root / "images"), classes, parts, note=note)


def open_aircraft(root: Path, request: TargetRequest) -> Target:
    """FGVC-Aircraft: data/images/*.jpg, data/variants.txt, data/images_variant_train.txt, ..._val.txt, ..._test.txt."""
    data = root / "data" if (root / "data").is_dir() else root
    parts = {}
    for part, name in {"train": "train", "validation": "val", "test": "test"}.items():
        file = data / f"images_variant_{name}.txt"
        rows = read_rows(file, 2)
        parts[part] = SplitList(file, [row[0] for row in rows], [row[1] for row in rows])
    return listed_target(request, open_folder(data / "images"), tuple(read_lines(data / "variants.txt")), parts)


def open_pets(root: Path, request: TargetRequest) -> Target:
    """Oxford-IIIT Pet: images/*.jpg, annotations/trainval.txt and test.txt with IMAGE CLASS SPECIES BREED a line."""
    names: dict[int, str] = {}
    parts = {}
    for part, name in {"train": "trainval", "test": "test"}.items():
        file = root / "annotations" / f"{name}.txt"
        rows = read_rows(file, 4)
        labels = [row[0].rpartition("_")[0] for row in rows]
        names.update({_number(row[1], file): label for row, label in zip(rows, labels, strict=True)})
        parts[part] = SplitList(file, [row[0] for row in rows], labels)
    return listed_target(request, open_folder(root / "images"), tuple(names[number] for number in sorted(names)), parts)


def open_cub(root: Path, request: TargetRequest) -> Target:
    """CUB-200-2011: images/CLASS/*.jpg, images.txt, image_class_labels.txt, train_test_split.txt, classes.txt."""
    names = {row[0]: row[1] for row in read_rows(root / "classes.txt", 2)}
    images = {row[0]: key_of(row[1]) for row in read_rows(root / "images.txt", 2)}
    labels = {row[0]: row[1] for row in read_rows(root / "image_class_labels.txt", 2)}
    file = root / "train_test_split.txt"
    chosen: dict[str, list[str]] = {"train": [], "test": []}
    for image, training in read_rows(file, 2):
        if image not in images or labels.get(image) not in names:
            raise DataError(
                f"{file}: image {image} has no path or no class in the files beside it. Unpack the archive again"
            )
        chosen["train" if training == "1" else "test"].append(image)
    parts = {
        part: SplitList(file, [images[image] for image in ids], [names[labels[image]] for image in ids])
        for part, ids in chosen.items()
    }
    return listed_target(request, open_folder(root / "images"), tuple(names.values()), parts)


def open_tiny_imagenet(root: Path, request: TargetRequest) -> Target:
    """Tiny-ImageNet: train/WNID/images/*.JPEG; the labelled val/ serves as the test, the unlabelled test/ is not used."""
    training = open_folder(root / "train")
    keys = training.keys.to_pylist()
    listed = SplitList(root / "train", keys, [key.partition("/")[0] for key in keys])
    classes = tuple(sorted(set(listed.classes)))
    file = root / "val" / "val_annotations.txt"
    rows = read_rows(file, 2)
    held = SplitList(file, [key_of(row[0]) for row in rows], [row[1].split()[0] for row in rows])
    test = find(held, open_folder(root / "val" / "images"), classes)
    return target_of_parts(request, classes, {"train": find(listed, training, classes), "test": test}, note=_HELD_NOTE)


def open_gtsrb(root: Path, request: TargetRequest) -> Target:
    """GTSRB: Final_Training/Images/CLASS/*.ppm (torchvision: Training/CLASS/*.ppm), Final_Test/Images/*.ppm with
    GT-final_test.csv; all of it may lie in a folder GTSRB."""
    base = root / "GTSRB" if (root / "GTSRB").is_dir() else root
    long, short = base / "Final_Training" / "Images", base / "Training"
    training = open_folder(long if long.is_dir() else short)
    keys = training.keys.to_pylist()
    listed = SplitList(long, keys, [key.partition("/")[0] for key in keys])
    classes = tuple(sorted(set(listed.classes)))
    test = base / "Final_Test" / "Images"
    file = _first(place / "GT-final_test.csv" for place in (root, base, base / "Final_Test", test, root.parent))
    try:
        rows = list(csv.DictReader(read_lines(file), delimiter=";", skipinitialspace=True, restval=""))
    except csv.Error as err:
        raise DataError(
            f"{file}: no table of columns split by ';' ({err}). Fetch GTSRB_Final_Test_GT.zip again"
        ) from err
    if not rows or not {"Filename", "ClassId"} <= set(rows[0]):
        raise DataError(
            f"{file}: expected columns Filename and ClassId, split by ';'. Fetch GTSRB_Final_Test_GT.zip again"
        )
    held = SplitList(
        file, [key_of(row["Filename"]) for row in rows], [f"{_number(row['ClassId'], file):05d}" for row in rows]
    )
    tested = find(held, open_folder(test), classes)
    return target_of_parts(request, classes, {"train": find(listed, training, classes), "test": tested})


def open_places365(root: Path, request: TargetRequest) -> Target:
    """Places365-Standard with its lists: categories_places365.txt, places365_train_standard.txt, places365_val.txt, and
    data_256 or data_large, val_256 or val_large (also with torchvision's `_standard`). Validation serves as the test."""
    categories = {
        _number(row[1], root / "categories_places365.txt"): row[0]
        for row in read_rows(root / "categories_places365.txt", 2)
    }
    classes = tuple(categories[number].lstrip("/").partition("/")[2] for number in sorted(categories))
    splits = []
    for name, folders in (
        ("places365_train_standard", ("data_256_standard", "data_256", "data_large_standard", "data_large")),
        ("places365_val", ("val_256", "val_large")),
    ):
        file = root / f"{name}.txt"
        rows = read_rows(file, 2)
        labels = [_number(row[1], file) for row in rows]
        if labels and not 0 <= min(labels) <= max(labels) < len(classes):
            raise DataError(f"{file}: a class number beyond {len(classes) - 1}. Fetch the list again")
        listed = SplitList(file, [key_of(row[0].lstrip("/")) for row in rows], [classes[label] for label in labels])
        splits.append(find(listed, open_folder(_first(root / folder for folder in folders)), classes))
    return target_of_parts(request, classes, {"train": splits[0], "test": splits[1]}, note=_HELD_NOTE)


def _first(places: Iterable[Path]) -> Path:
    tried = list(places)
    found = next((place for place in tried if place.exists()), None)
    if found is None:
        names = ", ".join(sorted({place.name for place in tried}))
        raise DataError(
            f"{tried[0].parent}: none of {names} is there, but one is a part of this set. Unpack the archive again"
        )
    return found


def _number(text: str, file: Path) -> int:
    try:
        return int(text)
    except ValueError as err:
        raise DataError(f"{file}: expected a class number, found '{text}'. Unpack the archive again") from err
