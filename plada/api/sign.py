"""`plada keygen` and `plada sign` as Python calls."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from plada.common.files import write_bytes
from plada.common.packages import require
from plada.errors import RequestError
from plada.payload.container import read_container, signed_again
from plada.payload.signature import _PURPOSE, _bytes_of, _fingerprint, load_signer


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


def sign(payload: str | Path, *, key: str | Path, out: str | Path | None = None) -> Signing:
    """Sign a payload file, or a file of changes, with a private key; a signature that is there is replaced.

    It is written to `out`, by default in its place.

    Raises:
        PayloadError: the file is bad. Others as load_signer.
    """
    signer, data = load_signer(key), _bytes_of(payload)
    made = signed_again(data, signer)
    write_bytes(Path(out if out is not None else payload), made)
    return Signing(
        payload=str(out if out is not None else payload),
        bytes=len(made),
        fingerprint=signer.fingerprint.hex(),
        serial=read_container(made).header.serial,
    )
