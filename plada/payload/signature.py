"""Who sent a payload: Ed25519 keys, signing, and what a client may demand. Lies beside api.py.

A signature covers every byte of the file but itself (docs/payload-format.md section 8).
"""

import hashlib
from pathlib import Path
from typing import Any

from plada.common.packages import require
from plada.errors import RequestError, SignatureError
from plada.payload.container import FINGERPRINT_BYTES, Signature, Signer

_PURPOSE = "signing"


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
