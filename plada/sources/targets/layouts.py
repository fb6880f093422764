"""The layouts of targets on disk: how each is recognised, and its reader."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from plada.errors import RequestError
from plada.sources.targets.array_layouts import (
    find_medmnist,
    open_cifar_binary,
    open_cifar_python,
    open_medmnist,
    open_stl10,
)
from plada.sources.targets.flowers102 import open_flowers102
from plada.sources.targets.food101 import open_food101
from plada.sources.targets.huggingface import find_parquet, open_parquet_target
from plada.sources.targets.split_folders import find_split_folders, looks_split
from plada.sources.targets.split_lists import (
    open_aircraft,
    open_cub,
    open_dtd,
    open_gtsrb,
    open_pets,
    open_places365,
    open_tiny_imagenet,
)
from plada.sources.targets.target import (
    Target,
    TargetRequest,
    looks_unsplit,
    open_class_folders,
    open_folder_target,
    open_unsplit_target,
)

BACKGROUND = "BACKGROUND_Google"  # Caltech-101's folder of clutter, no class


@dataclass(frozen=True, slots=True)
class Layout:
    """`is_here` looks at a few names only; `options` are those that a spec may give; `arrays` says that there are no
    image files, so that nothing but this reader makes a collection of it."""

    about: str
    is_here: Callable[[Path], bool]
    read: Callable[[Path, TargetRequest], Target]
    options: tuple[str, ...] = ()
    arrays: bool = False


def _has(*names: str) -> Callable[[Path], bool]:
    return lambda root: all((root / name).exists() for name in names)


def _is_gtsrb(root: Path) -> bool:
    base = root / "GTSRB" if (root / "GTSRB").is_dir() else root
    # A folder Training/ alone is anybody's.
    named = base != root or (base / "Final_Test").is_dir() or (base / "GT-final_test.csv").is_file()
    return (base / "Final_Training").is_dir() or (named and (base / "Training").is_dir())


def _read_crc(root: Path, request: TargetRequest) -> Target:
    test = root / "CRC-VAL-HE-7K"
    return open_class_folders(
        request.name, root / "NCT-CRC-HE-100K", None, test if test.is_dir() else None, seed=request.seed
    )


def _read_caltech101(root: Path, request: TargetRequest) -> Target:
    inner = root / "101_ObjectCategories"
    place = inner if inner.is_dir() else root
    left = (place / BACKGROUND).is_dir()
    note = f"{BACKGROUND} is left out" if left else ""
    return open_unsplit_target(
        place, name=request.name, seed=request.seed, leave_out=(BACKGROUND,) if left else (), note=note
    )


def _read_train_val(root: Path, request: TargetRequest) -> Target:
    parts = find_split_folders(root)
    if not request.validation_is_test or parts.test is not None:
        return open_folder_target(root, name=request.name, seed=request.seed)
    target = open_class_folders(request.name, parts.train, None, parts.validation, seed=request.seed)
    return target.noted("test: the published validation images")


def _read_folders(root: Path, request: TargetRequest) -> Target:
    return open_folder_target(root, name=request.name, seed=request.seed)


# In the order in which they are tried: the ones with files of their own first, plain folders last.
LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "food101": Layout("images/CLASS/*.jpg with meta/train.txt and meta/test.txt", _has("meta/train.txt"), open_food101),
        "dtd": Layout(
            "images/CLASS/*.jpg with labels/train1.txt, val1.txt, test1.txt (.. 10)",
            _has("images", "labels/train1.txt"), open_dtd, options=("partition",),
        ),
        "aircraft": Layout(
            "data/images/*.jpg with data/variants.txt and data/images_variant_train.txt, ..._val.txt, ..._test.txt",
            lambda root: any((root / place / "variants.txt").is_file() for place in ("data", ".")), open_aircraft,
        ),
        "flowers102": Layout("jpg/*.jpg with setid.mat and imagelabels.mat", _has("jpg", "setid.mat"), open_flowers102),
        "pets": Layout(
            "images/*.jpg with annotations/trainval.txt and annotations/test.txt",
            _has("images", "annotations/trainval.txt"), open_pets,
        ),
        "cub": Layout(
            "images/CLASS/*.jpg with images.txt, classes.txt, image_class_labels.txt, train_test_split.txt",
            _has("images.txt", "train_test_split.txt"), open_cub,
        ),
        "tiny-imagenet": Layout(
            "train/WNID/images/*.JPEG, val/images/*.JPEG with val/val_annotations.txt",
            _has("train", "val/val_annotations.txt"), open_tiny_imagenet,
        ),
        "gtsrb": Layout(
            "GTSRB/Final_Training/Images/CLASS/*.ppm (or GTSRB/Training), GTSRB/Final_Test/Images/*.ppm, GT-final_test.csv",
            _is_gtsrb, open_gtsrb,
        ),
        "places365": Layout(
            "data_256 or data_large, val_256 or val_large, with categories_places365.txt, places365_train_standard.txt, "
            "places365_val.txt",
            _has("categories_places365.txt", "places365_val.txt"), open_places365,
        ),
        "crc": Layout("NCT-CRC-HE-100K/CLASS/*.tif, CRC-VAL-HE-7K/CLASS/*.tif", _has("NCT-CRC-HE-100K"), _read_crc),
        "caltech101": Layout(
            f"101_ObjectCategories/CLASS/*.jpg; {BACKGROUND} is left out",
            lambda root: (root / "101_ObjectCategories").is_dir() or (root / BACKGROUND).is_dir(), _read_caltech101,
        ),
        "cifar-binary": Layout(
            "data_batch_1.bin .. data_batch_5.bin, test_batch.bin, batches.meta.txt; or train.bin, test.bin, "
            "fine_label_names.txt",
            lambda root: any((root / name).is_file() for name in ("data_batch_1.bin", "train.bin")),
            open_cifar_binary, arrays=True,
        ),
        "cifar-python": Layout(
            "data_batch_1 .. data_batch_5, test_batch, batches.meta (pickles); or train, test, meta",
            lambda root: (root / "batches.meta").is_file() or ((root / "meta").is_file() and (root / "train").is_file()),
            open_cifar_python, arrays=True,
        ),
        "stl10": Layout(
            "train_X.bin, train_y.bin, test_X.bin, test_y.bin, class_names.txt", _has("train_X.bin"), open_stl10, arrays=True
        ),
        "medmnist": Layout(
            "NAME.npz, NAME_64.npz, NAME_128.npz or NAME_224.npz", lambda root: bool(find_medmnist(root)), open_medmnist,
            options=("size",), arrays=True,
        ),
        "parquet": Layout(
            "data/train-*.parquet, data/test-*.parquet (Hugging Face)", lambda root: bool(find_parquet(root)),
            open_parquet_target, options=("label",), arrays=True,
        ),
        "train-val": Layout(
            "train/CLASS/*, val/CLASS/*",
            lambda root: (root / "train").is_dir() and any((root / name).is_dir() for name in ("val", "validation", "valid")),
            _read_train_val,
        ),
        "folders": Layout("train/CLASS/*, test/CLASS/*", looks_split, _read_folders),
        "classes": Layout("CLASS/*, split here", looks_unsplit, _read_folders),
    }
)  # fmt: skip


def find_layout(root: Path, names: tuple[str, ...] | None = None) -> str | None:
    """Name of the first layout that a folder (or file) has, among `names` or all; None where none fits."""
    for name in LAYOUTS if names is None else names:
        if root.is_file() and name != "medmnist":
            continue
        if LAYOUTS[name].is_here(root):
            return name
    return None


def read_layout(root: Path, layout: str, request: TargetRequest) -> Target:
    """Read a target. Raises RequestError: an option that this layout does not have. DataError: files are missing or
    damaged."""
    known = LAYOUTS[layout].options
    unknown = sorted(set(request.options) - set(known))
    if unknown:
        options = ", ".join(("split", "seed", *known))
        raise RequestError(
            f"{request.name}: no option '{unknown[0]}' for this set as it lies in {root}; there are {options}"
        )
    return LAYOUTS[layout].read(root, request)
