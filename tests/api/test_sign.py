"""Keys, signatures and serial numbers: what is not signed as required is refused, whatever was changed."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

import plada
from plada.errors import MissingExtra, PayloadError, RequestError, SignatureError
from plada.payload.container import read_container
from plada.payload.signature import check_signature, load_signer
from tests.payload.payloads import folders, made, same

pytest.importorskip("cryptography")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    plada.keygen(tmp_path / "key")
    return tmp_path / "key"


@pytest.fixture
def signed(tmp_path: Path, key: Path) -> Path:
    path = tmp_path / "x.plada"
    made(serial=4).save(path, signer=load_signer(key))
    return path


def test_a_pair_of_keys(tmp_path: Path) -> None:
    pair = plada.keygen(tmp_path / "new" / "key")
    private, public = Path(pair.private), Path(pair.public)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert public.name == "key.pub"
    assert private.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert public.read_bytes().startswith(b"-----BEGIN PUBLIC KEY-----")
    assert load_signer(private).fingerprint.hex() == pair.fingerprint == pair.to_dict()["fingerprint"]
    assert plada.keygen(tmp_path / "other").fingerprint != pair.fingerprint


def test_what_is_signed_is_read_and_what_is_not_is_refused(signed: Path, key: Path, tmp_path: Path) -> None:
    public = Path(f"{key}.pub")
    assert same(plada.read_payload(signed, read=plada.ReadOptions(require_signature=public)), made(serial=4))
    made().save(tmp_path / "plain.plada")
    with pytest.raises(SignatureError, match=r"plain\.plada: not signed; a signature of .*key\.pub is required"):
        plada.read_payload(tmp_path / "plain.plada", read=plada.ReadOptions(require_signature=public))
    other = plada.keygen(tmp_path / "other")
    with pytest.raises(SignatureError, match=f"required is {other.fingerprint}"):
        plada.read_payload(signed, read=plada.ReadOptions(require_signature=other.public))


def test_every_bit_is_covered(signed: Path, key: Path) -> None:
    """A changed bit is noticed by a checksum; where an attacker mends those, by the signature."""
    data = signed.read_bytes()
    found = read_container(data).signature
    assert found is not None
    begin = len(data) - 4 - 64
    assert found.message == b"plada signature 1\0" + data[:begin]
    assert found.signature == data[begin:-4]
    check_signature(found, f"{key}.pub", "here")
    for bit in range(0, 8 * len(data), 7):
        bad = bytearray(data)
        bad[bit // 8] ^= 1 << bit % 8
        signed.write_bytes(bad)
        with pytest.raises(PayloadError):
            plada.read_payload(signed, read=plada.ReadOptions(require_signature=f"{key}.pub"))


def test_signing_a_file(signed: Path, key: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.plada"
    made(serial=4).save(plain)
    done = plada.sign(plain, key=key, out=tmp_path / "out.plada")
    assert (tmp_path / "out.plada").read_bytes() == signed.read_bytes()
    assert (done.bytes, done.serial, done.to_dict()["payload"]) == (
        signed.stat().st_size,
        4,
        str(tmp_path / "out.plada"),
    )
    plada.sign(plain, key=key)
    assert plain.read_bytes() == signed.read_bytes()
    plada.sign(plain, key=plada.keygen(tmp_path / "other").private)
    assert plain.stat().st_size == signed.stat().st_size
    assert plain.read_bytes() != signed.read_bytes()


def test_what_cannot_be_signed(key: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be read"):
        plada.sign(tmp_path / "none.plada", key=key)
    (tmp_path / "bad.plada").write_bytes(b"\x89PLD\2junk")
    with pytest.raises(PayloadError):
        plada.sign(tmp_path / "bad.plada", key=key)


def test_progressive_files_are_signed_whole(key: Path, tmp_path: Path) -> None:
    path, public = tmp_path / "x.plada", f"{key}.pub"
    made().save(path, shared=folders(), progressive="blocks", segments=3, signer=load_signer(key))
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(PayloadError):
        plada.read_payload(path, read=plada.ReadOptions(partial=True, require_signature=public))


def test_there_is_no_going_back(signed: Path) -> None:
    assert plada.read_payload(signed, read=plada.ReadOptions(min_serial=4)).serial == 4
    with pytest.raises(SignatureError, match="has serial number 4; expected 5 or more"):
        plada.read_payload(signed, read=plada.ReadOptions(min_serial=5))


def test_without_cryptography_the_extra_is_named(tmp_path: Path) -> None:
    code = "import sys; sys.modules['cryptography'] = None; import plada; plada.keygen('k')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert "[sign]' (`plada doctor`" in done.stderr
    assert issubclass(MissingExtra, RequestError)
