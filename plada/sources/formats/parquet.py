"""Parquet files with a column of images, read by row group: Hugging Face's layout, or bytes beside a key column.

Parquet cannot read one value alone: an image costs its row group, so the last groups stay in memory. This is fast where rows
lie in the order of their keys, or in row groups of some hundred rows (Hugging Face's default).
"""

import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from plada.common.arrays import I64
from plada.errors import DataError
from plada.sources.formats.columns import ImageColumns, find_columns, is_binary, keys_of
from plada.sources.formats.listing import ListedCollection, ListingWriter
from plada.sources.formats.numbered import INCOMPLETE, accept_missing
from plada.sources.formats.tars import shards
from plada.sources.parquet_errors import PARQUET_ERRORS
from plada.sources.storage import Files, LocalFiles

_BUFFER, _LOOKED_AT = 1 << 20, 16  # bytes and rows that are read at a time to see whether there is an image
_HELD = 256 << 20  # bytes of row groups that are held, and at least the last one


@dataclass
class _Groups:
    """Row groups read last. Threads share it, and so do the parts of one collection that reach another process, where it
    starts empty."""

    token: str = field(default_factory=lambda: uuid.uuid4().hex)  # this opening of the collection
    held: OrderedDict[tuple[str, int], Any] = field(default_factory=OrderedDict)
    lock: Any = field(default_factory=threading.Lock)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (_groups_of, (self.token,))


@lru_cache(maxsize=2)
def _groups_of(token: str) -> _Groups:
    return _Groups(token)


