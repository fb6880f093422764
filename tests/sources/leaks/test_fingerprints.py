"""The fingerprint of an image: what changes it and what does not."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from plada.common.progress import Progress
from plada.errors import Interrupted
from plada.sources.decode import decode
from plada.sources.formats.folder import FolderCollection, open_folder
from plada.sources.leaks.fingerprints import (
    FINGERPRINT_BYTES,
    FINGERPRINT_SIDE,
    collection_fingerprints,
    fingerprint,
    scan_fingerprints,
)
from plada.sources.manifest import content_hash
from tests.conftest import picture


def stored(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def test_cells_are_luma_row_by_row() -> None:
    cells = np.random.default_rng(0).integers(0, 255, (FINGERPRINT_SIDE, FINGERPRINT_SIDE), dtype=np.uint8)
    seen = fingerprint(Image.fromarray(cells.repeat(20, axis=0).repeat(40, axis=1)).convert("RGB"))
    assert seen.dtype == np.uint8 and seen.shape == (FINGERPRINT_BYTES,)
    assert np.corrcoef(seen, cells.reshape(-1))[0, 1] > 0.98


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (8, 8), (640, 480)])
def test_any_size_has_a_look(size: tuple[int, int]) -> None:
    assert fingerprint(picture(0).resize(size)).shape == (FINGERPRINT_BYTES,)


def test_copies_look_alike_and_others_do_not() -> None:
    original = picture(1, (200, 160))
    copies = [
        decode(stored(original, "JPEG", quality=50)),
        original.resize((64, 64), Image.Resampling.BICUBIC),
        original.convert("L").convert("RGB"),
    ]
    own = fingerprint(original).astype(int)
    assert max(abs(fingerprint(copy) - own).max() for copy in copies) <= 4
    assert abs(fingerprint(picture(2, (200, 160))) - own).max() > 40


def test_mirroring_permutes_the_look() -> None:
    original = picture(3, (64, 64))
    cells = fingerprint(original).reshape(FINGERPRINT_SIDE, FINGERPRINT_SIDE)
    assert np.array_equal(
        fingerprint(ImageOps.mirror(original)).reshape(FINGERPRINT_SIDE, FINGERPRINT_SIDE), cells[:, ::-1]
    )


def folder_of(root: Path, count: int) -> FolderCollection:
    """`count` pictures as PNG; the second is no image."""
    root.mkdir()
    for number in range(count):
        (root / f"{number}.png").write_bytes(b"no image" if number == 1 else stored(picture(number)))
    return open_folder(root)


def test_looks_of_some_images_keep_their_places(tmp_path: Path) -> None:
    collection = folder_of(tmp_path / "some", 4)
    (tmp_path / "some" / "3.png").unlink()
    events: list[Progress] = []
    made, readable = scan_fingerprints(collection, [2, 1, 0, 3], report=events.append)
    assert readable.tolist() == [True, False, True, False]
    assert np.array_equal(made.fingerprints[0], fingerprint(picture(2))) and np.array_equal(
        made.fingerprints[2], fingerprint(picture(0))
    )
    assert made.hashes[1].tobytes() == content_hash(b"no image")
    assert not made.fingerprints[[1, 3]].any() and not made.hashes[3].any()
    assert events[-1].done == 4


class Half:
    """A collection, interrupted behind its second chunk of two images."""

    def __init__(self, collection: FolderCollection) -> None:
        self.whole = collection
        self.location, self.keys, self.sizes = collection.location, collection.keys, collection.sizes
        self.read = collection.read

    def __len__(self) -> int:
        return len(self.whole)

    def stream(self, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
        if start >= 4:
            raise KeyboardInterrupt
        return self.whole.stream(start, stop)

    def part(self, start: int, stop: int) -> FolderCollection:
        return self.whole.part(start, stop)


def test_a_wrong_bit_in_kept_looks_that_are_not_whole_yet(tmp_path: Path) -> None:
    collection, path = folder_of(tmp_path / "all", 5), tmp_path / "looks.bin"
    right = np.array(collection_fingerprints(collection, tmp_path / "right.bin"))
    part = tmp_path / "looks.bin.part"
    for at in (0, 2 * FINGERPRINT_BYTES + 7):
        with pytest.raises(Interrupted):
            collection_fingerprints(Half(collection), path, chunk=2)
        damaged = bytearray(part.read_bytes())
        damaged[at] ^= 1
        part.write_bytes(damaged)
        assert np.array_equal(collection_fingerprints(collection, path, chunk=2), right)
        assert sorted(found.name for found in tmp_path.glob("looks*")) == ["looks.bin"]
        path.unlink()


def test_kept_looks_are_made_once_and_go_on_where_they_stopped(tmp_path: Path) -> None:
    collection, path = folder_of(tmp_path / "all", 5), tmp_path / "looks.bin"
    with pytest.raises(Interrupted):
        collection_fingerprints(Half(collection), path, chunk=2)
    assert not path.exists()
    (tmp_path / "all" / "0.png").unlink()  # done already: not read again
    fingerprints = collection_fingerprints(collection, path, chunk=2)
    assert np.array_equal(fingerprints[0], fingerprint(picture(0))) and np.array_equal(
        fingerprints[4], fingerprint(picture(4))
    )
    assert not fingerprints[1].any()
    (tmp_path / "all" / "4.png").unlink()
    assert np.array_equal(collection_fingerprints(collection, path), fingerprints)
