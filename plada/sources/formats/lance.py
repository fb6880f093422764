"""A Lance data set with a column of images and one of keys. A LanceDB table is one, too."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from plada.common.failures import first_line, panics_as_errors
from plada.common.packages import require
from plada.errors import DataError, RequestError
from plada.sources.formats.columns import ImageColumns, find_columns, keys_of
from plada.sources.formats.listing import ListedCollection, ListingWriter
from plada.sources.storage import open_files

_TAKE = 256  # images of one request when they are streamed


@dataclass(frozen=True, slots=True)
class LanceCollection(ListedCollection):
    """Images in one version of a Lance data set; how many bytes each has is known only when it is read. An offset of the
    listing is a row, in the data set's own order."""

    version: int
    columns: ImageColumns
    _opened: list[Any] = field(default_factory=list, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        # The open data set does not travel to another process; it is opened there anew.
        return LanceCollection, (self.location, self.listing, self.version, self.columns)

    def read(self, position: int) -> bytes:
        return self._take([position])[0]

    def read_many(self, positions: Sequence[int]) -> list[bytes]:
        """As `read`, in one request."""
        return self._take(list(positions))

    def stream(self, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
        order = start + np.argsort(self.listing.offsets[start:stop], kind="stable")
        for first in range(0, len(order), _TAKE):
            places = order[first : first + _TAKE].tolist()
            yield from zip(places, self._take(places), strict=True)

    def _take(self, places: list[int]) -> list[bytes]:
        if not self._opened:
            self._opened.append(_dataset(self.listing.parts[0], self.version))
        rows = self.listing.offsets[places]
        wanted = np.unique(rows).tolist()
        try:
            # Rows in rising order: Lance gives them so, whatever order they were asked for.
            with panics_as_errors():
                table = self._opened[0].take(wanted, columns=[self.columns.image, self.columns.key.partition(".")[0]])
        except Exception as err:  # the library raises many kinds
            raise DataError(f"{self.location}: cannot be read ({first_line(err)}). Restore the data set") from err
        images = dict(zip(wanted, table.column(0).to_pylist(), strict=True))
        found = [images[row] for row in rows.tolist()]
        return [data or b"" for data in found]  # a null keeps its position, as an image of no bytes


def open_lance(place: str, *, column: str = "") -> LanceCollection:
    """List the images of a Lance data set, those of `column` where there are several; its present version is the one that is read. Raises MissingExtra: pylance is
    not installed. RequestError: no data set there. DataError: no column of images or of names, two images with one
    key."""
    location = place if "://" in place else open_files(place)[0].location
    dataset = _dataset(location, None)
    columns = find_columns(dataset.schema, location, column)
    if "." in columns.image:
        raise DataError(f"{location}: expected a binary column of images beside a text column 'key', found a struct")
    at = 0
    with ListingWriter(location, place=lambda _, row, key: f"row {row} ({key})") as writer:
        for batch in dataset.to_batches(columns=[columns.key], batch_size=65_536, scan_in_order=True):
            writer.add_rows(keys_of(batch.column(0), location, at), None, 0, np.arange(at, at + batch.num_rows))
            at += batch.num_rows
        shown = f"column={column}:{location}" if column else location
        return LanceCollection(shown, writer.finish((location,)), int(dataset.version), columns)


def _dataset(location: str, version: int | None) -> Any:
    require("lance", extra="cpu", purpose="a Lance data set")
    import lance

    try:
        with panics_as_errors():
            dataset = lance.dataset(location, version=version)
            _ = dataset.schema  # where it is damaged, this panics
            return dataset
    except Exception as err:  # the library raises ValueError, OSError and its own
        raise RequestError(f"{location}: no Lance data set can be opened there ({first_line(err)})") from err
