"""Checksums of files that are believed later, and that nothing else compares: BLAKE3, 32 bytes.

Three ways, by what the file is: JSON has a field `digest` over the rest; bytes are preceded by a mark and their digest
(`seal`); a file whose form leaves no room for that has a digest in a place that is zeros while it is computed.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blake3 import blake3

from plada.common.files import write_json

_MARK = b"plada sealed 1\n"
_SIZE = 32  # bytes of a digest
_PIECE = 1 << 24
NO_DIGEST = "0" * 2 * _SIZE


class Damaged(ValueError):
    """The checksum is not that of the bytes."""


def seal(data: bytes) -> bytes:
    """The bytes with a mark and their digest before them."""
    return _MARK + blake3(data).digest(_SIZE) + data


def unseal(data: bytes) -> bytes:
    """The bytes that were sealed.

    Raises:
        Damaged: they are others now, or were never sealed.
    """
    start = len(_MARK) + _SIZE
    if data[: len(_MARK)] != _MARK or blake3(data[start:]).digest(_SIZE) != data[len(_MARK) : start]:
        raise Damaged("its checksum is wrong")
    return data[start:]


def sealed_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with the digest of its other fields."""
    bare = {name: item for name, item in value.items() if name != "digest"}
    return {**bare, "digest": _json_digest(bare)}


def write_sealed_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object with the digest of its other fields, whole or not at all."""
    write_json(path, sealed_json(value))


def is_sealed(value: Mapping[str, Any]) -> bool:
    """Whether a JSON object has the digest of its other fields."""
    return value.get("digest") == _json_digest({name: item for name, item in value.items() if name != "digest"})


def read_sealed_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. One without a digest, of an older plada, is taken as it is.

    Raises:
        Damaged: its digest is not that of its other fields. OSError, ValueError: it cannot be read, or is something else.
    """
    value = json.loads(path.read_text())
    if not isinstance(value, dict) or ("digest" in value and not is_sealed(value)):
        raise Damaged("its checksum is wrong" if isinstance(value, dict) else "it is no JSON object")
    return value


def file_digest_b3(path: Path, size: int | None = None) -> bytes:
    """BLAKE3 of a file, or of its first `size` bytes."""
    whole, left = blake3(), path.stat().st_size if size is None else size
    with path.open("rb") as file:
        while left > 0 and (piece := file.read(min(_PIECE, left))):
            whole.update(piece)
            left -= len(piece)
    digest: bytes = whole.digest(_SIZE)
    return digest


def short_digest(data: bytes) -> str:
    """BLAKE3 of bytes, 16 bytes of it, hexadecimal: the name of a file by its content."""
    return str(blake3(data).hexdigest(16))


def short_file_digest(path: Path) -> str:
    """The same of a file."""
    return file_digest_b3(path).hex()[:32]


def append_digest(path: Path) -> None:
    """Put the digest of a file behind its bytes."""
    digest = file_digest_b3(path)
    with path.open("ab") as file:
        file.write(digest)


def ends_with_digest(path: Path, size: int) -> bool:
    """Whether a file has `size` bytes and behind them their digest."""
    try:
        if path.stat().st_size != size + _SIZE:
            return False
        with path.open("rb") as file:
            file.seek(size)
            return file.read() == file_digest_b3(path, size)
    except OSError:
        return False


def fill_digest(path: Path, before: bytes) -> None:
    """Put the digest of a file in the place of the zeros (NO_DIGEST) behind `before`."""
    at = path.read_bytes().index(before + NO_DIGEST.encode()) + len(before)
    digest = file_digest_b3(path).hex()
    with path.open("r+b") as file:
        file.seek(at)
        file.write(digest.encode())


def has_digest(path: Path, before: bytes) -> bool:
    """Whether the digest behind `before` is that of the file. Of a file without one it is not."""
    data = bytearray(path.read_bytes())
    at = data.find(before)
    if at < 0:
        return False
    place = slice(at + len(before), at + len(before) + 2 * _SIZE)
    kept = bytes(data[place])
    data[place] = NO_DIGEST.encode()
    return bool(kept == blake3(bytes(data)).digest(_SIZE).hex().encode())


def _json_digest(value: Mapping[str, Any]) -> str:
    return str(blake3(json.dumps(value, sort_keys=True).encode()).hexdigest(_SIZE))
