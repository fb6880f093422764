"""A reference that grew: the new index takes over the rows of the old one, by key and content hash.

Positions are ranks of keys, so new images change the positions of old ones. The new table is written beside the old one, which
is used until the new one is whole.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from plada.common.arrays import I64, U8, Bools
from plada.errors import DataError, RequestError
from plada.indexer.builds import table_of
from plada.indexer.embed import EmbeddedRows
from plada.indexer.store import Ledger, Store, column_vectors, connect
from plada.sources.manifest import HASH_BYTES, binary_rows

_COLUMNS = ["key", "vector", "width", "height", "hash", "look"]


@dataclass(frozen=True, slots=True)
class RowMatch:
    """Which of some images were embedded before: `rows` int64 [n] of `table`, -1 where not; `hashes` uint8 [n, 16]: what
    their content was, zero where unknown."""

    table: Any
    rows: I64
    hashes: U8

    def fill(self, rows: EmbeddedRows, kept: Bools) -> None:
        """Take over what was known of the images that are `kept` bool [n]: those that still have their hash."""
        places = np.flatnonzero(kept)
        if not len(places):
            return
        old = self.table.take(self.rows[places]).combine_chunks().to_batches()[0]
        rows.vectors[places] = column_vectors(old.column("vector"))
        rows.width[places] = old.column("width").to_numpy()
        rows.height[places] = old.column("height").to_numpy()
        rows.fingerprints[places] = binary_rows(old.column("look"))


@dataclass(frozen=True, slots=True)
class FinishedRows:
    """The rows of a finished index, by key."""

    store: Store
    dataset: Any
    images: int

    def match(self, keys: Any) -> RowMatch:
        """What is known of the images with these keys: a pyarrow string array [n], chunked or not, rising."""
        with self.store.readable():
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
        return RowMatch(rows, places, hashes)

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


def finished_rows(store: Store, info: dict[str, Any]) -> FinishedRows:
    """The rows of a finished index.

    Their vectors and fingerprints are compared with the digests of index.json first: taken over, they would get new ones.

    Raises:
        RequestError: it was made by a plada that kept no fingerprints, which its rows would lack. DataError: they are damaged.
    """
    finished = Store(store.folder, table_of(info))
    with finished.readable():
        table = connect(store.folder).open_table(finished.table)
        table.checkout(info["version"])
        dataset = table.to_lance()
        columns = dataset.schema.names
    if "look" not in columns:
        raise RequestError(
            f"index '{info['name']}': of format {info['format']}, whose rows cannot be taken over. Run again with --restart "
            "instead of --append"
        )
    shards = info.get("shards", {})
    if "columns" in shards:
        ledger = Ledger(int(shards["rows"]))
        for batch in finished.batches(["position", "key", "hash", "vector", "look"]):
            ledger.add(batch)
        if ledger.digests() != shards["digests"] or any(
            ledger.alone[name] != digests for name, digests in shards["columns"].items()
        ):
            raise DataError(
                f"{store.folder}: rows of the index are not those that were written, and are not taken over; the disk has damaged "
                f"them. `plada index {info['name']} --check` says more; index again with --restart"
            )
    return FinishedRows(finished, dataset, int(info["images"]))
