"""A reference that grew: the new index takes over what the old one knows, by key and content hash.

Positions are ranks of keys, so that new images move the old ones. The new table is made beside the old one, in `growing`,
and takes its place when it is whole; until then the old index serves.
"""

import shutil
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from plada.errors import RequestError
from plada.indexer.embed import Rows
from plada.indexer.store import TABLE, Store, connect
from plada.sources.manifest import HASH_BYTES, binary_rows

GROWING = "growing"
_COLUMNS = ["key", "vector", "width", "height", "hash", "look"]


@dataclass(frozen=True, slots=True)
class Match:
    """Which of some images were embedded before: `rows` int64 [n] of `table`, -1 where not; `hashes` uint8 [n, 16]: what
    their content was, zero where unknown."""

    table: Any
    rows: npt.NDArray[np.int64]
    hashes: npt.NDArray[np.uint8]

    def fill(self, rows: Rows, kept: npt.NDArray[np.bool_]) -> None:
        """Take over what was known of the images that are `kept` bool [n]: those that still have their hash."""
        places = np.flatnonzero(kept)
        if not len(places):
            return
        old = self.table.take(self.rows[places]).combine_chunks().to_batches()[0]
        column = old.column("vector")
        rows.vectors[places] = column.flatten().to_numpy(zero_copy_only=False).reshape(len(places), -1)
        rows.width[places] = old.column("width").to_numpy()
        rows.height[places] = old.column("height").to_numpy()
        rows.looks[places] = binary_rows(old.column("look"))


@dataclass(frozen=True, slots=True)
class Known:
    """The rows of a finished index, by key."""

    dataset: Any
    images: int

    def match(self, keys: Any) -> Match:
        """What is known of the images with these keys: a pyarrow string array [n], chunked or not, rising."""
        first, last = (self._rank(keys[at].as_py()) for at in (0, len(keys) - 1))
        rows = self.dataset.scanner(
            columns=[*_COLUMNS], offset=first, limit=max(last + 1 - first, 1), scan_in_order=True
        ).to_table()
        # An image that could not be read has no vector: it is tried again.
        rows = rows.filter(pc.is_valid(rows["vector"]))
        found = pc.index_in(keys, value_set=rows["key"].combine_chunks())
        places = pc.fill_null(found, -1).to_numpy().astype(np.int64)
        hashes = np.zeros((len(keys), HASH_BYTES), np.uint8)
        if len(rows):
            hashes[places >= 0] = binary_rows(rows["hash"].combine_chunks())[places[places >= 0]]
        return Match(rows, places, hashes)

    def _rank(self, key: str) -> int:
        """Rows whose key is less than this one."""
        low, high = 0, self.images
        while low < high:
            middle = (low + high) // 2
            if self.dataset.take([middle], columns=["key"])["key"][0].as_py().encode() < key.encode():
                low = middle + 1
            else:
                high = middle
        return low


def known_rows(store: Store, info: dict[str, Any]) -> Known:
    """What a finished index knows.

    Raises:
        RequestError: it was made by a plada that kept no looks, which the new rows would lack.
    """
    table = connect(store.folder).open_table(TABLE)
    table.checkout(info["version"])
    dataset = table.to_lance()
    if "look" not in dataset.schema.names:
        raise RequestError(
            f"index '{info['name']}': of format {info['format']}, whose rows cannot be taken over. Run again with --restart "
            "instead of --append"
        )
    return Known(dataset, int(info["images"]))


def growing_store(store: Store) -> Store:
    """Where the next version of an index is made."""
    return Store(store.folder / GROWING)


def take_over(store: Store) -> None:
    """Let a finished `growing` take the place of the index; a stop in between is made good by calling this again."""
    growing = growing_store(store)
    if growing.info() is None:
        return
    store.info_path.unlink(missing_ok=True)
    table, made = store.folder / f"{TABLE}.lance", growing.folder / f"{TABLE}.lance"
    if made.exists():
        shutil.rmtree(table, ignore_errors=True)
        made.rename(table)
    shutil.rmtree(store.folder / "ann", ignore_errors=True)  # of the old rows
    growing.info_path.replace(store.info_path)
    shutil.rmtree(growing.folder, ignore_errors=True)
