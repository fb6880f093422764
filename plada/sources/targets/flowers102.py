"""Oxford 102 Flowers as published: jpg/image_00001.jpg .., the split in setid.mat, the labels in imagelabels.mat."""

from pathlib import Path
from typing import Any

import numpy as np

from plada.common.arrays import I64
from plada.common.failures import first_line
from plada.common.packages import require
from plada.errors import DataError
from plada.sources.formats.arrays import check_there
from plada.sources.formats.folder import open_folder
from plada.sources.targets.class_names import CLASS_NAMES
from plada.sources.targets.split_lists import SplitList, listed_target
from plada.sources.targets.target import Target, TargetRequest

CLASSES = CLASS_NAMES["flowers102"]  # the published files only number the classes


def open_flowers102(root: Path, request: TargetRequest) -> Target:
    """Read the published layout. Raises MissingExtra: scipy, which reads .mat files, is not installed. DataError: a
    file is missing or damaged, a listed image is not there."""
    require("scipy.io", extra="client", purpose="the split of Oxford 102 Flowers")
    labels = _numbers(root / "imagelabels.mat", "labels")
    if len(labels) and not 1 <= labels.min() <= labels.max() <= len(CLASSES):
        raise DataError(f"{root / 'imagelabels.mat'}: expected class numbers 1 to 102. Fetch the file again")
    parts = {}
    for part, member in {"train": "trnid", "validation": "valid", "test": "tstid"}.items():
        file = root / "setid.mat"
        ids = _numbers(file, member)
        if len(ids) and not 1 <= ids.min() <= ids.max() <= len(labels):
            raise DataError(f"{file}: names image {ids.max()}, imagelabels.mat has {len(labels)}. Fetch both again")
        names = [CLASSES[label - 1] for label in labels[ids - 1].tolist()]
        parts[part] = SplitList(file, [f"image_{number:05d}" for number in ids.tolist()], names)
    present = set().union(*(listed.classes for listed in parts.values()))
    classes = tuple(name for name in CLASSES if name in present)
    return listed_target(request, open_folder(root / "jpg"), classes, parts)


def _numbers(path: Path, member: str) -> I64:
    from scipy.io import loadmat  # type: ignore[import-untyped]

    check_there(path)
    try:
        content: Any = loadmat(path, variable_names=[member])
        return np.asarray(content[member], np.int64).ravel()
    except Exception as err:  # scipy raises almost anything on broken input
        raise DataError(
            f"{path}: holds no numbers called '{member}' ({first_line(err)}). Fetch the file again"
        ) from err
