"""`compare` against sets and dictionaries: whatever was removed, added or changed is counted, and the first is named."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plada.errors import DataError
from plada.sources.compare import compare
from plada.sources.scan import scan_manifest
from tests.conftest import picture


@dataclass(frozen=True)
class Kept:
    """Images in memory by key; those of `gone` are listed and cannot be read."""

    data: dict[str, bytes]
    gone: frozenset[str] = frozenset()
    location: str = "memory"

    @property
    def names(self) -> list[str]:
        return sorted(self.data, key=str.encode)

    @property
    def keys(self) -> Any:
        return pa.array(self.names, pa.string())

    @property
    def sizes(self) -> Any:
        return np.array([len(self.data[name]) for name in self.names], np.int64)

    def __len__(self) -> int:
        return len(self.data)

    def read(self, position: int) -> bytes:
        name = self.names[position]
        if name in self.gone:
            raise DataError(f"memory: {name} is gone")
        return self.data[name]

    def stream(self, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
        for position in range(start, stop):
            yield position, self.read(position)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Twelve pictures under names that sort by bytes otherwise than by letters."""
    place = tmp_path_factory.mktemp("images")
    names = ["a", "a/b", "a.c", "Z", "z", "é", "中", "0", "00", "b\U0001f600", "bz", "~"]
    found = {}
    for number, name in enumerate(names):
        picture(number, (12, 9)).save(place / f"{number}.png")
        found[name] = (place / f"{number}.png").read_bytes()
    return found


CHANGES = st.dictionaries(st.integers(0, 11), st.sampled_from(["missing", "size", "bytes", "gone"]), max_size=8)
ADDED = st.sets(st.sampled_from(["!", "A", "a/", "a/a", "m", "zz", "é/1", "\U0001f601"]), max_size=4)


@given(changes=CHANGES, added=ADDED)
@settings(max_examples=60)
def test_every_difference_is_counted(images: dict[str, bytes], changes: dict[int, str], added: set[str]) -> None:
    names = sorted(images, key=str.encode)
    here = dict(images)
    for place, what in changes.items():
        name = names[place]
        if what == "missing":
            del here[name]
        elif what == "size":
            here[name] += b"x"
        elif what == "bytes":
            here[name] = here[name][:-1] + bytes([here[name][-1] ^ 1])
    here |= dict.fromkeys(added, b"new")
    gone = frozenset(names[place] for place, what in changes.items() if what == "gone")
    with tempfile.TemporaryDirectory() as folder:
        manifest = scan_manifest(Kept(images), Path(folder) / "m.parquet")
        found = compare(Kept(here, gone), manifest, sample=None, workers=1)
        quick = compare(Kept(here, gone), manifest, sample=0, workers=1)
    count = list(changes.values()).count
    assert (found.missing, found.added) == (count("missing"), len(added))
    assert (found.other_size, found.other_bytes, found.gone) == (count("size"), count("bytes"), count("gone"))
    assert bool(found) == bool(changes or added)
    assert (quick.missing, quick.added, quick.other_size) == (found.missing, found.added, found.other_size)
    assert (quick.other_bytes, quick.gone, quick.hashed) == (0, 0, 0), "a check of keys and sizes reads no image"
    different = [*(names[place] for place in changes), *added]
    if different:
        assert found.first is not None
        assert found.first.partition(": ")[0] in different
    else:
        assert found.first is None


def test_a_sample_is_seeded_and_finds_what_it_looks_at(images: dict[str, bytes], tmp_path: Path) -> None:
    manifest = scan_manifest(Kept(images), tmp_path / "m.parquet")
    changed = Kept({name: data[:-1] + b"?" for name, data in images.items()})
    for seed in range(3):
        found = compare(changed, manifest, sample=5, seed=seed, workers=1)
        assert (found.hashed, found.other_bytes) == (5, 5)
    assert compare(changed, manifest, sample=100, workers=1).hashed == 12
