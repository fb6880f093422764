"""Targets that are published as arrays: CIFAR-10 and CIFAR-100, STL-10, MedMNIST."""

import re
from pathlib import Path

import numpy as np

from plada.common.arrays import I64, U8
from plada.errors import DataError, RequestError
from plada.sources.formats.arrays import (
    ArrayCollection,
    NpzPixels,
    Pixels,
    PixelsInMemory,
    RecordFiles,
    array_collection,
    check_there,
    load_member,
    open_records,
)
from plada.sources.formats.pickled import read_pickled
from plada.sources.targets.class_names import CLASS_NAMES
from plada.sources.targets.split_lists import read_lines, target_of_parts
from plada.sources.targets.target import Split, Target, TargetRequest

_CIFAR_PLANES = (3, 32, 32)
_STL_PLANES = (3, 96, 96)  # each plane by columns


def open_cifar_binary(root: Path, request: TargetRequest) -> Target:
    """CIFAR-10 or CIFAR-100, "binary version": data_batch_1.bin .. 5, test_batch.bin, batches.meta.txt; or train.bin,
    test.bin, fine_label_names.txt. Records of one label byte (CIFAR-100: coarse, fine) and 3 x 32 x 32 pixels."""
    fine = (root / "train.bin").is_file()
    files = {
        "train": [root / "train.bin"] if fine else [root / f"data_batch_{number}.bin" for number in range(1, 6)],
        "test": [root / "test.bin" if fine else root / "test_batch.bin"],
    }
    skip = 2 if fine else 1
    classes = tuple(read_lines(root / ("fine_label_names.txt" if fine else "batches.meta.txt")))
    pixels = {
        part: open_records(paths, skip=skip, stored=_CIFAR_PLANES, axes=(1, 2, 0)) for part, paths in files.items()
    }
    labels = {part: _label_bytes(records, skip - 1) for part, records in pixels.items()}
    return _arrays_target(root, request, classes, dict(pixels), labels)


def _label_bytes(records: RecordFiles, offset: int) -> I64:
    length = records.skip + int(np.prod(records.stored))
    columns = [
        np.memmap(path, np.uint8, "r", shape=(count, length))[:, offset]
        for path, count in zip(records.paths, records.counts, strict=True)
    ]
    return np.concatenate(columns).astype(np.int64)


def open_cifar_python(root: Path, request: TargetRequest) -> Target:
    """CIFAR's "python version": data_batch_1 .. 5, test_batch, batches.meta; or train, test, meta. These are pickles;
    only their arrays and lists are taken, and nothing in them is run. Raises DataError: a damaged file, or one with
    something else in it."""
    fine = (root / "meta").is_file()
    files = {
        "train": ["train"] if fine else [f"data_batch_{number}" for number in range(1, 6)],
        "test": ["test" if fine else "test_batch"],
    }
    meta = root / ("meta" if fine else "batches.meta")
    names = read_pickled(meta).get("fine_label_names" if fine else "label_names")
    if not isinstance(names, list) or not names:
        raise DataError(f"{meta}: holds no names of classes. Unpack the archive again")
    classes = tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names)
    pixels: dict[str, Pixels] = {}
    labels: dict[str, I64] = {}
    for part, parts in files.items():
        batches = [_cifar_batch(root / name, "fine_labels" if fine else "labels") for name in parts]
        pixels[part] = PixelsInMemory(np.concatenate([batch[0] for batch in batches]))
        labels[part] = np.concatenate([batch[1] for batch in batches])
    return _arrays_target(root, request, classes, pixels, labels)


def _cifar_batch(path: Path, field: str) -> tuple[U8, I64]:
    """Pixels [n, 32, 32, 3] and labels [n] of one file."""
    batch = read_pickled(path)
    data, numbers = batch.get("data"), batch.get(field)
    if (
        not isinstance(data, np.ndarray)
        or data.dtype != np.uint8
        or data.shape[1:] != (3072,)
        or not isinstance(numbers, list)
        or not all(type(number) is int and 0 <= number < 1 << 16 for number in numbers)
        or len(numbers) != len(data)
    ):
        raise DataError(
            f"{path}: expected rows of 3072 bytes and as many whole numbers ('data', '{field}'). Unpack the archive again"
        )
    return np.ascontiguousarray(data.reshape(-1, *_CIFAR_PLANES).transpose(0, 2, 3, 1)), np.array(numbers, np.int64)


