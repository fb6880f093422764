"""Keys, signatures and serial numbers of bytes: what is not signed as required is refused."""

from pathlib import Path

import pytest

from plada.errors import RequestError, ResourceError, SignatureError
from plada.payload.container import Signer, read_container, with_signature
from plada.payload.signature import (
    check_file_signature,
    check_serial,
    check_signature,
    generate_keys,
    load_signer,
    sign_file,
)
from tests.payload.payloads import made

pytest.importorskip("cryptography")


def public(key: Path) -> Path:
    return key.with_name(f"{key.name}.pub")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    generate_keys(tmp_path / "key", tmp_path / "key.pub")
    return tmp_path / "key"


def test_what_a_key_signs_its_public_key_verifies(key: Path, tmp_path: Path) -> None:
    other = generate_keys(tmp_path / "other", tmp_path / "other.pub")
    assert load_signer(other.private).fingerprint.hex() == other.fingerprint == other.to_dict()["fingerprint"]
    data = made().encode()
    (tmp_path / "x.plada").write_bytes(data)
    signed = sign_file(tmp_path / "x.plada", load_signer(key))
    assert signed == made().encode(signer=load_signer(key))
    check_file_signature(signed, public(key), "x.plada")
    check_file_signature(data, None, "x.plada")
    with pytest.raises(SignatureError, match=r"x\.plada: not signed; a signature of .*key\.pub is required"):
        check_file_signature(data, public(key), "x.plada")
    with pytest.raises(SignatureError, match=f"required is {other.fingerprint}"):
        check_file_signature(signed, other.public, "x.plada")


def test_a_key_is_never_overwritten(key: Path, tmp_path: Path) -> None:
    before = key.read_bytes()
    with pytest.raises(RequestError, match="already there"):
        generate_keys(key, public(key))
    key.unlink()
    with pytest.raises(RequestError, match=r"key\.pub: already there"):
        generate_keys(key, public(key))
    assert before.startswith(b"-----BEGIN")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RequestError, match="cannot be made"):
        generate_keys(tmp_path / "file" / "key", tmp_path / "x")


def test_mended_checksums_do_not_help(key: Path) -> None:
    """The labels of another payload under the signature of the first, all checksums right."""
    found = read_container(made().encode(signer=load_signer(key))).signature
    assert found is not None
    forged = with_signature(made(seed=1).encode(), Signer(found.fingerprint, lambda _: found.signature))
    with pytest.raises(SignatureError, match="somebody has changed the file"):
        check_file_signature(forged, public(key), "x.plada")


def test_what_is_no_key(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    (tmp_path / "junk").write_bytes(b"junk")
    other = X25519PrivateKey.generate()
    (tmp_path / "x25519").write_bytes(
        other.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (tmp_path / "x25519.pub").write_bytes(
        other.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    (tmp_path / "locked").write_bytes(
        other.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
        )
    )
    for name, words in (
        ("junk", "not an unencrypted"),
        ("x25519", "of another kind"),
        ("locked", "not an unencrypted"),
        ("none", "cannot be read"),
    ):
        with pytest.raises(RequestError, match=words):
            load_signer(tmp_path / name)
    for name, words in (("junk", "not a public key"), ("x25519.pub", "of another kind"), ("none", "cannot be read")):
        with pytest.raises(RequestError, match=words):
            check_signature(None, tmp_path / name, "x.plada")


def test_there_is_no_going_back() -> None:
    with pytest.raises(SignatureError, match="has no serial number"):
        check_serial(0, 1, "x")
    with pytest.raises(SignatureError, match="has serial number 4; expected 5 or more"):
        check_serial(4, 5, "x")
    check_serial(0, 0, "x")


@pytest.mark.parametrize(
    ("step", "failure", "raised"),
    [
        ("write_bytes", OSError(28, "No space left on device"), ResourceError),
        ("write_bytes", KeyboardInterrupt(), KeyboardInterrupt),
        ("os.open", OSError(28, "No space left on device"), ResourceError),
    ],
)
def test_half_a_pair_is_not_left(
    step: str, failure: BaseException, raised: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr("plada.payload.signature.check_outputs", lambda *_: None)
    monkeypatch.setattr(f"plada.payload.signature.{step}", fail)
    with pytest.raises(raised):
        generate_keys(tmp_path / "key", tmp_path / "key.pub")
    assert not list(tmp_path.iterdir())
