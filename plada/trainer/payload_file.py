"""A payload on this machine: fetched, its sender checked, read with what it needs beside it, brought up to date."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from plada.common.failures import first_line
from plada.common.files import local_place
from plada.errors import DataError, PayloadError, ReferenceMismatch, RequestError
from plada.payload.container import Header, Signature, read_container, read_header
from plada.payload.diff import apply_changes, parse_changes
from plada.payload.payload import Payload, PayloadFile, parse_payload
from plada.payload.signature import check_file_signature, check_serial
from plada.sources.storage import open_files
from plada.trainer.catalogue.home import Proof, find_proof, payload_place
from plada.trainer.payload_context import PayloadContext, read_with_context

_HEAD = 64  # bytes that hold any header
_PIECE = 1 << 20  # bytes that are read at a time
_TIMEOUT = 60  # seconds without an answer
_DEADLINE = 900  # seconds for all of it: 1 MB at 9 600 bit/s


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How a payload is read.

    Attributes:
        pack: A pack's file; None stands for the pack that is installed for the reference.
        partial: Take what is whole of a progressive file that is cut off or damaged.
        update: Files of changes (`plada diff`), applied in order.
        require_signature: A public key that must have signed the file and all changes; None demands none.
        min_serial: The least serial number of the result; 0 takes every payload.

    Examples:
        >>> import plada
        >>> changes = plada.diff("digits.plada", "newer.plada", out="update.plada")
        >>> len(plada.read_payload("digits.plada", read=plada.ReadOptions(update=["update.plada"]))) > 0
        True
    """

    pack: str | Path | None = None
    partial: bool = False
    update: Sequence[str | Path] = ()
    require_signature: str | Path | None = None
    min_serial: int = 0


def open_payload(path: str | Path, context: PayloadContext, read: ReadOptions | None = None) -> PayloadFile:
    """As `plada.read_payload`, with the anatomy of the file. The pack is the one of `context`."""
    options = read or ReadOptions()
    data = fetch(path, context.home)
    with naming(path):
        proof = check_sender(data, options.require_signature, path, context.home)
        file = parse_with_context(data, context, partial=options.partial)
        if proof is not None:
            proof.check(file.payload)
    for change in options.update:
        file = replace(file, payload=apply_file(file.payload, change, context, options.require_signature))
    check_serial(file.payload.serial, options.min_serial, str(path))
    return file


def apply_file(
    old: Payload, change: str | Path, context: PayloadContext, require_signature: str | Path | None = None
) -> Payload:
    """The payload that a file of changes makes of `old`; raises as read_payload does."""
    data = fetch(change, context.home)
    with naming(change):
        check_file_signature(data, require_signature, change)
        try:
            changes = parse_changes(data)
        except RequestError as err:
            raise RequestError(f"{change}: {err}") from err
        return read_with_context(lambda shared: apply_changes(old, changes, shared=shared), changes.header, context)


def parse_with_context(data: bytes, context: PayloadContext, *, partial: bool = False) -> PayloadFile:
    """parse_payload, looking for what the bytes turn out to need."""
    header, _ = read_header(data)
    return read_with_context(lambda shared: parse_payload(data, shared=shared, partial=partial), header, context)


def check_sender(data: bytes, public: str | Path | None, path: str | Path, home: Path) -> Proof | None:
    """Refuse a payload that the owner of a public key (a file; None demands nothing) has not signed. Of a task that was pulled his
    signature of the catalogue does: what it vouches for is to be compared with the payload that is read.

    Raises:
        SignatureError: it is not signed so.
    """
    if public is None:
        return None
    proof = find_proof(path, home, public)
    if proof is None:
        check_file_signature(data, public, path)
    return proof


def read_identity(
    path: str | Path, public: str | Path | None = None, *, context: PayloadContext
) -> tuple[Header, Signature | None]:
    """(header, signature) of a payload or of changes, checksums compared; nothing is needed beside it, but for a task that was pulled
    what its labels need. The signature is checked where the owner of `public` must have made it."""
    data = fetch(path, context.home)
    with naming(path):
        proof = check_sender(data, public, path, context.home)
        if proof is not None:
            proof.check(parse_with_context(data, context).payload)
        file = read_container(data)
        return file.header, file.signature


def fetch(path: str | Path, home: Path) -> bytes:
    """The bytes of a payload at a path or URL, or of a task that was pulled; no more than its header claims, and one.

    Raises:
        RequestError: nothing there. PayloadError: not a payload.
    """
    text = local_place(payload_place(path, home))
    with naming(path):
        if "://" in text:
            return _download(text, _read_http if text.startswith(("http://", "https://")) else _read_store)
        try:
            with Path(text).open("rb") as file:
                return _read_claimed(lambda _, size: file.read(size))
        except OSError as err:
            raise RequestError(f"{path}: cannot be read ({err.strerror})") from err


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Failures of a payload say which file it is."""
    try:
        yield
    except (PayloadError, ReferenceMismatch) as err:
        if not str(err).startswith(str(path)):
            err.args = (f"{path}: {err}",)
        raise


def _download(url: str, read: Callable[[str, threading.Event], bytes]) -> bytes:
    """What `read` gives, within the time that there is for all of it; then its event is set, and nobody waits for it any more.

    In a thread, since a server can drip the lines of its answer and no timeout of a socket would end that.
    """
    results: list[bytes | Exception] = []
    given_up = threading.Event()

    def work() -> None:
        try:
            results.append(read(url, given_up))
        except Exception as err:
            results.append(err)

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


def _read_http(url: str, given_up: threading.Event) -> bytes:
    """With the standard library: fsspec would want two more packages of a client for one small file."""

    def piece(response: Any, size: int) -> bytes:
        if given_up.is_set():
            raise TimeoutError("given up")
        return bytes(response.read1(size))  # what is there; `read` waits until all of it is

    with urlopen(url, timeout=_TIMEOUT) as response:
        return _read_claimed(lambda _, size: piece(response, size))


def _read_store(url: str, given_up: threading.Event) -> bytes:
    """Of another kind of URL, by fsspec."""
    files, name = open_files(url)
    if not name:
        raise RequestError(f"{url}: a folder; expected a payload file")

    def piece(stream: Any, size: int) -> bytes:
        if given_up.is_set():
            raise TimeoutError("given up")
        try:
            return bytes(stream.read(size)[:size])
        except Exception as err:  # every file system of fsspec has errors of its own
            raise RequestError(f"{url}: cannot be read ({first_line(err)}). Try again") from err

    try:
        with files.open(name) as stream:
            return _read_claimed(lambda _, size: piece(stream, size))
    except DataError as err:
        raise RequestError(str(err)) from err


def _read_claimed(read: Callable[[int, int], bytes]) -> bytes:
    """All that the header claims, and a byte more if there is one; memory is taken for what has come. `read(offset, size)`
    is called in order."""
    data = bytearray()

    def read_until(size: int) -> None:
        while len(data) < size and (piece := read(len(data), min(size - len(data), _PIECE))):
            data.extend(piece)

    read_until(_HEAD)
    if len(data) == _HEAD:
        read_until(read_header(bytes(data))[0].total + 1)
    return bytes(data)
