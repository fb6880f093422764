"""Reading where the reference is, and where it is not: what is needed is found, or named."""

import shutil
import tracemalloc
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import fsspec
import numpy as np
import pytest

import plada
from plada.api.payload import read_payload
from plada.errors import (
    PayloadCorrupt,
    PayloadError,
    PayloadTruncated,
    PayloadUnsupported,
    ReferenceMismatch,
    RequestError,
    SideMissing,
)
from plada.payload.container import Header
from plada.payload.pack import copy_pack, read_pack, write_pack
from plada.payload.payload import Payload
from plada.payload.shared_context import SharedContext
from plada.trainer.payload_file import PayloadContext, fetch, find_blocks, read_identity, shared_context_for
from tests.payload.payloads import made, same


@pytest.fixture
def sent(pictures: Path, home: Path) -> Payload:
    """A payload of the 24 pictures in three folders, whose manifest is in the home."""
    images = plada.open_images(pictures)
    positions = np.arange(0, 24, 2)
    return Payload(
        positions, positions // 8, ("a", "b", "c"), 24, images.manifest.key_id[:8], images.manifest.content_id[:8]
    )


@pytest.fixture
def path(sent: Payload, tmp_path: Path) -> Path:
    """Its file, such that it cannot be read without the manifest."""
    sent.save(tmp_path / "x.plada", "blocks", side=SharedContext(np.array([0, 8, 16, 24])))
    return tmp_path / "x.plada"


def test_the_manifest_in_the_home_is_enough(path: Path, sent: Payload, home: Path) -> None:
    assert same(read_payload(path), sent)
    assert list(home.glob("references/*/blocks-*.bin"))
    assert same(read_payload(path), sent)  # from the bounds that were kept
    assert same(read_payload(path, home=home), sent)


def test_a_copy_of_the_reference_is_enough(path: Path, sent: Payload, pictures: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    assert same(read_payload(path, reference=pictures, home=elsewhere), sent)
    assert not elsewhere.exists()  # no image was hashed for it
    with pytest.raises(
        SideMissing, match=r"x\.plada: needs the names.*--reference NAME or PATH.*--client-has nothing"
    ) as caught:
        read_payload(path, home=elsewhere)
    assert (caught.value.needs, caught.value.exit_code) == ("manifest", 3)
    (pictures / "n0" / "image_00.png").rename(pictures / "n0" / "other.png")
    with pytest.raises(ReferenceMismatch, match=r"labels a reference of 24 images.*here are 24 with key id"):
        read_payload(path, reference=pictures, home=elsewhere)
    (pictures / "n0" / "other.png").unlink()
    with pytest.raises(ReferenceMismatch, match="here are 23"):
        read_payload(path, reference=pictures, home=elsewhere)


def test_damaged_bounds_are_made_anew(path: Path, sent: Payload, home: Path) -> None:
    read_payload(path)
    kept = next(home.glob("references/*/blocks-*.bin"))
    whole = kept.read_bytes()
    for bad in (b"", b"junk", whole[:-1], whole[:8] + bytes([whole[8] ^ 1]) + whole[9:]):
        kept.write_bytes(bad)
        assert same(read_payload(path), sent)
        assert kept.read_bytes() == whole


def test_a_damaged_manifest_is_as_good_as_none(path: Path, sent: Payload, home: Path, pictures: Path) -> None:
    manifest = next(home.glob("references/*/manifest.parquet"))
    manifest.write_bytes(b"junk")
    with pytest.raises(SideMissing):
        read_payload(path)
    assert same(read_payload(path, reference=pictures), sent)


def test_the_manifest_of_another_collection_under_this_name_is_refused(
    path: Path, home: Path, target_folder: Path
) -> None:
    plada.open_images(target_folder / "train")
    mine, other = (next(home.glob(f"references/{name}*/manifest.parquet")) for name in ("pictures", "train"))
    shutil.copy(other, mine)
    with pytest.raises(SideMissing):
        read_payload(path)


def test_keys_without_folders_have_no_blocks(tmp_path: Path) -> None:
    from tests.conftest import picture

    flat = tmp_path / "flat"
    flat.mkdir()
    for number in range(3):
        picture(number).save(flat / f"{number}.png")
    images = plada.open_images(flat)
    header = Header(3, 1, images.manifest.key_id, images.manifest.content_id)
    around = PayloadContext(home=tmp_path / "home")
    assert find_blocks(header, around) is None
    assert shared_context_for(header, around).blocks is None


def write(path: Path, key: bytes, seed: int = 0, images: int = 24) -> Path:
    rows = np.random.default_rng(seed).integers(-127, 128, (images, 4), dtype=np.int8)
    write_pack(path, [rows], key_id=key.ljust(16, b"\0"), images=images, dimensions=4)
    return path


def test_a_pack_is_found_by_its_id(path: Path, sent: Payload, home: Path, tmp_path: Path) -> None:
    pack = write(tmp_path / "a.pack", sent.key_id)
    header, around = sent.header(), PayloadContext(home=home)
    with pytest.raises(SideMissing, match="plada index NAME --pack"):
        shared_context_for(header, around, "pack")
    given = shared_context_for(header, PayloadContext(home=home, pack=pack), "pack")
    installed = copy_pack(read_pack(pack), home)
    found = shared_context_for(header, around, "pack")
    assert found.pack_id == given.pack_id == installed.pack_id
    assert found.features is not None and given.blocks is not None
    assert shared_context_for(header, around, "manifest").features is None
    assert shared_context_for(header, around, "nothing").blocks is None
    with pytest.raises(RequestError, match="nothing, manifest, pack"):
        shared_context_for(header, around, "everything")
    other = write(tmp_path / "b.pack", sent.key_id, seed=1)
    with pytest.raises(ReferenceMismatch, match="the payload was made with"):
        shared_context_for(sent.header(installed.pack_id), PayloadContext(home=home, pack=other), "pack")
    stranger = write(tmp_path / "c.pack", bytes(8))
    with pytest.raises(ReferenceMismatch, match="a pack of 24 images"):
        shared_context_for(header, PayloadContext(home=home, pack=stranger), "pack")


def test_a_pack_that_is_not_here_is_named(sent: Payload, home: Path, tmp_path: Path) -> None:
    from plada.trainer.payload_file import extend_context

    header = sent.header(bytes(range(16)))
    with pytest.raises(
        SideMissing, match=r"needs the pack 0001020304050607.*install-pack FILE.*--client-has manifest"
    ) as caught:
        extend_context(SharedContext(), header, "pack", PayloadContext(home=home))
    assert caught.value.needs == "pack"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


def test_a_web_address_needs_no_other_package(path: Path, sent: Payload) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=path.parent)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        place = f"http://127.0.0.1:{server.server_port}"
        (path.parent / "short.plada").write_bytes(path.read_bytes()[:-1])
        assert same(read_payload(f"{place}/{path.name}"), sent)
        with pytest.raises(PayloadTruncated, match=r"http://.*/short\.plada: payload is"):
            read_payload(f"{place}/short.plada")
        with pytest.raises(RequestError, match=r"none\.plada: cannot be fetched \(.*404"):
            read_payload(f"{place}/none.plada")
        server.shutdown()
    with pytest.raises(RequestError, match="cannot be fetched"):
        read_payload(f"{place}/{path.name}")
    with pytest.raises(RequestError, match="cannot be fetched"):
        read_payload("http://")


