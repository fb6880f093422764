"""What this machine knows beside a payload: the folders of its reference's keys, and packs."""

import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from plada.common.files import write_bytes
from plada.errors import DataError, ReferenceMismatch, RequestError, ResourceError, SideMissing
from plada.payload.container import Header
from plada.payload.pack import Pack, find_pack, read_pack
from plada.payload.shared_context import SharedContext
from plada.sources.folder_runs import folder_bounds
from plada.sources.manifest import Manifest, key_id, open_manifest
from plada.sources.reference import kept_manifests
from plada.sources.registry import open_source

CLIENT_HAS = ("nothing", "manifest", "pack")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadContext:
    """Where to look for what a payload needs: a home, a copy of the reference (a name or place), a pack's file, the server's
    manifest."""

    home: Path
    reference: str | Path | None = None
    pack: str | Path | None = None
    manifest: str | Path | None = None


def read_with_context(read: Callable[[SharedContext], T], header: Header, context: PayloadContext) -> T:
    """What `read` gives, as soon as it has what it needs: it is called again with each thing that it says is missing.

    Raises:
        SideMissing: something is not here. ReferenceMismatch: another reference or pack is. What `read` raises.
    """
    shared = SharedContext()
    while True:
        try:
            return read(shared)
        except SideMissing as missing:
            shared = extend_shared_context(shared, header, missing.needs, context)


def extend_shared_context(shared: SharedContext, header: Header, needs: str, context: PayloadContext) -> SharedContext:
    """`shared` with the manifest's blocks, or the pack, that a payload with this header needs.

    Raises:
        SideMissing: it is not here (or was given already, and did not help). ReferenceMismatch: another one is.
    """
    if needs == "manifest" and shared.blocks is None:
        blocks = find_folder_bounds(header, context)
        if blocks is not None:
            return replace(shared, blocks=blocks)
    if needs == "pack" and shared.features is None:
        pack = find_pack_of(header, context)
        if pack is not None:
            return replace(shared, features=pack.features, pack_id=pack.pack_id)
    if needs == "pack":
        raise SideMissing(
            f"needs the pack {header.pack_id.hex()} of the reference with key id {header.key_id.hex()}, which is not "
            "installed here. Get it from the sender once: plada install-pack FILE; or ask for a payload without one (--client-has manifest)",
            needs=needs,
        )
    raise SideMissing(
        f"needs the names of its reference's images (key id {header.key_id.hex()}, {header.reference} images), and none here "
        "are known to be those. Say where the images are: --reference NAME or PATH; or ask for a payload that any client can read (--client-has nothing)",
        needs=needs,
    )


def find_shared_context(header: Header, context: PayloadContext, client_has: str = "manifest") -> SharedContext:
    """What a client is taken to know beside a payload with this header, as far as this machine knows it too.

    `client_has`: nothing, manifest, or pack (which is never there without a manifest).

    Raises:
        RequestError: no such kind. SideMissing: a pack is to be used, and none of this reference is here.
    """
    if client_has not in CLIENT_HAS:
        raise RequestError(f"client-has '{client_has}': expected one of {', '.join(CLIENT_HAS)}")
    if client_has == "nothing":
        return SharedContext()
    shared = SharedContext(find_folder_bounds(header, context))
    if client_has == "pack":
        pack = find_pack_of(header, context)
        if pack is None:
            raise SideMissing(
                f"no pack of the reference with key id {header.key_id.hex()} is here. Make one: plada index NAME --pack; "
                "or say --client-has manifest",
                needs="pack",
            )
        shared = replace(shared, features=pack.features, pack_id=pack.pack_id)
    return shared


def find_pack_of(header: Header, context: PayloadContext) -> Pack | None:
    """The pack of a header, opened, or None where none is here; the one in `context.pack` must be it.

    Raises:
        ReferenceMismatch: the file given is another pack. PayloadError, RequestError: it is bad, or not there.
    """
    if context.pack is None:
        pack = find_pack(context.home, header.key_id, header.pack_id or None)
    else:
        pack = read_pack(context.pack)
    if pack is None:
        return None
    pack.check(key=header.key_id, images=header.reference)
    if not pack.pack_id.startswith(header.pack_id):
        raise ReferenceMismatch(
            f"{pack.path}: pack {pack.pack_id[:8].hex()}; the payload was made with {header.pack_id.hex()}. "
            "Ask the sender for that one",
            wanted=header.pack_id.hex(),
            found=pack.pack_id.hex(),
        )
    return pack


def find_folder_bounds(header: Header, context: PayloadContext) -> npt.NDArray[np.int64] | None:
    """Bounds of the folders of a reference, int64 [B+1]: of the manifest given, of one kept in the home, or of
    `context.reference`; None where none is there, or the keys have no folders.

    Raises:
        ReferenceMismatch: `context.reference` has other keys.
    """
    if context.manifest is not None:
        given = open_manifest(context.manifest)
        if given.key_id.startswith(header.key_id[:8]):
            return _manifest_bounds(given)
    for kept in kept_manifests(context.home, header.key_id[:8]):
        with suppress(DataError):  # a damaged manifest says nothing; another may
            return _stored_bounds(kept.manifest)
    if context.reference is None:
        return None
    collection = open_source(context.reference, context.home)
    found = key_id(collection.keys)[:8]
    if len(collection) != header.reference or found != header.key_id[:8]:
        raise ReferenceMismatch(
            f"{collection.location}: the payload labels a reference of {header.reference} images with key id "
            f"{header.key_id[:8].hex()}; here are {len(collection)} with key id {found.hex()}, first key "
            f"'{collection.keys[0]}'. Point --reference at the right collection",
            wanted=header.key_id.hex(),
            found=found.hex(),
        )
    return folder_bounds(collection.keys)


def _stored_bounds(manifest: Manifest) -> npt.NDArray[np.int64] | None:
    """Bounds of a manifest, kept beside it with a checksum: millions of keys take seconds to go through."""
    stored = manifest.path.parent / f"blocks-{manifest.key_id[:8].hex()}.bin"
    with suppress(OSError):
        data = stored.read_bytes()
        if len(data) > 4 and zlib.crc32(data[:-4]) == int.from_bytes(data[-4:], "little"):
            return np.frombuffer(data[:-4], "<i8").astype(np.int64)
    bounds = _manifest_bounds(manifest)
    if bounds is not None:
        data = bounds.astype("<i8").tobytes()
        with suppress(ResourceError):
            write_bytes(stored, data + zlib.crc32(data).to_bytes(4, "little"))
    return bounds


def _manifest_bounds(manifest: Manifest) -> npt.NDArray[np.int64] | None:
    # Piece by piece: the keys of ImageNet-21K alone are 0.4 GB.
    return folder_bounds(chunk for table in manifest.blocks(["key"]) for chunk in table.column(0).chunks)
