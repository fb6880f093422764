"""The pack's file: what is written comes back mapped, a bad file is named, a pack of another reference is refused."""

import hashlib
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from plada.errors import (
    PayloadCorrupt,
    PayloadError,
    PayloadTruncated,
    PayloadUnsupported,
    ReferenceMismatch,
    RequestError,
    ResourceError,
)
from plada.payload.pack import HEADER, copy_pack, find_pack, installed_path, read_pack, summarise, write_pack

KEY = bytes(range(16))


def rows(images: int = 50, dimensions: int = 3, seed: int = 0) -> npt.NDArray[np.int8]:
    return np.random.default_rng(seed).integers(-127, 128, (images, dimensions), dtype=np.int8)


def written(path: Path, features: npt.NDArray[np.int8] | None = None, key: bytes = KEY) -> Path:
    body = rows() if features is None else features
    write_pack(path, np.array_split(body, 3), key_id=key, images=len(body), dimensions=body.shape[1])
    return path


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    return written(tmp_path / "some.pack")


def with_checksum(head: bytes) -> bytes:
    return head[:60] + struct.pack("<I", zlib.crc32(head[:60]))


def test_what_is_written_comes_back_mapped_and_read_only(pack: Path) -> None:
    opened = read_pack(pack, verify=True)
    assert np.array_equal(opened.features, rows())
    assert (len(opened), opened.dimensions, opened.key_id) == (50, 3, KEY)
    assert isinstance(opened.features, np.memmap)
    assert opened.features.ctypes.data % 64 == 0
    with pytest.raises(ValueError, match="read-only"):
        opened.features[0, 0] = 1


def test_the_bytes_are_those_of_the_document(pack: Path) -> None:
    data = pack.read_bytes()
    fixed = b"\x89PLP" + struct.pack("<BBHIHH", 1, 1, 64, 50, 3, 32) + KEY
    pack_id = hashlib.sha256(fixed + rows().tobytes()).digest()[:16]
    assert data == with_checksum(fixed + pack_id + bytes(12)) + rows().tobytes()
    assert read_pack(pack).pack_id == pack_id


def test_blocks_make_no_difference_and_every_field_makes_another_pack(tmp_path: Path, pack: Path) -> None:
    write_pack(tmp_path / "whole.pack", [rows()], key_id=KEY, images=50, dimensions=3)
    assert (tmp_path / "whole.pack").read_bytes() == pack.read_bytes()
    others = [
        written(tmp_path / "a", rows(seed=1)),
        written(tmp_path / "b", key=bytes(16)),
        written(tmp_path / "c", rows(30, 5)),
    ]
    assert len({read_pack(path).pack_id for path in [pack, *others]}) == 4


def test_every_truncation_is_named(pack: Path) -> None:
    data = pack.read_bytes()
    for cut in range(len(data)):
        pack.write_bytes(data[:cut])
        with pytest.raises(PayloadTruncated, match=r"some\.pack: "):
            read_pack(pack)


