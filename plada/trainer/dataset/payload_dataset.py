"""A payload as a map-style data set: (image, label) by row, for the loaders of any framework.

`PayloadDataset` needs no torch: a loader wants `__len__`, `__getitem__` and, for whole batches, `__getitems__`. Where torch is
installed, `open_dataset` gives the same as a subclass of torch.utils.data.Dataset (torch_dataset.py), which other libraries ask
for by its type.
"""

import copy
import operator
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from plada.common.machine import cores
from plada.common.progress import Report, Tracker, silent
from plada.errors import DataError, ReferenceMismatch, Unreadable
from plada.payload.payload import Payload
from plada.sources.collection import read_many, take_from
from plada.sources.decode import decode, decode_within, without_warnings
from plada.sources.manifest import content_hash
from plada.trainer.payload_images import PayloadImages, ReferenceCopy, as_copy, open_payload_images

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    _Base = Dataset[tuple[Any, Any]]  # so that type checkers let a loader have it
else:
    _Base = object

Transform = Callable[[Any], Any]
_BATCH = 64  # images that `samples` reads together
_LEAVE_OUT = "leave out what is missing, changed or damaged with ReferenceCopy(location=..., skip_changed=True)"


class PayloadDataset(_Base):
    """A payload's images and labels, by row; rows are in the order of positions.

    It can be pickled and sent to any number of worker processes, started in any way: it holds the places, hashes and keys of the
    payload's own images, and opens files when it reads. Each image that is read is compared with its hash. Attributes are those of
    torchvision's data sets.

    Attributes:
        classes: Names of the classes, in the payload's order.
        class_to_idx: The label of each name.
        targets: The label of each row.
        keys: The image's name in the reference, of each row.
        positions: Its position there, int64 [n].
        transform: Applied to the PIL image (RGB) of a row; None leaves it as it is.
        target_transform: Applied to its label.
        left_out: Keys of images that are not among the rows, since they are missing, changed or unreadable.
        location: The copy of the reference.
    """

    def __init__(
        self,
        payload: Payload,
        images: PayloadImages,
        *,
        transform: Transform | None = None,
        target_transform: Transform | None = None,
        left_out: Sequence[str] = (),
    ) -> None:
        """Take what is needed of the images from their collection and manifest; nothing is read yet."""
        positions = payload.positions.tolist()
        places = payload.positions
        if images.places is not None:
            places = images.places[np.searchsorted(images.positions, payload.positions)]
        self.classes: list[str] = list(payload.classes)
        self.class_to_idx: dict[str, int] = {name: label for label, name in enumerate(payload.classes)}
        self.targets: list[int] = payload.labels.tolist()
        self.keys: list[str] = images.manifest.keys_at(positions)
        self.positions: npt.NDArray[np.int64] = payload.positions
        self.transform, self.target_transform = transform, target_transform
        self.left_out: tuple[str, ...] = tuple(left_out)
        self.location: str = images.location
        self._images = take_from(images.collection, np.maximum(places, 0))
        self._missing = frozenset(np.flatnonzero(places < 0).tolist())
        self._hashes = list(map(images.manifest.hash_at, positions))
        self._process = os.getpid()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        row = self._row(index)
        with without_warnings():
            image = self._decoded(row, self._read([row])[0])
        return self._item(row, image)

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, Any]]:
        """The items of a batch; its images are read together."""
        rows = list(map(self._row, indices))
        with without_warnings():  # once for all
            images = list(map(self._decoded, rows, self._read(rows)))
        return list(map(self._item, rows, images))

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return (self[row] for row in range(len(self)))

    def __repr__(self) -> str:
        left = f", {len(self.left_out)} left out" if self.left_out else ""
        return f"<{type(self).__name__}: {len(self)} images of {self.location}, {len(self.classes)} classes{left}>"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_process"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _process=os.getpid())

    def samples(self) -> Iterator[tuple[Image.Image, int, str]]:
        """(image, label, key) of each row in turn, without the transforms.

        Returns:
            An iterator; it reads a few images ahead.

        Raises:
            ReferenceMismatch: An image is missing or has changed.
            DataError: An image cannot be decoded.
        """
        for row, data in self._in_order():
            with without_warnings():
                image = self._decoded(row, data)
            yield image, self.targets[row], self.keys[row]

    def stored(self) -> Iterator[tuple[bytes, int, str]]:
        """(stored bytes, label, key) of each row in turn.

        Returns:
            An iterator; it reads a few images ahead.

        Raises:
            ReferenceMismatch: An image is missing or has changed.
        """
        for row, data in self._in_order():
            yield data, self.targets[row], self.keys[row]

    def _in_order(self) -> Iterator[tuple[int, bytes]]:
        for start in range(0, len(self), _BATCH):
            rows = range(start, min(start + _BATCH, len(self)))
            yield from zip(rows, self._read(rows), strict=True)

    def _row(self, index: int) -> int:
        row = operator.index(index)
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row}: the data set has {len(self)}")
        return row % len(self)

    def _item(self, row: int, image: Image.Image) -> tuple[Any, Any]:
        label = self.targets[row]
        return (
            image if self.transform is None else self.transform(image),
            label if self.target_transform is None else self.target_transform(label),
        )

    def _decoded(self, row: int, data: bytes) -> Image.Image:
        try:
            return decode_within(data)
        except Unreadable as err:
            key = self.keys[row]
            raise DataError(
                f"{self.location}: image {key} cannot be decoded ({err}). Restore it, or {_LEAVE_OUT}"
            ) from err

    def _read(self, rows: Sequence[int]) -> list[bytes]:
        """Stored bytes of some rows, each compared with its hash."""
        if self._process != os.getpid():
            # A copy in a forked process: connections and locks of the process that it comes from are not its own.
            self._images, self._process = copy.deepcopy(self._images), os.getpid()
        if self._missing and (lost := next((row for row in rows if row in self._missing), None)) is not None:
            key = self.keys[lost]
            raise ReferenceMismatch(f"{self.location}: image {key} is not in this copy. Restore it, or {_LEAVE_OUT}")
        try:
            found = read_many(self._images, rows)
        except DataError:
            found = [self._read_alone(row) for row in rows]  # to name the one
        for row, data in zip(rows, found, strict=True):
            if content_hash(data) != self._hashes[row]:
                key = self.keys[row]
                raise ReferenceMismatch(
                    f"{self.location}: image {key} has changed since the manifest was made. Restore it, or {_LEAVE_OUT}"
                )
        return found

    def _read_alone(self, row: int) -> bytes:
        try:
            return self._images.read(row)
        except DataError as err:
            key = self.keys[row]
            raise ReferenceMismatch(
                f"{self.location}: image {key} cannot be read ({err}). Restore it, or {_LEAVE_OUT}"
            ) from err


