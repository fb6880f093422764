"""Who sent a payload: Ed25519 keys, signing, and what a client may demand.

A signature covers every byte of the file but itself (docs/payload-format.md section 8).
"""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from plada.common.files import write_bytes
from plada.common.outputs import check_outputs, raise_output_error
from plada.common.packages import require
from plada.errors import RequestError, SignatureError
from plada.payload.container import FINGERPRINT_BYTES, Signature, Signer, read_container, with_signature


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """A new pair of keys.

    Attributes:
        private: File of the private key.
        public: File of the public key.
        fingerprint: The first 4 bytes of the SHA-256 of the public key, hexadecimal.
    """

    private: str
    public: str
    fingerprint: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def generate_keys(private: Path, public: Path) -> KeyPair:
    """Write a new private key (PEM, PKCS#8, not encrypted) and its public key (PEM).

    Raises:
        MissingExtra: no cryptography. RequestError: a file is there already, or cannot be made.
    """
    require("cryptography", extra="sign", purpose="signing")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    for path in (private, public):
        if os.path.lexists(path):
            raise RequestError(f"{path}: already there. A key is never overwritten; name another file")
    check_outputs(private, public)
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public_key = key.public_key()
    made = False
    try:
        private.parent.mkdir(parents=True, exist_ok=True)
        # Never readable by others, not even for a moment.
        handle = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        made = True
        with os.fdopen(handle, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        write_bytes(
            public, public_key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
    except BaseException as err:
        if made:  # neither an empty key nor half a pair
            with suppress(OSError):
                private.unlink()
        if isinstance(err, OSError):
            raise_output_error(private, err)
        raise
    return KeyPair(private=str(private), public=str(public), fingerprint=key_name(public_key.public_bytes_raw()))


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key: `public` are the 32 bytes of its public key, `sign(message)` gives 64 bytes."""

    public: bytes
    sign: Callable[[bytes], bytes]


def load_signer(path: str | Path) -> Signer:
    """What signs payloads with the private key in a PEM file; raises as load_signing_key does."""
    key = load_signing_key(path)
    return Signer(fingerprint(key.public), key.sign)


def load_signing_key(path: str | Path) -> SigningKey:
    """The private key in a PEM file.

    Raises:
        MissingExtra: no cryptography. RequestError: no such file, or not an unencrypted Ed25519 private key.
    """
    require("cryptography", extra="sign", purpose="signing")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError) as err:
        raise RequestError(f"{path}: not an unencrypted private key ({err}). Make one: plada keygen FILE") from err
    if not isinstance(key, Ed25519PrivateKey):
        raise RequestError(f"{path}: a private key of another kind; expected Ed25519. Make one: plada keygen FILE")
    return SigningKey(key.public_key().public_bytes_raw(), key.sign)


def sign_file(path: str | Path, signer: Signer) -> bytes:
    """The bytes of a payload, or of changes, with a signature in place of any that is there.

    Raises:
        RequestError: no such file. PayloadError: its subclass says what is wrong with it.
    """
    return with_signature(_read(path), signer)


def check_file_signature(data: bytes, public: str | Path | None, where: str | Path) -> None:
    """As check_signature, for the bytes of a whole file; `public` None demands nothing."""
    if public is not None:
        check_signature(read_container(data).signature, public, str(where))


def check_signature(signature: Signature | None, public: str | Path, where: str) -> None:
    """Refuse a file that is not signed by the owner of a public key (a PEM file).

    Raises:
        SignatureError: not signed, by another key, or the signature is not of these bytes.
        MissingExtra: no cryptography. RequestError: `public` is no Ed25519 public key.
    """
    key = read_public_key(public)
    if signature is None:
        raise SignatureError(
            f"{where}: not signed; a signature of {public} is required. Ask the sender for a signed file"
        )
    own = fingerprint(key)
    if signature.fingerprint != own:
        raise SignatureError(
            f"{where}: signed by key {signature.fingerprint.hex()}; required is {own.hex()} ({public}). Ask the sender for his key"
        )
    if not verifies(key, signature.signature, signature.message):
        raise SignatureError(
            f"{where}: the signature of key {own.hex()} is not of these bytes: somebody has changed the file. Do not use it"
        )


def read_public_key(path: str | Path) -> bytes:
    """The 32 bytes of the public key in a PEM file.

    Raises:
        MissingExtra: no cryptography. RequestError: no such file, or no Ed25519 public key.
    """
    require("cryptography", extra="sign", purpose="checking a signature")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(_read(path))
    except ValueError as err:
        raise RequestError(f"{path}: not a public key ({err}). Name the .pub file that `plada keygen` made") from err
    if not isinstance(key, Ed25519PublicKey):
        raise RequestError(f"{path}: a public key of another kind; expected Ed25519")
    raw: bytes = key.public_bytes_raw()
    return raw


def verifies(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the owner of a public key (32 bytes) has signed a message. Raises MissingExtra: no cryptography."""
    require("cryptography", extra="sign", purpose="checking a signature")
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):  # bytes that are no key sign nothing
        return False
    return True


def check_serial(serial: int, minimum: int, where: str) -> None:
    """Refuse what is older than something known already.

    Raises:
        SignatureError: the serial number is below `minimum`, or there is none (0).
    """
    if serial < minimum:
        found = f"serial number {serial}" if serial else "no serial number"
        raise SignatureError(
            f"{where}: has {found}; expected {minimum} or more. It is older than what you know: do not go back"
        )


def fingerprint(public: bytes) -> bytes:
    """The first 4 bytes of SHA-256 of a public key (32 bytes): whose signature it is."""
    return hashlib.sha256(public).digest()[:FINGERPRINT_BYTES]


def key_name(public: bytes) -> str:
    """A public key as messages call it: its fingerprint, hexadecimal."""
    return fingerprint(public).hex()


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as err:
        raise RequestError(f"{path}: cannot be read ({err.strerror})") from err
