"""`plada.keygen` and `plada.sign`: keys, and the signature of a payload file."""

from dataclasses import dataclass
from pathlib import Path

from plada.common.files import write_bytes
from plada.common.outputs import check_outputs
from plada.common.summary import Summary
from plada.payload.container import read_header
from plada.payload.signature import KeyPair, generate_keys, load_signer, sign_file


@dataclass(frozen=True, slots=True, kw_only=True)
class SignSummary(Summary):
    """A file that was signed.

    Attributes:
        payload: The signed file.
        bytes: Its size.
        fingerprint: The first 4 bytes of the SHA-256 of the public key, hexadecimal.
        serial: Serial number of the file, 0 for none.
    """

    payload: str
    bytes: int
    fingerprint: str
    serial: int


def keygen(out: str | Path) -> KeyPair:
    """Make a pair of Ed25519 keys to sign payloads with.

    Args:
        out: File of the private key (PEM, PKCS#8, not encrypted, readable by its owner alone). The public key (PEM) lies
            beside it, with .pub behind its name.

    Returns:
        Both files and the fingerprint of the public key.

    Raises:
        MissingExtra: The package cryptography is missing.
        RequestError: One of the files is there already, or cannot be made.

    Examples:
        >>> import plada
        >>> keys = plada.keygen("mykey")
        >>> Path(keys.public).name
        'mykey.pub'
    """
    return generate_keys(Path(out), Path(f"{out}.pub"))


def sign(payload: str | Path, *, key: str | Path, out: str | Path | None = None) -> SignSummary:
    """Sign a payload file, or a file of changes, every byte of it; a signature that is there is replaced.

    Args:
        payload: The file to sign.
        key: File of an Ed25519 private key, as `keygen` makes it.
        out: The signed file; None replaces `payload`.

    Returns:
        The signed file and the fingerprint of the key.

    Raises:
        RequestError: A file cannot be read, or `key` is no such key.
        PayloadError: Its subclass says what is wrong with the file.
        MissingExtra: The package cryptography is missing.

    Examples:
        >>> import plada
        >>> signed = plada.sign("digits.plada", key="server", out="signed.plada")
        >>> plada.inspect("signed.plada").signed
        True
    """
    target = payload if out is None else out
    check_outputs(target)
    signer = load_signer(key)
    signed = sign_file(payload, signer)
    write_bytes(Path(target), signed)
    return SignSummary(
        payload=str(target),
        bytes=len(signed),
        fingerprint=signer.fingerprint.hex(),
        serial=read_header(signed)[0].serial,
    )
