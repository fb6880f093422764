"""Parts of collections, collections of nothing, and what becomes of a range in which something cannot be read."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from plada.errors import DataError
from plada.sources.collection import CollectionRows, CollectionSlice, part_of, read_many, take_from
from plada.sources.formats import listing, tars
from plada.sources.formats.detect import open_collection
from plada.sources.leaks.fingerprints import FINGERPRINT_BYTES, collection_fingerprints, fingerprint
from plada.sources.targets.target import EmptyCollection
from tests.conftest import picture
from tests.sources.test_collections import as_tars


@dataclass(frozen=True)
class Listed:
    """Images in memory; those in `gone` cannot be read."""

    data: tuple[bytes, ...]
    gone: frozenset[int] = frozenset()
    location: str = "memory"

    @property
    def keys(self) -> Any:
        return pa.array([f"k{number:03d}" for number in range(len(self.data))])

    @property
    def sizes(self) -> Any:
        return np.array([len(each) for each in self.data], np.int64)

    def __len__(self) -> int:
        return len(self.data)

    def read(self, position: int) -> bytes:
        if position in self.gone:
            raise DataError(f"memory: k{position:03d} is gone")
        return self.data[position]

    def stream(self, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
        for position in range(start, stop):
            yield position, self.read(position)


def pngs(count: int, place: Path) -> tuple[bytes, ...]:
    for number in range(count):
        picture(number).save(place / f"{number}.png")
    return tuple((place / f"{number}.png").read_bytes() for number in range(count))


def test_some_images_are_a_collection_of_their_own(pictures: Path, tmp_path: Path) -> None:
    wanted = np.array([17, 3, 21, 3])
    for whole in (open_collection(pictures), open_collection(as_tars(pictures, tmp_path / "tars"))):
        some = take_from(whole, wanted)
        assert some.keys.to_pylist() == [whole.keys[at].as_py() for at in wanted.tolist()]
        assert some.sizes.tolist() == whole.sizes[wanted].tolist()
        assert read_many(some, [2, 0, 2]) == [whole.read(21), whole.read(17), whole.read(21)]
    plain = Listed(tuple(bytes([number]) for number in range(30)))
    rows = take_from(plain, wanted)
    assert isinstance(rows, CollectionRows)
    assert rows.keys.to_pylist() == ["k017", "k003", "k021", "k003"]
    assert list(rows.stream(1, 3)) == [(1, b"\x03"), (2, b"\x15")]
    assert (len(rows), rows.sizes.tolist(), rows.location) == (4, [1] * 4, "memory")


def test_a_part_is_a_collection_of_its_own() -> None:
    whole = Listed(tuple(bytes([number]) * (number + 1) for number in range(10)))
    part = part_of(whole, 3, 7)
    assert isinstance(part, CollectionSlice)
    assert (len(part), part.location) == (4, "memory")
    assert part.keys.to_pylist() == ["k003", "k004", "k005", "k006"]
    assert part.sizes.tolist() == [4, 5, 6, 7]
    assert [part.read(at) for at in range(4)] == list(whole.data[3:7])
    assert list(part.stream(1, 3)) == [(1, whole.data[4]), (2, whole.data[5])]


def test_a_part_of_a_folder_has_its_images(pictures: Path) -> None:
    whole = open_collection(pictures)
    part = part_of(whole, 5, 11)
    assert part.keys.to_pylist() == whole.keys.to_pylist()[5:11]
    assert dict(part.stream(0, 6)) == {at: whole.read(5 + at) for at in range(6)}


def test_a_collection_of_nothing() -> None:
    nothing = EmptyCollection("classes:cat,dog")
    assert (len(nothing), len(nothing.keys), nothing.sizes.tolist(), list(nothing.stream(0, 0))) == (0, 0, [], [])
    with pytest.raises(DataError, match="classes:cat,dog: has no images"):
        nothing.read(0)


def test_looks_of_a_range_with_an_image_that_is_gone(tmp_path: Path) -> None:
    data = (*pngs(8, tmp_path), b"no image")
    kept = collection_fingerprints(Listed(data, frozenset({4})), tmp_path / "looks.bin", workers=1)
    for number in range(9):
        expected = fingerprint(picture(number)) if number not in (4, 8) else np.zeros(FINGERPRINT_BYTES, np.uint8)
        assert np.array_equal(kept[number], expected), number


def test_large_images_of_a_tar_are_read_alone(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = as_tars(pictures, tmp_path / "tars")
    plain = dict(open_collection(place).stream(0, 24))
    sizes = sorted(len(data) for data in plain.values())
    for alone in (1, sizes[12], sizes[-1] + 1):
        monkeypatch.setattr(tars, "_ALONE", alone)
        assert dict(open_collection(place).stream(0, 24)) == plain


def test_only_a_full_disk_is_said_to_be_one(tmp_path: Path) -> None:
    from plada.errors import ResourceError

    with pytest.raises(ResourceError, match="no room to list the collection"), listing._disk(tmp_path):
        raise OSError(28, "No space left on device")
    with pytest.raises(PermissionError), listing._disk(tmp_path):
        raise PermissionError(13, "Permission denied")