@dataclass(frozen=True, slots=True)
class ParquetCollection(ListedCollection):
    """Images in parquet files; how many bytes each has is known only when it is read. A part of the listing is a file, an
    offset a row of it."""

    files: Files
    columns: ImageColumns
    starts: tuple[I64, ...]  # of each file: first row of each row group, and the number of rows
    groups: _Groups = field(default_factory=_Groups, repr=False, compare=False)

    def part(self, start: int, stop: int) -> "ParquetCollection":
        return self._taken(slice(start, stop))

    def take(self, positions: I64) -> "ParquetCollection":
        return self._taken(positions)

    def _taken(self, rows: slice | I64) -> "ParquetCollection":
        listing, used = self.listing.take(rows)
        return replace(self, listing=listing, starts=tuple(self.starts[part] for part in used))

    def read(self, position: int) -> bytes:
        part, row = int(self.listing.part_of[position]), int(self.listing.offsets[position])
        group = int(np.searchsorted(self.starts[part], row, side="right")) - 1
        return _bytes(self._group(part, group), row - int(self.starts[part][group]))

    def read_many(self, positions: Sequence[int]) -> list[bytes]:
        """As `read`, row group by row group."""
        order = np.lexsort((self.listing.offsets[positions], self.listing.part_of[positions]))
        found = {row: self.read(positions[row]) for row in order.tolist()}
        return [found[row] for row in range(len(found))]

    def stream(self, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
        parts, rows = self.listing.part_of[start:stop], self.listing.offsets[start:stop]
        order = np.lexsort((rows, parts))

        def group_of(place: int) -> tuple[int, int]:
            part = int(parts[place])
            return part, int(np.searchsorted(self.starts[part], rows[place], side="right")) - 1

        for (part, group), places in groupby(order.tolist(), key=group_of):
            images, first = self._group(part, group), int(self.starts[part][group])
            for place in places:
                yield start + place, _bytes(images, int(rows[place]) - first)

    def _group(self, part: int, group: int) -> Any:
        path = self.listing.parts[part]
        with self.groups.lock:
            held = self.groups.held
            if (path, group) not in held:
                held[path, group] = self._load(path, part, group)
                while len(held) > 1 and sum(array.nbytes for array in held.values()) > _HELD:
                    held.popitem(last=False)
            held.move_to_end((path, group))
            return held[path, group]

    def _load(self, path: str, part: int, group: int) -> Any:
        try:
            with self.files.open(path) as stream:
                file = pq.ParquetFile(stream)
                table = file.read_row_group(group, columns=[self.columns.image])
        except PARQUET_ERRORS as err:
            raise DataError(f"{self.files.show(path)}: cannot be read ({err}). Restore the file") from err
        if table.num_rows != int(np.diff(self.starts[part])[group]):
            raise DataError(f"{self.files.show(path)}: has other rows than when it was listed. Restore the file")
        first, *others = self.columns.image.split(".")
        try:
            column = table.column(first)
            for name in others:
                column = pa.chunked_array([chunk.field(name) for chunk in column.chunks])
        except (KeyError, AttributeError):
            column = None
        if column is None or not is_binary(column.type):
            raise DataError(
                f"{self.files.show(path)}: column {self.columns.image} does not hold images, as it did when it was listed or as it "
                "does in the files beside it. Restore the file"
            )
        return column


def _bytes(images: Any, row: int) -> bytes:
    # A null, such as a download that failed, keeps its position as an image of no bytes, which decode refuses.
    return images[row].as_py() or b""


def open_parquet(
    root: Path | Files, *, only: str = "", incomplete: bool = False, column: str = ""
) -> ParquetCollection:
    """List the parquet files below a root, at any depth; `only` names a single one, `column` the
    column of images. Images are not read for it. Raises
    DataError: no column of images or of names, two images with one key, a file that is no parquet or is missing
    (unless `incomplete`), no image with bytes."""
    files = LocalFiles(root.absolute()) if isinstance(root, Path) else root
    location = (f"column={column}:" if column else "") + (files.show(only) if only else files.location)
    columns: ImageColumns | None = None
    starts, some = [], False
    with ListingWriter(location, place=lambda part, row, key: f"{part} ({key}, row {row})") as writer:
        paths = sorted(path for path, _ in shards(files, ".parquet", writer.passed, only))
        if missing := "" if only else accept_missing(location, paths, incomplete):
            writer.remarks.append(missing)
            location = f"{INCOMPLETE}:{location}"
        for number, path in enumerate(paths):
            try:
                with files.open(path) as stream:
                    file = pq.ParquetFile(stream)
                    found = find_columns(file.schema_arrow, files.show(path), column)
                    columns = columns or found
                    if found != columns:
                        raise DataError(
                            f"{files.show(path)}: has its images in {found.image} and their names in {found.key}; {paths[0]} in "
                            f"{columns.image} and {columns.key}. Give files of one kind"
                        )
                    starts.append(group_starts(file))
                    _list(file, columns, files.show(path), number, writer)
                    some = some or holds_images(stream, columns.image)
            except PARQUET_ERRORS as err:
                raise DataError(f"{files.show(path)}: not a whole parquet file ({err}). Fetch it again") from err
        if writer.rows and not some:
            raise DataError(
                f"{location}: no image has bytes, at most a path. Embed the images in the files, or give the folder that "
                "they lie in"
            )
        listing = writer.finish(tuple(paths))
    assert columns is not None
    return ParquetCollection(location, listing, files, columns, tuple(starts))


def group_starts(file: Any) -> I64:
    """First row of each row group of an open parquet file, and the number of rows, int64 [groups + 1]."""
    rows = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    return np.cumsum([0, *rows], dtype=np.int64)


def holds_images(source: Any, column: str) -> bool:
    """Whether any value of a column of a parquet file, a path or an open file, is there; read up to the first that is.

    Statistics would say it without reading, but the library ends the process over a damaged footer when it is asked for them.
    """
    with pq.ParquetFile(source, buffer_size=_BUFFER) as file:
        for batch in file.iter_batches(_LOOKED_AT, columns=[column]):
            if not batch.num_columns:
                return False
            found = batch.column(0)
            for name in column.split(".")[1:]:
                found = found.field(name)
            if found.null_count < len(found):
                return True
    return False


def _list(file: Any, columns: ImageColumns, where: str, number: int, writer: ListingWriter) -> None:
    at = 0
    for batch in file.iter_batches(batch_size=65_536, columns=[columns.key]):
        column = batch.column(0)
        for name in columns.key.split(".")[1:]:
            column = column.field(name)
        writer.add_rows(keys_of(column, where, at), None, number, np.arange(at, at + len(column)))
        at += len(column)