def test_a_url_is_as_good_as_a_path(path: Path, sent: Payload) -> None:
    data = path.read_bytes()
    with fsspec.open("memory://payloads/x.plada", "wb") as file:
        file.write(data)
    assert same(read_payload("memory://payloads/x.plada"), sent)
    assert same(read_payload(f"file://{path}"), sent)
    with fsspec.open("memory://payloads/short.plada", "wb") as file:
        file.write(data[:30])
    with pytest.raises(PayloadTruncated, match=r"memory://payloads/short\.plada: "):
        read_payload("memory://payloads/short.plada")
    with pytest.raises(RequestError):
        read_payload("memory://payloads/none.plada")
    with pytest.raises(RequestError, match="a folder; expected a payload"):
        read_payload("memory://payloads")
    with pytest.raises(RequestError, match="cannot be read"):
        read_payload("nosuchscheme://x/y.plada")


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"none\.plada: cannot be read"):
        read_payload(tmp_path / "none.plada")
    with pytest.raises(RequestError, match="cannot be read"):
        read_payload(tmp_path)
    for data, kind in (
        (b"PK" + bytes(99), PayloadCorrupt),
        (b"\x89PLD\x09" + bytes(99), PayloadUnsupported),
        (b"\x89PLD\1" + bytes(99), PayloadUnsupported),
        (b"", PayloadTruncated),
    ):
        (tmp_path / "bad.plada").write_bytes(data)
        with pytest.raises(kind, match=r"bad\.plada: "):
            read_payload(tmp_path / "bad.plada")


def test_no_more_is_read_than_the_header_claims(tmp_path: Path) -> None:
    """A payload with 2 GB behind it, and one that claims a gigabyte that is not there."""
    path = tmp_path / "x.plada"
    data = made().encode()
    with path.open("wb") as file:
        file.write(data)
        file.truncate(2 << 30)
    tracemalloc.start()
    assert len(fetch(path)) == len(data) + 1
    with pytest.raises(PayloadCorrupt, match="1 stray bytes"):
        read_payload(path)
    path.write_bytes(data[:6] + b"\xff\xff\xff\xff\3" + bytes(100))
    with pytest.raises(PayloadError):
        read_payload(path)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


def test_a_file_is_identified_without_its_reference(path: Path, sent: Payload) -> None:
    header, signature = read_identity(path)
    assert (header.reference, header.key_id, signature) == (24, sent.key_id, None)


def test_a_part_of_a_progressive_file(sent: Payload, path: Path) -> None:
    sent.save(path, side=SharedContext(np.array([0, 8, 16, 24])), progressive="blocks", segments=3)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(PayloadTruncated):
        read_payload(path)
    found = read_payload(path, read=plada.ReadOptions(partial=True))
    assert found.segments == (2, 3)
    assert len(found) == 8
    assert np.isin(found.positions, sent.positions).all()