def test_every_flipped_bit_of_the_header_is_noticed_at_once_and_of_the_body_when_verified(pack: Path) -> None:
    data = pack.read_bytes()
    for bit in range(8 * len(data)):
        bad = bytearray(data)
        bad[bit // 8] ^= 1 << bit % 8
        pack.write_bytes(bad)
        with pytest.raises(PayloadError):
            read_pack(pack, verify=bit >= 8 * HEADER)


@pytest.mark.parametrize(
    ("at", "field", "kind"),
    [
        (4, b"\2", PayloadUnsupported),  # version
        (4, b"\0", PayloadCorrupt),
        (5, b"\2", PayloadCorrupt),  # kind of number
        (6, b"\x80\0", PayloadCorrupt),  # bytes of the header
        (8, bytes(4), PayloadCorrupt),  # no image
        (8, b"\xff" * 4, PayloadTruncated),  # four thousand million images
        (8, b"\1\0\0\0", PayloadCorrupt),  # fewer than there are
        (12, bytes(2), PayloadCorrupt),  # no feature
        (12, b"\1\x10", PayloadCorrupt),  # 4097
        (14, b"\1\0", PayloadCorrupt),  # scale
    ],
)
def test_a_header_that_promises_too_much_is_refused_before_anything_is_mapped(
    pack: Path, at: int, field: bytes, kind: type[PayloadError]
) -> None:
    data = pack.read_bytes()
    pack.write_bytes(with_checksum(data[:at] + field + data[at + len(field) : 64]) + data[64:])
    with pytest.raises(kind):
        read_pack(pack)


def test_what_is_no_pack_says_so(tmp_path: Path, pack: Path) -> None:
    with pytest.raises(RequestError, match="cannot be read"):
        read_pack(tmp_path / "missing.pack")
    pack.write_bytes(b"\x89PLD" + bytes(100))
    with pytest.raises(PayloadCorrupt, match="not a plada pack"):
        read_pack(pack)


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    place = tmp_path / "half.pack"
    for features, images in ((rows(49), 50), (rows(50, 4), 50), (rows().astype(np.int16), 50)):
        with pytest.raises(ValueError, match=r"expected|rows for"):
            write_pack(place, [features], key_id=KEY, images=images, dimensions=3)  # type: ignore[list-item]
    with pytest.raises(RequestError, match="expected 1 to 4096"):
        write_pack(place, [], key_id=KEY, images=1, dimensions=4097)
    assert not list(tmp_path.iterdir())


def test_a_pack_of_another_reference_is_refused_with_both_ids(pack: Path) -> None:
    opened = read_pack(pack)
    opened.check(key=KEY[:8], images=50)
    with pytest.raises(ReferenceMismatch, match=rf"{KEY[:8].hex()}.*{'ff' * 8}") as caught:
        opened.check(key=b"\xff" * 8, images=50)
    assert (caught.value.wanted, caught.value.found) == ("ff" * 8, KEY[:8].hex())
    with pytest.raises(ReferenceMismatch, match=r"pack of 50 images.*reference of 51"):
        opened.check(key=KEY, images=51)


def test_installing_twice_changes_nothing_and_mends_what_was_damaged(tmp_path: Path, pack: Path, home: Path) -> None:
    first = copy_pack(read_pack(pack), home)
    assert first.path == installed_path(home, KEY, first.pack_id) == home / "packs" / first.path.name
    assert first.path.name == f"{KEY.hex()}-{first.pack_id[:8].hex()}.pack"
    before = first.path.stat()
    assert copy_pack(read_pack(pack), home).path.stat().st_mtime_ns == before.st_mtime_ns
    assert copy_pack(first, home).path == first.path  # the installed file itself
    damaged = bytearray(pack.read_bytes())
    damaged[70] ^= 1
    first.path.write_bytes(damaged)
    copy_pack(read_pack(pack), home)
    assert first.path.read_bytes() == pack.read_bytes()
    first.path.write_bytes(written(tmp_path / "other", rows(seed=1)).read_bytes())  # whole, but another one
    copy_pack(read_pack(pack), home)
    assert first.path.read_bytes() == pack.read_bytes()
    assert [path.name for path in (home / "packs").iterdir()] == [first.path.name]


def test_a_damaged_pack_is_not_installed(pack: Path, home: Path) -> None:
    data = bytearray(pack.read_bytes())
    data[-1] ^= 1
    pack.write_bytes(data)
    with pytest.raises(PayloadCorrupt, match=r"some\.pack: the features are damaged"):
        copy_pack(read_pack(pack), home)
    assert not list((home / "packs").iterdir())


def test_a_full_disk_installs_nothing(pack: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ResourceError, match="cannot be written"):
        copy_pack(read_pack(pack), home)
    assert not list((home / "packs").iterdir())


def test_a_payloads_ids_find_its_pack(tmp_path: Path, home: Path) -> None:
    assert find_pack(home, KEY[:8]) is None
    one = copy_pack(read_pack(written(tmp_path / "one")), home)
    copy_pack(read_pack(written(tmp_path / "other", key=b"\xff" * 16)), home)
    for key, pack_id in ((KEY, None), (KEY[:8], None), (KEY[:8], one.pack_id[:8]), (KEY, one.pack_id)):
        found = find_pack(home, key, pack_id)
        assert found is not None
        assert found.pack_id == one.pack_id
    assert find_pack(home, KEY, bytes(8)) is None
    second = copy_pack(read_pack(written(tmp_path / "second", rows(seed=1))), home)
    with pytest.raises(RequestError, match="2 packs fit"):
        find_pack(home, KEY)
    found = find_pack(home, KEY, second.pack_id[:8])
    assert found is not None
    assert found.pack_id == second.pack_id


def test_a_pack_under_a_wrong_name_is_not_taken(tmp_path: Path, home: Path) -> None:
    one = copy_pack(read_pack(written(tmp_path / "one")), home)
    one.path.rename(installed_path(home, b"\xff" * 16, one.pack_id))
    with pytest.raises(ReferenceMismatch, match="not what its name says") as caught:
        find_pack(home, b"\xff" * 8)
    assert caught.value.found == f"{KEY.hex()} {one.pack_id.hex()}"


def test_a_summary_is_plain_values(pack: Path) -> None:
    opened = read_pack(pack)
    assert summarise(opened, reference="here", variance=0.5).to_dict() == {
        "path": str(pack), "bytes": pack.stat().st_size, "images": 50, "dimensions": 3, "key_id": KEY.hex(),
        "pack_id": opened.pack_id.hex(), "reference": "here", "variance": 0.5,
    }  # fmt: skip


def test_opening_reads_no_features(tmp_path: Path) -> None:
    """14.2 million images of 64 features; the file has a hole instead of 909 MB."""
    head = b"\x89PLP" + struct.pack("<BBHIHH", 1, 1, 64, 14_197_122, 64, 32) + KEY + bytes(16 + 12)
    path = tmp_path / "large.pack"
    with path.open("wb") as file:
        file.write(with_checksum(head))
        file.truncate(HEADER + 14_197_122 * 64)
    start = time.perf_counter()
    opened = read_pack(path)
    assert not opened.features[[0, 7_000_000, 14_197_121]].any()
    assert time.perf_counter() - start < 1
