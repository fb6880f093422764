"""Who sent a payload: Ed25519 keys, signing, and what a client may demand. Lies beside api.py.

A signature covers every byte of the file but itself (docs/payload-format.md section 8).
"""

import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from plada.common.files import write_bytes
from plada.common.packages import require
from plada.errors import PayloadUnsupported, RequestError, SignatureError
from plada.payload.container import FINGERPRINT_BYTES, Signature, Signer, read_container, signed_again

_PURPOSE = "signing"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """A new pair of keys: where the private and the public one lie, and the first bytes of the public one's hash."""

    private: str
    public: str
    fingerprint: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """A file that was signed."""

    payload: str
    bytes: int
    fingerprint: str
    serial: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def keygen(out: str | Path) -> KeyPair:
    """Make a pair of Ed25519 keys: the private one in `out` (PEM, PKCS#8, for its owner's eyes alone), the public one in
    `out`.pub (PEM).

    Raises:
        MissingExtra: no cryptography. RequestError: a file of that name is there already, or cannot be made.
    """
    require("cryptography", extra="sign", purpose=_PURPOSE)
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private, public = Path(out), Path(f"{out}.pub")
    for path in (private, public):
        if path.exists():
            raise RequestError(f"{path}: already there. A key is never overwritten; name another file")
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    try:
        private.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(
            private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600
        )  # never readable by others, not even for a moment
    except OSError as err:
        raise RequestError(f"{private}: cannot be made ({err.strerror})") from err
    with os.fdopen(handle, "wb") as file:
        file.write(pem)
    write_bytes(
        public,
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
    )
    return KeyPair(private=str(private), public=str(public), fingerprint=_fingerprint(key.public_key()).hex())


def load_signer(path: str | Path) -> Signer:
    """What signs with the private key in a PEM file.

    Raises:
        MissingExtra: no cryptography. RequestError: no such file, or not an unencrypted Ed25519 private key.
    """
    require("cryptography", extra="sign", purpose=_PURPOSE)
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(_bytes_of(path), password=None)
    except (ValueError, TypeError) as err:
        raise RequestError(f"{path}: not an unencrypted private key ({err}). Make one: plada keygen FILE") from err
    if not isinstance(key, Ed25519PrivateKey):
        raise RequestError(f"{path}: a private key of another kind; expected Ed25519. Make one: plada keygen FILE")
    return Signer(_fingerprint(key.public_key()), key.sign)


def sign(payload: str | Path, *, key: str | Path, out: str | Path | None = None) -> Signing:
    """Sign a payload file, or a file of changes, with a private key; a signature that is there is replaced.

    It is written to `out`, by default in its place.

    Raises:
        PayloadError: the file is bad. PayloadUnsupported: of version 1, which has no signatures. Others as load_signer.
    """
    signer, data = load_signer(key), _bytes_of(payload)
    if data[4:5] == b"\1":
        raise PayloadUnsupported(
            f"{payload}: of version 1, which has no signatures. Write it again with `plada select`"
        )
    made = signed_again(data, signer)
    write_bytes(Path(out if out is not None else payload), made)
    return Signing(
        payload=str(out if out is not None else payload),
        bytes=len(made),
        fingerprint=signer.fingerprint.hex(),
        serial=read_container(made).header.serial,
    )


def check_signature(signature: Signature | None, public: str | Path, where: str) -> None:
    """Refuse a file that is not signed by the owner of a public key (a PEM file).

    Raises:
        SignatureError: not signed, by another key, or the signature is not of these bytes.
        MissingExtra: no cryptography. RequestError: `public` is no Ed25519 public key.
    """
    require("cryptography", extra="sign", purpose="checking a signature")
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(_bytes_of(public))
    except ValueError as err:
        raise RequestError(f"{public}: not a public key ({err}). Name the .pub file that `plada keygen` made") from err
    if not isinstance(key, Ed25519PublicKey):
        raise RequestError(f"{public}: a public key of another kind; expected Ed25519")
    if signature is None:
        raise SignatureError(
            f"{where}: not signed; a signature of {public} is required. Ask the sender for a signed file"
        )
    own = _fingerprint(key)
    if signature.fingerprint != own:
        raise SignatureError(
            f"{where}: signed by key {signature.fingerprint.hex()}; required is {own.hex()} ({public}). Ask the sender for his key"
        )
    try:
        key.verify(signature.signature, signature.message)
    except InvalidSignature as err:
        raise SignatureError(
            f"{where}: the signature of key {own.hex()} is not of these bytes: somebody has changed the file. Do not use it"
        ) from err


def check_serial(serial: int, least: int, where: str) -> None:
    """Refuse what is older than something known already.

    Raises:
        SignatureError: the serial number is below `least`, or there is none (0).
    """
    if serial < least:
        found = f"serial number {serial}" if serial else "no serial number"
        raise SignatureError(
            f"{where}: has {found}; expected {least} or more. It is older than what you know: do not go back"
        )


def _fingerprint(public: Any) -> bytes:
    return hashlib.sha256(public.public_bytes_raw()).digest()[:FINGERPRINT_BYTES]


def _bytes_of(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as err:
        raise RequestError(f"{path}: cannot be read ({err.strerror})") from err
