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
from plada.payload.payload import Payload
from plada.payload.shared_context import SharedContext
from plada.trainer.payload_context import PayloadContext
from plada.trainer.payload_file import fetch, read_identity
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
    sent.save(tmp_path / "x.plada", "blocks", shared=SharedContext(np.array([0, 8, 16, 24])))
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


def test_a_file_url_is_a_path(path: Path, tmp_path: Path) -> None:
    odd = tmp_path / "a, b%20.plada"
    odd.write_bytes(path.read_bytes())
    assert fetch(odd.as_uri(), tmp_path) == fetch(odd, tmp_path) == path.read_bytes()
    with pytest.raises(RequestError, match=r"none\.plada: cannot be read \(No such file"):
        fetch(f"file://{tmp_path}/none.plada", tmp_path)


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
    assert len(fetch(path, tmp_path)) == len(data) + 1
    with pytest.raises(PayloadCorrupt, match="1 stray bytes"):
        read_payload(path)
    path.write_bytes(data[:6] + b"\xff\xff\xff\xff\3" + bytes(100))
    with pytest.raises(PayloadError):
        read_payload(path)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


def test_a_file_is_identified_without_its_reference(path: Path, sent: Payload, tmp_path: Path) -> None:
    header, signature = read_identity(path, context=PayloadContext(home=tmp_path))
    assert (header.reference, header.key_id, signature) == (24, sent.key_id, None)


def test_a_part_of_a_progressive_file(sent: Payload, path: Path) -> None:
    sent.save(path, shared=SharedContext(np.array([0, 8, 16, 24])), progressive="blocks", segments=3)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(PayloadTruncated):
        read_payload(path)
    found = read_payload(path, read=plada.ReadOptions(partial=True))
    assert found.segments == (2, 3)
    assert len(found) == 8
    assert np.isin(found.positions, sent.positions).all()