def open_stl10(root: Path, request: TargetRequest) -> Target:
    """STL-10: train_X.bin, train_y.bin, test_X.bin, test_y.bin, class_names.txt. The unlabelled part is not used."""
    classes = tuple(read_lines(root / "class_names.txt"))
    pixels: dict[str, Pixels] = {}
    labels = {}
    for part in ("train", "test"):
        pixels[part] = open_records([root / f"{part}_X.bin"], skip=0, stored=_STL_PLANES, axes=(2, 1, 0))
        file = root / f"{part}_y.bin"
        check_there(file)
        labels[part] = np.fromfile(file, np.uint8).astype(np.int64) - 1
    return _arrays_target(root, request, classes, pixels, labels)


def find_medmnist(root: Path) -> dict[tuple[str, int], Path]:
    """(set, side of its images) to file, of the MedMNIST files in a folder, or of the one file that `root` is."""
    files = [root] if root.is_file() else sorted(root.glob("*mnist*.npz"))
    named = [(re.fullmatch(r"([a-z0-9]+mnist)(?:_(\d+))?\.npz", path.name), path) for path in files]
    return {(match[1], int(match[2] or 28)): path for match, path in named if match}


def open_medmnist(root: Path, request: TargetRequest) -> Target:
    """A two-dimensional MedMNIST set: NAME.npz (28 pixels) or NAME_64.npz, _128, _224; option size=28, 64, 128, 224.
    Raises RequestError: several sizes are there and none is asked for, or not the one that is. DataError: a damaged
    file; a set of volumes or of several labels an image."""
    found = find_medmnist(root)
    sets = sorted({name for name, _ in found})
    stem = request.name if request.name in sets else sets[0] if len(sets) == 1 else ""
    if not stem:
        raise RequestError(f"{root}: holds several sets ({', '.join(sets)}). Give the path of one file")
    there = {side: path for (name, side), path in found.items() if name == stem}
    wanted = request.options.get("size", str(next(iter(there))) if len(there) == 1 else "")
    file = {str(side): path for side, path in there.items()}.get(wanted)
    if file is None:
        sizes = ", ".join(map(str, sorted(there)))
        raise RequestError(
            f"{root}: holds the sizes {sizes}. Say which one: {stem}:size={min(there)}, or give a file's path"
        )
    names = {"train": "train", "validation": "val", "test": "test"}
    pixels: dict[str, Pixels] = {part: NpzPixels(file, f"{name}_images") for part, name in names.items()}
    labels = {part: load_member(file, f"{name}_labels") for part, name in names.items()}
    for part, found in labels.items():
        if found.ndim == 2 and found.shape[1] == 1:
            labels[part] = found[:, 0].astype(np.int64)
        elif found.ndim != 1:
            raise DataError(f"{file}: {found.shape[1:]} labels an image; only sets with one class an image are targets")
    count = 1 + max(int(found.max(initial=0)) for found in labels.values())
    classes = CLASS_NAMES.get(stem, tuple(str(number) for number in range(count)))
    note = f"images of {pixels['train'].shape[1]} pixels" if len(there) > 1 else ""
    return _arrays_target(file, request, classes, pixels, labels, note=note)


def _arrays_target(
    location: Path,
    request: TargetRequest,
    classes: tuple[str, ...],
    pixels: dict[str, Pixels],
    labels: dict[str, I64],
    *,
    note: str = "",
) -> Target:
    collection = array_collection(str(location.absolute()), pixels)
    parts = {part: _part(collection, part, found, classes) for part, found in labels.items()}
    return target_of_parts(request, classes, parts, note=note)


def _part(collection: ArrayCollection, part: str, labels: I64, classes: tuple[str, ...]) -> Split:
    rows = collection.rows(part)
    if len(rows) != len(labels):
        raise DataError(
            f"{collection.location}: {len(rows)} {part} images, but {len(labels)} labels. Unpack the archive again"
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(classes):
        raise DataError(
            f"{collection.location}: {part} labels {labels.min()} to {labels.max()}, but {len(classes)} classes. "
            "Unpack the archive again"
        )
    return Split(collection, rows, labels)
