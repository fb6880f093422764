"""The pack: small integer features of every image of a reference, installed once beside it, so that payloads shrink.

docs/pack-format.md is the authority on the file; where they differ, this is wrong. Opening maps the file and hashes
nothing: the hash is compared when a pack is installed.
"""

import hashlib
import os
import struct
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from plada.common.files import whole_file
from plada.errors import (
    PayloadCorrupt,
    PayloadError,
    PayloadTruncated,
    PayloadUnsupported,
    ReferenceMismatch,
    RequestError,
)

MAGIC = b"\x89PLP"
VERSION = 1
SCALE = 32  # the feature value that stands for one standard deviation of the first component
MAX_DIMENSIONS = 4096
_INT8 = 1
_FIXED = struct.Struct(
    "<4sBBHIHH16s"
)  # magic, version, kind of number, header bytes, images, dimensions, scale, key id
_DIGEST, _CHECK = 16, struct.Struct("<I")
HEADER = 64  # bytes: fixed fields, digest, 12 zeros, CRC-32 of all these; the features begin on a boundary of 64
_ZEROS = bytes(HEADER - _FIXED.size - _DIGEST - _CHECK.size)
_BLOCK = 1 << 24


@dataclass(frozen=True, slots=True, eq=False)
class Pack:
    """An opened pack. features: int8 [N, d], read only, mapped; a row of zeros is an image without features.

    `key_id` (16 bytes) says which reference, `pack_id` (16 bytes) which pack of it.
    """

    path: Path
    features: npt.NDArray[np.int8]
    key_id: bytes
    pack_id: bytes

    def __len__(self) -> int:
        return len(self.features)

    @property
    def dimensions(self) -> int:
        return int(self.features.shape[1])

    def check(self, *, key: bytes, images: int) -> None:
        """Refuse a pack of another reference; `key` may be cut (a payload's 8 bytes).

        Raises:
            ReferenceMismatch: another key id, or another number of images.
        """
        found = self.key_id[: len(key)]
        if found != key or len(self) != images:
            raise ReferenceMismatch(
                f"{self.path}: a pack of {len(self)} images with key id {found.hex()}; meant is a reference of {images} "
                f"with key id {key.hex()}. Ask the server for the pack of that reference",
                wanted=key.hex(),
                found=found.hex(),
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PackSummary:
    """A pack that was written or installed.

    Attributes:
        path: Its file.
        bytes: Its size.
        images: Number of images, N.
        dimensions: Features an image.
        key_id: Key id of the reference, hexadecimal.
        pack_id: Id of the pack, hexadecimal.
        reference: Where the reference's images are on this machine; None if none is known.
        variance: Share of the embeddings' variance that the features keep, 0 to 1; None where it was not computed.
    """

    path: str
    bytes: int
    images: int
    dimensions: int
    key_id: str
    pack_id: str
    reference: str | None
    variance: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def summarise(pack: Pack, *, reference: str | None, variance: float | None = None) -> PackSummary:
    """The summary of an opened pack."""
    return PackSummary(
        path=str(pack.path),
        bytes=HEADER + pack.features.size,
        images=len(pack),
        dimensions=pack.dimensions,
        key_id=pack.key_id.hex(),
        pack_id=pack.pack_id.hex(),
        reference=reference,
        variance=variance,
    )


def write_pack(
    path: Path, blocks: Iterable[npt.NDArray[np.int8]], *, key_id: bytes, images: int, dimensions: int
) -> bytes:
    """Write the rows of `blocks` (int8 [m, d] each, `images` rows in all, in order of position), whole or not at all;
    the pack id.

    Raises:
        RequestError: dimensions out of range. ResourceError: the disk is full or not writable.
    """
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise RequestError(f"a pack of {dimensions} dimensions: expected 1 to {MAX_DIMENSIONS}")
    fixed = _FIXED.pack(MAGIC, VERSION, _INT8, HEADER, images, dimensions, SCALE, key_id)
    digest, rows = hashlib.sha256(fixed), 0
    with whole_file(path) as part, part.open("wb") as file:
        file.write(bytes(HEADER))
        for block in blocks:
            if block.dtype != np.int8 or block.shape[1:] != (dimensions,):
                raise ValueError(f"block of {block.dtype} {block.shape}: expected int8 [m, {dimensions}]")
            body = np.ascontiguousarray(block).data
            digest.update(body)
            file.write(body)
            rows += len(block)
        if rows != images:
            raise ValueError(f"{rows} rows for {images} images")
        pack_id = digest.digest()[:_DIGEST]
        head = fixed + pack_id + _ZEROS
        file.seek(0)
        file.write(head + _CHECK.pack(zlib.crc32(head)))
    return pack_id


def read_pack(path: str | Path, *, verify: bool = False) -> Pack:
    """Open a pack; with `verify` its whole body is read and its hash compared.

    Raises:
        RequestError: no such file.
        PayloadError: its subclass says what is wrong (truncated, corrupt, of a newer format).
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            images, dimensions, key_id, pack_id = _read_header(file)
            if verify:
                _verify(file, pack_id)
            features = np.memmap(file, np.int8, "r", HEADER, (images, dimensions))
    except OSError as err:
        raise RequestError(f"{path}: cannot be read ({err.strerror})") from err
    except PayloadError as err:
        raise type(err)(f"{path}: {err}") from err
    return Pack(path, features, key_id, pack_id)


def _read_header(file: BinaryIO) -> tuple[int, int, bytes, bytes]:
    """(images, dimensions, key id, pack id), all compared with each other and with the size of the file."""
    head = file.read(HEADER)
    if head[: len(MAGIC)] != MAGIC[: len(head)]:
        raise PayloadCorrupt("not a plada pack: it does not begin with 89 50 4C 50")
    if len(head) > len(MAGIC) and head[len(MAGIC)] > VERSION:
        raise PayloadUnsupported(
            f"pack of version {head[len(MAGIC)]}; this plada reads up to {VERSION}. Install a newer plada"
        )
    if len(head) < HEADER:
        raise PayloadTruncated(f"pack is {len(head)} bytes; the header alone is {HEADER}. Fetch it again")
    if zlib.crc32(head[: -_CHECK.size]) != _CHECK.unpack(head[-_CHECK.size :])[0]:
        raise PayloadCorrupt("the header is damaged (checksum). Fetch the pack again")
    _, version, kind, length, images, dimensions, scale, key_id = _FIXED.unpack_from(head)
    known = (version, kind, length, scale) == (VERSION, _INT8, HEADER, SCALE)
    if not known or not images or not 1 <= dimensions <= MAX_DIMENSIONS:
        raise PayloadCorrupt("the header names no image, no dimension, or numbers of an unknown kind")
    wanted, found = HEADER + images * dimensions, os.fstat(file.fileno()).st_size
    if found < wanted:
        raise PayloadTruncated(f"pack is {found} of {wanted} bytes. Fetch it again")
    if found > wanted:
        raise PayloadCorrupt(f"{found - wanted} stray bytes after the end of the pack")
    return images, dimensions, key_id, head[_FIXED.size : _FIXED.size + _DIGEST]


def _verify(file: BinaryIO, pack_id: bytes) -> None:
    file.seek(0)
    digest = hashlib.sha256(file.read(HEADER)[: _FIXED.size])
    while block := file.read(_BLOCK):
        digest.update(block)
    if digest.digest()[:_DIGEST] != pack_id:
        raise PayloadCorrupt(
            f"the features are damaged: they hash to {digest.digest()[:_DIGEST].hex()}, the header says {pack_id.hex()}. "
            "Fetch the pack again"
        )


def packs_folder(home: Path) -> Path:
    """Where the packs of a home are kept."""
    return home / "packs"


def installed_path(home: Path, key_id: bytes, pack_id: bytes) -> Path:
    """Where a pack is kept: named by its key id and the first 8 bytes of its pack id."""
    return packs_folder(home) / f"{key_id.hex()}-{pack_id[:8].hex()}.pack"


def copy_pack(pack: Pack, home: Path) -> Pack:
    """Put a pack where `find_pack` looks, its hash compared on what arrives; one that is there already and whole stays.

    Raises:
        PayloadCorrupt: the features do not have the hash that the header names; nothing is installed.
        ResourceError: the disk is full or not writable.
    """
    place = installed_path(home, pack.key_id, pack.pack_id)
    if place.exists():
        try:
            there = read_pack(place, verify=True)
            if there.pack_id == pack.pack_id:
                return there
        except PayloadError:
            pass  # damaged where it lies: install it anew
    with whole_file(place) as part:
        with pack.path.open("rb") as source, part.open("wb") as file:
            while block := source.read(_BLOCK):
                file.write(block)
        try:
            read_pack(part, verify=True)
        except PayloadError as err:
            raise type(err)(str(err).replace(str(part), str(pack.path), 1)) from err
    return read_pack(place)


def find_pack(home: Path, key_id: bytes, pack_id: bytes | None = None) -> Pack | None:
    """The installed pack of a reference, opened, or None; both ids may be cut (a payload carries 8 bytes of each).

    Raises:
        RequestError: several fit and `pack_id` does not say which.
        PayloadError: it is damaged. ReferenceMismatch: the file is not the one that its name says.
    """
    found = sorted(packs_folder(home).glob(f"{key_id.hex()}*-{(pack_id or b'')[:8].hex()}*.pack"))
    if not found:
        return None
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise RequestError(
            f"{packs_folder(home)}: {len(found)} packs fit: {names}. Name one (--pack FILE), or remove those that are not used"
        )
    pack = read_pack(found[0])
    wanted = pack_id or b""
    if not pack.key_id.startswith(key_id) or not pack.pack_id.startswith(wanted):
        raise ReferenceMismatch(
            f"{pack.path}: holds pack {pack.pack_id.hex()} of key id {pack.key_id.hex()}, not what its name says. Delete it "
            "and install the pack again",
            wanted=f"{key_id.hex()} {wanted.hex()}",
            found=f"{pack.key_id.hex()} {pack.pack_id.hex()}",
        )
    return pack