def open_dataset(
    payload: Payload,
    reference: str | Path | ReferenceCopy | None,
    *,
    transform: Transform | None = None,
    target_transform: Transform | None = None,
    home: Path,
    report: Report = silent,
) -> PayloadDataset:
    """A payload's images in the client's copy of the reference, whose identity is compared first.

    Where `reference` says `skip_changed`, every image is read now, and those that are missing, changed or unreadable are left out.

    Raises as `open_payload_images`, and DataError: no image is left.
    """
    where = as_copy(reference)
    images = open_payload_images(payload, where, home=home, report=report)
    left_out: tuple[str, ...] = ()
    if where.skip_changed:
        readable = _readable(payload, images, report)
        left_out = tuple(images.manifest.keys_at(payload.positions[~readable]))
        if not readable.any():
            raise DataError(f"{images.location}: none of the payload's {len(payload)} images can be read")
        payload = _rows_of(payload, readable)
        if left_out:
            Tracker("check", None, report).say(f"left out {len(left_out)} images; the first is {left_out[0]}")
    kind = PayloadDataset
    if find_spec("torch") is not None:
        from plada.trainer.dataset.torch_dataset import TorchPayloadDataset  # its class statement needs torch

        kind = TorchPayloadDataset
    return kind(payload, images, transform=transform, target_transform=target_transform, left_out=left_out)


def _readable(payload: Payload, images: PayloadImages, report: Report) -> npt.NDArray[np.bool_]:
    """Which images are there, unchanged, and can be decoded, bool [k]."""
    tracker = Tracker("check", len(payload), report)

    def check(position: int) -> bool:
        try:
            decode(images.read(position))
        except Unreadable:
            return False
        return True

    found = np.zeros(len(payload), np.bool_)
    with ThreadPoolExecutor(cores()) as pool:
        for row, good in enumerate(pool.map(check, payload.positions.tolist())):
            found[row] = good
            tracker.advance()
    return found


def _rows_of(payload: Payload, kept: npt.NDArray[np.bool_]) -> Payload:
    return Payload(
        payload.positions[kept], payload.labels[kept], payload.classes, payload.reference, payload.key_id, payload.content_id
    )  # fmt: skip
