"""Payloads on their way out: the size is known before the file is made, and the right clients can read it."""

from pathlib import Path

import numpy as np
import pytest

import plada
from plada.api.payload import sender_for
from plada.errors import RequestError, SideMissing
from plada.payload.payload import Payload, parse_payload
from tests.payload.payloads import made, same


@pytest.fixture
def payload(pictures: Path) -> Payload:
    images = plada.open_images(pictures)
    positions = np.array([0, 1, 2, 3, 4, 5, 6, 7])
    ids = images.manifest.key_id, images.manifest.content_id
    return Payload(positions, np.zeros(8, np.int64), ("only", "other"), 24, *ids, rank=positions[::-1])


@pytest.mark.parametrize("client_has", ["nothing", "manifest"])
@pytest.mark.parametrize("progressive", [None, "blocks", "layers"])
def test_the_size_is_that_of_the_file(
    payload: Payload, tmp_path: Path, client_has: str, progressive: str | None
) -> None:
    out = tmp_path / "x.plada"
    written = plada.write_payload(payload, out, delivery=plada.Delivery(client_has=client_has, progressive=progressive))
    size = plada.encoded_size(payload, delivery=plada.Delivery(client_has=client_has, progressive=progressive))
    assert written == size == out.stat().st_size
    assert same(plada.read_payload(out), plada.read_payload(out, home=tmp_path / "home"))
    if client_has == "nothing":
        assert same(plada.read_payload(out, home=tmp_path / "nothing here"), parse_payload(out.read_bytes()).payload)


def test_a_signature_is_counted(payload: Payload, tmp_path: Path) -> None:
    key = plada.keygen(tmp_path / "key")
    size = plada.encoded_size(payload, delivery=plada.Delivery(sign=key.private))
    assert size == plada.write_payload(payload, tmp_path / "x.plada", delivery=plada.Delivery(sign=key.private))
    assert size - plada.encoded_size(payload) in (75, 76)
    assert len(plada.read_payload(tmp_path / "x.plada", read=plada.ReadOptions(require_signature=key.public))) == 8


def test_a_reference_that_is_not_known_here_gives_files_that_all_can_read(tmp_path: Path) -> None:
    sender = sender_for(made().header(), home=tmp_path)
    assert sender.shared.blocks is None
    assert same(parse_payload(sender.encode(made())).payload, made())
    assert sender.coder(made()) == made().coder()
    with pytest.raises(SideMissing):
        sender_for(made().header(), plada.Delivery(client_has="pack"), home=tmp_path)
    with pytest.raises(RequestError):
        sender_for(made().header(), plada.Delivery(client_has="much"), home=tmp_path)
