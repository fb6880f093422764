"""Manifests: read where they are asked, whole or not there, and made by a pass that can be stopped."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from plada.errors import DataError, Interrupted, RequestError
from plada.sources import scan
from plada.sources.formats.folder import open_folder
from plada.sources.image_header import size_from_header
from plada.sources.manifest import (
    Block,
    Manifest,
    ManifestWriter,
    _digest_place,
    _footer_digest,
    binary_rows,
    content_hash,
    content_id,
    key_id,
    load_manifest,
)
from plada.sources.scan import scan_manifest
from tests.conftest import picture

N = 10_000


def written(path: Path, n: int = N, block: int = 3000) -> Manifest:
    keys = pa.array([f"k{number:06d}" for number in range(n)])
    hashes = np.random.default_rng(0).integers(0, 256, (n, 16), dtype=np.uint8)
    with ManifestWriter(path) as writer:
        for start in range(0, n, block):
            rows = np.arange(start, min(start + block, n))
            status = [None if row % 3 == 0 else "readable" if row % 3 == 1 else "cut" for row in rows]
            numbers = rows.astype(np.int32)
            writer.write(Block(keys[start : start + block], rows + 7, hashes[rows], numbers, numbers * 2, status))
        assert writer.finish(key_id(keys)) == content_id(hashes)
    return load_manifest(path)


def test_a_wrong_bit_in_the_footer(tmp_path: Path) -> None:
    manifest = written(tmp_path / "m.parquet")
    path, whole = tmp_path / "x.parquet", (tmp_path / "m.parquet").read_bytes()
    start = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    places = [start + at for at in range(0, len(whole) - start, 7)]
    for wanted in (manifest.content_id, manifest.key_id):
        at = whole.index(wanted.hex().encode())
        places += [at, at + 31]
    for at in places:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            found = load_manifest(path)
        except DataError:
            continue
        assert (found.key_id, found.content_id, len(found)) == (manifest.key_id, manifest.content_id, N)
        assert found.find("k009999") == N - 1


@pytest.mark.parametrize("bad", [b"zz", b"\xff\xff"])
def test_an_id_that_is_no_number_is_refused(bad: bytes, tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    written(path, 10)
    data = path.read_bytes()
    identity = load_manifest(path).content_id.hex().encode()
    data = data.replace(identity, bad + identity[2:])
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    place = _digest_place(data[start:])
    path.write_bytes(data[: start + place.start] + _footer_digest(data[start:]) + data[start + place.stop :])
    with pytest.raises(DataError, match=r"manifest\.parquet: one of its ids is no hexadecimal number"):
        load_manifest(path)


def test_rows_are_found_by_position_and_by_key(tmp_path: Path) -> None:
    manifest = written(tmp_path / "m.parquet")
    hashes = np.concatenate([binary_rows(table.column("hash")) for table in manifest.blocks(["hash"])])
    assert len(manifest) == N
    for position in (0, 1, 2, 2999, 3000, 4095, 4096, 8192, N - 1):
        row = manifest.row(position)
        assert (row.position, row.key, row.size, row.width) == (position, f"k{position:06d}", position + 7, position)
        assert row.height == 2 * position
        assert row.status == (None, "readable", "cut")[position % 3]
        assert row.hash == hashes[position].tobytes() == manifest.hash_at(position)
        assert manifest.sizes_at([position, 0]).tolist() == [row.size, manifest.row(0).size]
        assert manifest.find(row.key) == position
    assert manifest.keys_at([4097, 3, 4097]) == ["k004097", "k000003", "k004097"]
    assert [manifest.find(key) for key in ("", "a", "k000000x", "k004095x", "z")] == [None] * 5
    with pytest.raises(RequestError, match="holds 0 to 9999"):
        manifest.row(N)
    with pytest.raises(RequestError, match="position -1"):
        manifest.hash_at(-1)
    with pytest.raises(RequestError, match=f"position {len(manifest)}:"):
        manifest.sizes_at([0, len(manifest)])
    manifest.check()


def test_other_rows_than_the_footer_says_are_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = written(tmp_path / "m.parquet", 8)
    monkeypatch.setattr(manifest, "_file", SimpleNamespace(
        metadata=manifest._file.metadata, num_row_groups=1, read_row_groups=lambda *_, **__: pa.table({"key": pa.array([], pa.string())}),
    ))  # fmt: skip
    for ask in (lambda: manifest.row(0), lambda: manifest.find("a"), lambda: manifest.keys, manifest.check):
        with pytest.raises(DataError, match="0 rows where its footer says 8"):
            ask()


def test_blocks_of_any_size_make_the_same_file(tmp_path: Path) -> None:
    for block in (1, 5000, N):
        written(tmp_path / f"{block}.parquet", block=block) if block > 1 else written(
            tmp_path / "1.parquet", n=N, block=999
        )
    one, *others = ((tmp_path / f"{block}.parquet").read_bytes() for block in (1, 5000, N))
    assert all(other == one for other in others)


def test_a_manifest_is_opened_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    written(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1  # a hash in the middle; the footer stays as it was
    path.write_bytes(data)
    manifest = load_manifest(path)
    assert manifest.row(0).key == "k000000"
    with pytest.raises(DataError, match=r"m\.parquet: is damaged"):
        manifest.check()


def test_every_cut_of_a_manifest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    written(path, n=50)
    whole = path.read_bytes()
    for cut in range(0, len(whole), 37):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match="not a readable manifest"):
            load_manifest(path)


def test_a_failure_while_writing_leaves_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="on the way"), ManifestWriter(tmp_path / "m.parquet"):
        raise RuntimeError("on the way")
    assert not list(tmp_path.iterdir())
    code = f"""
import resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from plada.errors import ResourceError
from tests.sources.test_manifest import written
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
try:
    written(Path({str(tmp_path)!r}) / "m.parquet")
except ResourceError as err:
    print(err)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "m.parquet: cannot be written (" in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_scan_goes_on_where_it_stopped(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scan_manifest(open_folder(pictures), tmp_path / "whole.parquet")
    hashed: list[bytes] = []

    def stopping(data: bytes) -> bytes:
        if len(hashed) == 13:
            raise KeyboardInterrupt
        hashed.append(data)
        return content_hash(data)

    monkeypatch.setattr(scan, "content_hash", stopping)
    path = tmp_path / "m.parquet"
    with pytest.raises(Interrupted, match="stopped with 10 of 24 images hashed and kept"):
        scan_manifest(open_folder(pictures), path, chunk=5, workers=1)
    assert not path.exists()
    hashed.clear()

    def counting(data: bytes) -> bytes:
        hashed.append(data)
        return content_hash(data)

    monkeypatch.setattr(scan, "content_hash", counting)
    again = scan_manifest(open_folder(pictures), path, chunk=5, workers=1)
    assert len(hashed) == 14
    assert path.read_bytes() == whole.path.read_bytes()
    assert again.content_id == whole.content_id
    assert sorted(file.name for file in tmp_path.iterdir() if file != pictures) == ["m.parquet", "whole.parquet"]


def test_a_chunk_that_is_damaged_is_hashed_again(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = scan_manifest(open_folder(pictures), tmp_path / "whole.parquet")
    finish = ManifestWriter.finish
    monkeypatch.setattr(ManifestWriter, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(Interrupted):
        scan_manifest(open_folder(pictures), tmp_path / "m.parquet", chunk=5)
    monkeypatch.setattr(ManifestWriter, "finish", finish)
    first, second, *_ = sorted(next(tmp_path.glob("*.part")).iterdir())
    first.write_bytes(first.read_bytes()[:-9])
    data = bytearray(second.read_bytes())
    data[40] ^= 255
    second.write_bytes(data)
    assert scan_manifest(open_folder(pictures), tmp_path / "m.parquet", chunk=5).content_id == whole.content_id


def test_a_file_that_changes_while_it_is_hashed_is_named(pictures: Path, tmp_path: Path) -> None:
    found = open_folder(pictures)
    path = pictures / "n0" / "image_00.png"
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(DataError, match=r"n0/image_00 had \d+ bytes when it was listed and has \d+ now"):
        scan_manifest(found, tmp_path / "m.parquet")
    path.unlink()
    with pytest.raises(DataError, match=r"image_00\.png: listed but cannot be read"):
        scan_manifest(found, tmp_path / "m.parquet")
    assert not (tmp_path / "m.parquet").exists()


@pytest.mark.filterwarnings("ignore::UserWarning")  # what PIL says of cut TIFFs
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("size", [(3, 200), (640, 17)])
def test_dimensions_are_those_of_the_decoded_image(kind: str, size: tuple[int, int], tmp_path: Path) -> None:
    for options in ({}, {"progressive": True, "exif": Image.Exif()}) if kind == "JPEG" else ({},):
        picture(0, size).save(tmp_path / "image", kind, **options)
        data = (tmp_path / "image").read_bytes()
        assert size_from_header(data) == size
        for cut in range(0, len(data), max(1, len(data) // 60)):
            assert size_from_header(data[:cut]) in (size, (0, 0))
    assert size_from_header(b"") == size_from_header(b"no image") == size_from_header(b"\xff\xd8no") == (0, 0)


def test_the_indexer_fills_in_what_decoding_tells(pictures: Path, home: Path) -> None:
    import plada

    (pictures / "n0" / "broken.jpg").write_bytes(b"\xff\xd8 not much of an image")
    hashed = plada.open_images(pictures).manifest
    assert {hashed.row(position).status for position in range(25)} == {None}
    plada.index(pictures, name="p", encoder="gradients")
    decoded = plada.open_images(pictures).manifest
    assert decoded.path == hashed.path
    assert (decoded.key_id, decoded.content_id) == (hashed.key_id, hashed.content_id)
    place = decoded.find("n0/broken")
    assert place is not None
    assert decoded.row(place).status not in (None, "readable")
    assert [decoded.row(p).status for p in range(25) if p != place] == ["readable"] * 24
    assert (decoded.row(place + 1).width, decoded.row(place + 1).height) == (40, 30)
