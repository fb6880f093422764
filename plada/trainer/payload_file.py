"""A payload on this machine: fetched, its sender checked, read beside the manifest or pack that it needs.

Lies beside api.py: payload/ knows bytes alone, this knows where a manifest and a pack are kept.
"""

import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import numpy.typing as npt

from plada.common.files import write_bytes
from plada.errors import DataError, PayloadError, ReferenceMismatch, RequestError, ResourceError, SideMissing
from plada.payload.container import Header, Signature, read_container, read_header
from plada.payload.diff import apply_changes, parse_changes
from plada.payload.pack import find_pack, read_pack
from plada.payload.payload import Payload, PayloadFile, parse_payload
from plada.payload.shared_context import SharedContext
from plada.payload.signature import check_serial, check_signature
from plada.sources.folder_runs import folder_bounds
from plada.sources.manifest import Manifest, key_id, open_manifest
from plada.sources.reference import kept_manifests
from plada.sources.registry import open_source
from plada.sources.storage import open_files

CLIENT_HAS = ("nothing", "manifest", "pack")
_HEAD = 64  # bytes that hold any header
_PIECE = 1 << 20  # bytes that are read at a time
_TIMEOUT = 60  # seconds without an answer
_DEADLINE = 900  # seconds for all of it: 1 MB at 9 600 bit/s


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadContext:
    """What may be looked at to read a payload: a home, a copy of the reference (a name or place), a pack's file, the server's
    manifest."""

    home: Path
    reference: str | Path | None = None
    pack: str | Path | None = None
    manifest: str | Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How a payload is read.

    Attributes:
        pack: A pack's file; None stands for the pack that is installed for the reference.
        partial: Take what is whole of a progressive file that is cut off or damaged.
        update: Files of changes (`plada diff`), applied in order.
        require_signature: A public key that must have signed the file and all changes; None demands none.
        min_serial: The least serial number of the result; 0 takes every payload.
    """

    pack: str | Path | None = None
    partial: bool = False
    update: Sequence[str | Path] = ()
    require_signature: str | Path | None = None
    min_serial: int = 0


def open_payload(path: str | Path, around: PayloadContext, read: ReadOptions | None = None) -> PayloadFile:
    """As `plada.read_payload`, with the anatomy of the file. The pack is the one of `around`."""
    options = read or ReadOptions()
    data = fetch(path)
    with named(path):
        check_sender(data, options.require_signature, path)
        file = parse_beside(data, around, partial=options.partial)
    for change in options.update:
        file = replace(file, payload=apply_file(file.payload, change, around, options.require_signature))
    check_serial(file.payload.serial, options.min_serial, str(path))
    return file


def apply_file(
    old: Payload, change: str | Path, around: PayloadContext, require_signature: str | Path | None = None
) -> Payload:
    """The payload that a file of changes makes of `old`; raises as read_payload does."""
    data = fetch(change)
    with named(change):
        check_sender(data, require_signature, change)
        try:
            parsed = parse_changes(data)
        except RequestError as err:
            raise RequestError(f"{change}: {err}") from err
        side = SharedContext()
        while True:
            try:
                return apply_changes(old, parsed, side=side)
            except SideMissing as missing:
                side = extend_context(side, parsed.header, missing.needs, around)


def parse_beside(data: bytes, around: PayloadContext, *, partial: bool = False) -> PayloadFile:
    """parse_payload, looking for what the bytes turn out to need."""
    side = SharedContext()
    while True:
        try:
            return parse_payload(data, side=side, partial=partial)
        except SideMissing as missing:
            side = extend_context(side, read_header(data)[0], missing.needs, around)


def read_identity(path: str | Path) -> tuple[Header, Signature | None]:
    """(header, signature, not checked) of a payload or of changes, checksums compared; nothing is needed beside it."""
    data = fetch(path)
    with named(path):
        file = read_container(data)
        return file.header, file.signature


def check_sender(data: bytes, public: str | Path | None, where: str | Path) -> None:
    """Refuse bytes that the owner of `public` has not signed; None asks for nothing. The whole file must be there."""
    if public is not None:
        check_signature(read_container(data).signature, public, str(where))


def extend_context(side: SharedContext, header: Header, needs: str, around: PayloadContext) -> SharedContext:
    """`side` with the manifest's blocks, or the pack, that a payload with this header needs.

    Raises:
        SideMissing: it is not here (or was given already, and did not help). ReferenceMismatch: another one is.
    """
    if needs == "manifest" and side.blocks is None:
        blocks = find_blocks(header, around)
        if blocks is not None:
            return replace(side, blocks=blocks)
    if needs == "pack" and side.features is None:
        found = find_features(header, around)
        if found is not None:
            return replace(side, features=found.features, pack_id=found.pack_id)
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


def shared_context_for(header: Header, around: PayloadContext, client_has: str = "manifest") -> SharedContext:
    """What a client is taken to know beside a payload with this header, as far as this machine knows it too.

    `client_has`: nothing, manifest, or pack (which is never there without a manifest).

    Raises:
        RequestError: no such kind. SideMissing: a pack is to be used, and none of this reference is here.
    """
    if client_has not in CLIENT_HAS:
        raise RequestError(f"client-has '{client_has}': expected one of {', '.join(CLIENT_HAS)}")
    side = SharedContext()
    if client_has == "nothing":
        return side
    if (blocks := find_blocks(header, around)) is not None:
        side = replace(side, blocks=blocks)
    if client_has == "pack":
        found = find_features(header, around)
        if found is None:
            raise SideMissing(
                f"no pack of the reference with key id {header.key_id.hex()} is here. Make one: plada index NAME --pack; "
                "or say --client-has manifest",
                needs="pack",
            )
        side = replace(side, features=found.features, pack_id=found.pack_id)
    return side


def find_features(header: Header, around: PayloadContext) -> Any:
    """The pack (plada.payload.pack.Pack) of a header, opened, or None; the one in `around.pack` must be it.

    Raises:
        ReferenceMismatch: the file given is another pack. PayloadError, RequestError: it is bad, or not there.
    """
    if around.pack is None:
        found = find_pack(around.home, header.key_id, header.pack_id or None)
    else:
        found = read_pack(around.pack)
    if found is None:
        return None
    found.check(key=header.key_id, images=header.reference)
    if not found.pack_id.startswith(header.pack_id):
        raise ReferenceMismatch(
            f"{found.path}: pack {found.pack_id[:8].hex()}; the payload was made with {header.pack_id.hex()}. "
            "Ask the sender for that one",
            wanted=header.pack_id.hex(),
            found=found.pack_id.hex(),
        )
    return found


def find_blocks(header: Header, around: PayloadContext) -> npt.NDArray[np.int64] | None:
    """Bounds of the folders of a reference: of the manifest given or of one kept in the home, else of `around.reference`; None
    where none is there, or the keys have no folders.

    Raises:
        ReferenceMismatch: `around.reference` has other keys.
    """
    if around.manifest is not None:
        given = open_manifest(around.manifest)
        if given.key_id.startswith(header.key_id[:8]):
            return _blocks_of(given)
    for kept in kept_manifests(around.home, header.key_id[:8]):
        with suppress(DataError):  # a damaged manifest says nothing; another may
            return _kept_blocks(kept.manifest)
    if around.reference is None:
        return None
    collection = open_source(around.reference, around.home)
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


def _kept_blocks(manifest: Manifest) -> npt.NDArray[np.int64] | None:
    """Bounds of a manifest, kept beside it with a checksum: millions of keys take seconds to go through."""
    kept = manifest.path.parent / f"blocks-{manifest.key_id[:8].hex()}.bin"
    with suppress(OSError):
        data = kept.read_bytes()
        if len(data) > 4 and zlib.crc32(data[:-4]) == int.from_bytes(data[-4:], "little"):
            return np.frombuffer(data[:-4], "<i8").astype(np.int64)
    found = _blocks_of(manifest)
    if found is not None:
        data = found.astype("<i8").tobytes()
        with suppress(ResourceError):
            write_bytes(kept, data + zlib.crc32(data).to_bytes(4, "little"))
    return found


def _blocks_of(manifest: Manifest) -> npt.NDArray[np.int64] | None:
    # Piece by piece: the keys of ImageNet-21K alone are 0.4 GB.
    return folder_bounds(chunk for table in manifest.blocks(["key"]) for chunk in table.column(0).chunks)


def fetch(path: str | Path) -> bytes:
    """The bytes of a payload at a path or URL; no more than its header claims, and one.

    Raises:
        RequestError: nothing there. PayloadError: not a payload.
    """
    text = str(path)
    with named(path):
        if text.startswith(("http://", "https://")):
            return _download(text)
        if "://" in text:
            files, name = open_files(text)
            if not name:
                raise RequestError(f"{text}: a folder; expected a payload file")
            try:
                return _whole(lambda offset, size: files.read(name, offset, size))
            except DataError as err:
                raise RequestError(str(err)) from err
        try:
            with Path(path).open("rb") as file:
                return _whole(lambda offset, size: file.read(size))
        except OSError as err:
            raise RequestError(f"{path}: cannot be read ({err.strerror})") from err


def _download(url: str) -> bytes:
    """With the standard library: fsspec would want two more packages of a client for one small file."""
    results: list[bytes | Exception] = []
    given_up = threading.Event()

    def piece(response: Any, size: int) -> bytes:
        if given_up.is_set():
            raise TimeoutError("given up")
        return bytes(response.read1(size))  # what is there; `read` waits until all of it is

    def work() -> None:
        try:
            with urlopen(url, timeout=_TIMEOUT) as response:
                results.append(_whole(lambda offset, size: piece(response, size)))
        except Exception as err:
            results.append(err)

    # In a thread, since a server can drip the lines of its answer and no timeout of a socket would end that.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(_DEADLINE)
    given_up.set()
    if not results:
        raise RequestError(f"{url}: not here after {_DEADLINE} seconds. Fetch the file yourself, and name it")
    match results[0]:
        case OSError() | HTTPException() | ValueError() as err:
            raise RequestError(
                f"{url}: cannot be fetched ({err}). Look at the address, or fetch the file yourself"
            ) from err
        case Exception() as err:
            raise err
        case data:
            return data


def _whole(read: Callable[[int, int], bytes]) -> bytes:
    """All that the header claims, and a byte more if there is one; memory is taken for what has come."""
    data = bytearray()

    def read_until(size: int) -> None:
        while len(data) < size and (piece := read(len(data), min(size - len(data), _PIECE))):
            data.extend(piece)

    read_until(_HEAD)
    if len(data) == _HEAD:
        read_until(_claimed(bytes(data)) + 1)
    return bytes(data)


@contextmanager
def named(path: str | Path) -> Iterator[None]:
    """Failures of a payload say which file it is."""
    try:
        yield
    except (PayloadError, ReferenceMismatch) as err:
        if not str(err).startswith(str(path)):
            err.args = (f"{path}: {err}",)
        raise


def _claimed(head: bytes) -> int:
    """Bytes of the whole file, as its first ones say."""
    return read_header(head)[0].total
