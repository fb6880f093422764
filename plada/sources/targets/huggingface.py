"""A target in Hugging Face's parquet layout: files named by split, a column of images, a column of labels."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from plada.common.arrays import I64
from plada.errors import DataError
from plada.sources.collection import key_of
from plada.sources.formats.arrays import check_there
from plada.sources.formats.columns import ImageColumns, is_binary
from plada.sources.formats.listing import Listing
from plada.sources.formats.numbered import missing_files
from plada.sources.formats.parquet import ParquetCollection, group_starts, holds_images
from plada.sources.parquet_errors import PARQUET_ERRORS
from plada.sources.storage import LocalFiles
from plada.sources.targets.split_folders import EVALUATION, TEST, UNLABELLED, WORDS
from plada.sources.targets.split_lists import target_of_parts
from plada.sources.targets.target import Split, Target, TargetRequest

# What files and folders of a part are called, as Hugging Face's own reader knows them.
_PARTS = {
    name: TEST if part == EVALUATION else part
    for name, part in WORDS.items()
    if part != UNLABELLED and name != "trainval"
}


@dataclass(frozen=True, slots=True)
class LabelledColumns:
    """Where images and labels are: `image` is a struct of bytes and path (`nested`) or bytes; `names` are the classes."""

    image: str
    nested: bool
    label: str
    names: tuple[str, ...] | None


def find_parquet(root: Path) -> dict[str, list[Path]]:
    """Split to files, of data/SPLIT-*.parquet, SPLIT-*.parquet or SPLIT/*.parquet; empty where there is no train."""
    for place in (root / "data", root):
        found: dict[str, list[Path]] = {}
        for path in sorted(place.glob("*.parquet")):
            part = _PARTS.get(re.split(r"[-_.]", path.name)[0].casefold())
            if part is not None:
                found.setdefault(part, []).append(path)
        for name, part in _PARTS.items():
            if part not in found and (files := sorted((place / name).glob("*.parquet"))):
                found[part] = files
        if "train" in found:
            return found
    return {}


def open_parquet_target(root: Path, request: TargetRequest) -> Target:
    """Read the layout; option label=COLUMN where a table has several columns of classes. Raises DataError: no image or
    label column, a shard that is missing, labels without a class, damaged files."""
    files = find_parquet(root)
    for paths in files.values():
        if missing := missing_files(path.name for path in paths):
            raise DataError(f"{paths[0].parent}: files are missing: {missing}. Fetch the others")
        for path in paths:
            check_there(path)
    columns = find_labelled_columns(files["train"][0], request.options.get("label"))
    splits: dict[str, Split] = {}
    names = columns.names
    notes = []
    for part in ("train", "validation", "test"):
        if part in files:
            collection, order, values = _open_part(part, files[part], columns)
            if len(collection) and not any(_holds_images(file, collection.columns.image) for file in files[part]):
                raise DataError(
                    f"{files[part][0]}: no {part} image has bytes, at most a path. Embed the images in the files"
                )
            if names is None:
                names = tuple(sorted({str(value) for value in values if value is not None}, key=_natural))
            labels = _labels(values, names, columns, files[part][0])
            if part != "train" and len(labels) and bool((labels < 0).all()):
                notes.append(f"{part}: left out, it has no labels")
            elif bool((labels < 0).any()):
                raise DataError(
                    f"{files[part][0]}: {part} rows without a label. Leave them out, or fetch the set again"
                )
            else:
                splits[part] = Split(collection, order, labels)
    if request.validation_is_test and "test" not in splits and "validation" in splits:
        splits["test"] = splits.pop("validation")
        notes.append("test: the published validation images")
    return target_of_parts(request, names or (), splits, note="; ".join(notes))


def find_labelled_columns(file: Path, label: str | None = None) -> LabelledColumns:
    """Image and label column of a parquet file, by Hugging Face's own description of it, else by type and name. Raises
    DataError: no such column, or several that could be meant."""
    try:
        schema = pq.read_schema(file)
    except PARQUET_ERRORS as err:
        raise DataError(f"{file}: not a whole parquet file ({err}). Fetch it again") from err
    features = _described(schema, file)
    described = [name for name, kind in features.items() if _kind(kind) == "Image" and name in schema.names]
    images = [
        name for name in described if _is_image(schema.field(name).type) or is_binary(schema.field(name).type)
    ] or [entry.name for entry in schema if _is_image(entry.type) or (entry.name == "image" and is_binary(entry.type))]
    image = "image" if "image" in images else next(iter(images), None)
    if len(images) > 1 and image != "image":
        raise DataError(
            f"{file}: several columns of images: {', '.join(images)}. Call the one that is meant image, or leave the others out"
        )
    if image is None:
        raise DataError(f"{file}: no column of images (a struct of bytes and path) among {', '.join(schema.names)}")
    labelled = [name for name, kind in features.items() if _kind(kind) == "ClassLabel"]
    usual = [name for name in ("label", "labels", "fine_label") if name in schema.names]
    chosen = label or (
        labelled[0] if len(labelled) == 1 else next((name for name in usual if not labelled or name in labelled), None)
    )
    if chosen is None or chosen not in schema.names:
        raise DataError(
            f"{file}: no label column{f' {label}' if label else ''} among {', '.join(schema.names)}. Say which one it is "
            "with label=COLUMN behind a registered name, or call it label"
        )
    names = features[chosen].get("names") if chosen in labelled else None
    return LabelledColumns(image, _is_image(schema.field(image).type), chosen, tuple(names) if names else None)


def _open_part(part: str, files: list[Path], columns: LabelledColumns) -> tuple[ParquetCollection, I64, list[Any]]:
    """(images, positions in the order of the rows, label values in the same order).

    The key of an image is SPLIT/PATH where every row has a path of its own, else SPLIT/ROW.
    """
    paths: list[str | None] = []
    values: list[Any] = []
    starts = []
    for file in files:
        try:
            with pq.ParquetFile(file) as parquet:
                for name in (columns.image, columns.label):
                    if name not in parquet.schema_arrow.names:
                        raise DataError(f"{file}: has no column {name}, as the files beside it have. Fetch it again")
                table = parquet.read(columns=[columns.label, *_path_column(parquet, columns)])
                starts.append(group_starts(parquet))
            values.extend(table.column(columns.label).to_pylist())
            paths.extend(_paths(table, columns))
        except PARQUET_ERRORS as err:
            raise DataError(f"{file}: cannot be read ({err}). Fetch it again") from err
    named = [key_of(path) for path in paths if path]
    if len(named) == len(values) and len(set(named)) == len(named):
        keys = [f"{part}/{name}" for name in named]
    else:
        keys = [f"{part}/{row:08d}" for row in range(len(values))]
    order = np.asarray(sorted(range(len(keys)), key=keys.__getitem__), np.int64)
    rows = [int(bounds[-1]) for bounds in starts]
    folder = files[0].parent.absolute()
    listing = Listing(
        keys=pa.array([keys[row] for row in order.tolist()], pa.string()),
        sizes=np.full(len(keys), -1, np.int64),
        part_of=np.repeat(np.arange(len(files), dtype=np.int32), rows)[order],
        offsets=np.concatenate([np.arange(count) for count in rows])[order],
        parts=tuple(file.name for file in files),
    )
    image = ImageColumns(f"{columns.image}.bytes" if columns.nested else columns.image, key="")
    images = ParquetCollection(str(folder), listing, LocalFiles(folder), image, tuple(starts))
    positions = np.empty(len(order), np.int64)
    positions[order] = np.arange(len(order))
    return images, positions, values


def _described(schema: Any, file: Path) -> dict[str, Any]:
    """Hugging Face's description of the columns; empty where there is none."""
    try:
        described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features: Any = described.get("info", {}).get("features") or {}
        names = [kind["names"] for kind in features.values() if _kind(kind) == "ClassLabel" and kind.get("names")]
    except (ValueError, AttributeError) as err:
        raise DataError(
            f"{file}: Hugging Face's description of its columns is damaged ({err}). Fetch it again"
        ) from err
    if not all(isinstance(each, list) and all(isinstance(name, str) for name in each) for each in names):
        raise DataError(f"{file}: Hugging Face's description of its classes is no list of names. Fetch it again")
    return dict(features)


def _holds_images(file: Path, column: str) -> bool:
    try:
        return holds_images(file, column)
    except PARQUET_ERRORS as err:
        raise DataError(f"{file}: cannot be read ({err}). Fetch it again") from err


def _path_column(parquet: Any, columns: LabelledColumns) -> list[str]:
    kind = parquet.schema_arrow.field(columns.image).type
    return [f"{columns.image}.path"] if columns.nested and kind.get_field_index("path") >= 0 else []


def _paths(table: Any, columns: LabelledColumns) -> Iterator[str | None]:
    if columns.image not in table.column_names:
        yield from [None] * len(table)
    else:
        paths = (value and value.get("path") for value in table.column(columns.image).to_pylist())
        yield from (path if isinstance(path, str) else None for path in paths)


def _labels(values: list[Any], names: tuple[str, ...], columns: LabelledColumns, file: Path) -> I64:
    """Class indices; -1 where there is none."""
    if columns.names is not None:
        labels = np.array([-1 if value is None else int(value) for value in values], np.int64)
        if len(labels) and labels.max() >= len(names):
            raise DataError(f"{file}: label {labels.max()}, but {len(names)} class names. Fetch the file again")
        return labels
    index = {name: place for place, name in enumerate(names)}
    return np.array([-1 if value is None else index.get(str(value), -1) for value in values], np.int64)


def _natural(text: str) -> tuple[int, str]:
    return (int(text), "") if text.isdecimal() else (-1, text)


def _kind(feature: Any) -> str | None:
    return feature.get("_type") if isinstance(feature, dict) else None


def _is_image(kind: Any) -> bool:
    return bool(pa.types.is_struct(kind)) and kind.get_field_index("bytes") >= 0
