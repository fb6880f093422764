"""`plada explore` as a Python call: an index, and what payloads chose from it, in a page on this machine."""

import contextlib
import errno
import os
import secrets
import socket
import sys
import tempfile
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from plada.common.files import home_directory
from plada.common.packages import require
from plada.common.progress import Report, silent, with_heartbeat
from plada.common.summary import Summary
from plada.encoders.encoder import Encoder
from plada.errors import PladaError, ReferenceMismatch, RequestError, ResourceError
from plada.explorer.catalogues import open_catalogue
from plada.explorer.gallery import Gallery
from plada.explorer.payloads import RankedPayload, rank_payload
from plada.retrieval.index import Index, open_index
from plada.selection.table import SelectionTable, read_table
from plada.sources.reference import Reference, check_identity, open_reference
from plada.sources.registry import open_source
from plada.sources.storage import plain_name
from plada.sources.synset_names import find_synset_names
from plada.trainer.payload_context import PayloadContext
from plada.trainer.payload_file import ReadOptions, open_payload

ADDRESS = "127.0.0.1"  # this machine alone; never another
PORT = 7523
_PATIENCE = 2  # seconds that answers in flight are given at the end


@dataclass(frozen=True, slots=True, kw_only=True)
class ExploreSummary(Summary):
    """What `plada explore --json` prints when the page can be opened.

    Attributes:
        url: The address, with the token that opens it.
        port: The port on this machine.
        index: Name of the index.
        images: Images in it.
        payloads: Payloads that are shown.
        catalogues: Catalogues that are shown.
        words: Whether the index can be searched by words.
        notes: What a person should know.
    """

    url: str
    port: int
    index: str
    images: int
    payloads: int
    catalogues: int
    words: bool
    notes: tuple[str, ...]


def explore(
    name: Index | str | Path | Sequence[Index | str | Path],
    payload: Sequence[str | Path] = (),
    *,
    reference: str | Path | None = None,
    same_keys: bool = False,
    selection: Sequence[str | Path] = (),
    port: int = PORT,
    open_page: bool = True,
    pack: str | Path | None = None,
    require_signature: str | Path | None = None,
    catalogue: Sequence[str | Path] = (),
    weights: str | Path | None = None,
    names: str | Path | None = None,
    device: str | None = None,
    home: str | Path | None = None,
    ready: Callable[[ExploreSummary], None] = lambda _: None,
    report: Report = silent,
) -> None:
    """Serve pages of an index to a browser on this machine, until Ctrl-C: search, neighbours, what payloads chose.

    Args:
        name: An index, opened or by its name or folder. Of several indexes of the same images the answers of all to a search stand
            side by side; pictures, payloads and the map are those of the first.
        payload: Payload files, or URLs of them, of the same reference.
        reference: Where the indexed images are now, if they have moved.
        same_keys: Accept a re-encoded copy of the reference, and payloads of one.
        selection: Tables that were written with the payloads (`Selection.write_table`), in any order: they bring scores.
        port: Port on this machine; 0 takes a free one.
        open_page: Open a browser, where there is a screen.
        pack: A pack's file, for payloads that need one; by default the one that is installed.
        require_signature: A public key that must have signed every payload and catalogue.
        catalogue: Catalogues, paths or URLs: their tasks, and what each version changed.
        weights: Where the encoder's weights lie now, if they have moved.
        names: A file of synset names, as ImageNet's words.txt, for the keys of pictures; by default the words.txt beside the
            images or one folder above.
        device: torch's name of a device for the encoder; by default a GPU if there is one.
        home: Folder of indexes and manifests; by default $PLADA_HOME or the user's data folder.
        ready: Is called once, when the page can be opened.
        report: Is called with the progress.

    Raises:
        UnknownName: There is no such index.
        ReferenceMismatch: The images, a payload or another index are of another reference.
        RequestError: A file cannot be read, a table belongs to none of the payloads, or there is no such port.
        PayloadError: A payload is bad.
        DataError: A table is bad.
        MissingExtra: The server's packages are not installed.
        ResourceError: The port is in use.

    Examples:
        >>> import plada
        >>> plada.explore("glyphs", ["digits.plada"], open_page=False, ready=print)  # doctest: +SKIP
    """
    for package in ("starlette", "uvicorn", "python_multipart"):
        require(package, extra="explore", purpose="plada explore")
    from plada.explorer.app import make_app  # it stands on starlette, which an extra brings

    token = secrets.token_urlsafe(24)
    with listen(port) as listener:  # before anything that takes time: a port in use is said at once
        chosen = int(listener.getsockname()[1])
        gallery = open_gallery(
            name, payload, reference=reference, same_keys=same_keys, selection=selection, pack=pack,
            require_signature=require_signature, catalogue=catalogue, weights=weights, names=names,
            device=device, home=home, report=report,
        )  # fmt: skip
        url = f"http://{ADDRESS}:{chosen}/?token={token}"
        no_words = [f"no search by words: {gallery.no_words}"] if gallery.no_words else []
        summary = ExploreSummary(
            url=url, port=chosen, index=gallery.index.name, images=len(gallery), payloads=len(gallery.payloads),
            catalogues=len(gallery.catalogues), words=not gallery.no_words, notes=(*gallery.notes, *no_words),
        )  # fmt: skip
        server = make_server(make_app(gallery, token=token, cookie=f"plada-{chosen}"))
        with contextlib.suppress(KeyboardInterrupt), _browser(url, wanted=open_page):  # Ctrl-C is how it ends
            ready(summary)
            server.run(sockets=[listener])


@contextlib.contextmanager
def listen(port: int) -> Iterator[socket.socket]:
    """A socket that listens on this machine's own address. Raises RequestError: no such port, or one that only the
    system may have. ResourceError: another program has it."""
    if not 0 <= port <= 65535:
        raise RequestError(f"port {port}: expected 0 to 65535; 0 takes a free one")
    try:
        listener = socket.create_server((ADDRESS, port))
    except OSError as err:
        if err.errno == errno.EADDRINUSE:
            raise ResourceError(
                f"port {port} of {ADDRESS} is in use by another program (another plada explore?). Say --port 0 to take a free "
                "one, or name another"
            ) from err
        raise RequestError(
            f"port {port} of {ADDRESS} cannot be used ({err.strerror}). Say --port 0 for a free one"
        ) from err
    with listener:
        yield listener


def make_server(app: Any) -> Any:
    """The server (uvicorn) of an application. It logs no addresses, since they may hold the token."""
    import uvicorn

    config = uvicorn.Config(
        app, host=ADDRESS, loop="asyncio", http="h11", ws="none", lifespan="off", log_level="warning", access_log=False,
        proxy_headers=False, server_header=False, timeout_graceful_shutdown=_PATIENCE,
    )  # fmt: skip
    return uvicorn.Server(config)


@with_heartbeat
def open_gallery(
    name: Index | str | Path | Sequence[Index | str | Path],
    payload: Sequence[str | Path] = (),
    *,
    reference: str | Path | None = None,
    same_keys: bool = False,
    selection: Sequence[str | Path] = (),
    pack: str | Path | None = None,
    require_signature: str | Path | None = None,
    catalogue: Sequence[str | Path] = (),
    weights: str | Path | None = None,
    names: str | Path | None = None,
    device: str | None = None,
    home: str | Path | None = None,
    report: Report = silent,
) -> Gallery:
    """What the pages show, opened and compared; arguments and errors are those of `explore`."""
    require("faiss", extra="cpu", purpose="search")
    if isinstance(name, Sequence) and not isinstance(name, str):
        first, *others = name or [""]
    else:
        first, others = name, []
    opened, *beside = (
        each if isinstance(each, Index) else open_index(each, home=home, report=report) for each in (first, *others)
    )
    for each in beside:
        if each.info["key_id"] != opened.info["key_id"]:
            raise ReferenceMismatch(
                f"index '{each.name}' was made of images with key id {each.info['key_id'][:16]}, index '{opened.name}' of images "
                f"with {opened.info['key_id'][:16]}. Name indexes of the same reference",
                wanted=opened.info["key_id"],
                found=each.info["key_id"],
            )
    root = home_directory(home) if home is not None else opened.home
    images = _open_reference(opened, reference, same_keys, root, report)
    context = PayloadContext(home=root, reference=images.collection.location, pack=pack)
    payloads = _rank_payloads(payload, selection, images, context, same_keys, require_signature)
    catalogues = tuple(open_catalogue(where, context, require_signature) for where in catalogue)
    synsets = find_synset_names(images.collection.location, names)
    galleries = []
    for each in (opened, *beside):
        encoder, no_encoder = _encoder(each, weights if each is opened else None, device)
        approximate, notes = _approximate(each)
        galleries.append(
            Gallery(
                index=each, reference=images, encoder=encoder, no_encoder=no_encoder, approximate=approximate, notes=notes,
                names=synsets,
            )
        )  # fmt: skip
    return replace(galleries[0], payloads=payloads, catalogues=catalogues, beside=tuple(galleries[1:]))


def _encoder(index: Index, weights: str | Path | None, device: str | None) -> tuple[Encoder | None, str]:
    """The encoder of an index, or None and why: positions and keys can be looked for all the same."""
    try:
        return index.encoder(weights=weights, device=device), ""
    except PladaError as err:
        if weights is not None:
            raise
        return None, f"the encoder cannot be loaded ({err})"


def _open_reference(opened: Index, named: str | Path | None, same_keys: bool, home: Path, report: Report) -> Reference:
    """The indexed images, where the index says or at `named`, after their ids were compared with the index's."""
    if named is None and not same_keys:
        return opened.reference()
    where = opened.info["reference"]
    collection = open_source(named if named is not None else where["location"], home)
    title = plain_name(collection.location) if named is not None else where["name"]
    reference = open_reference(collection, home, name=title, report=report)
    check_identity(
        reference, images=len(opened), key=bytes.fromhex(opened.info["key_id"]),
        content=bytes.fromhex(opened.info["content_id"]), same_keys=same_keys, who=f"index '{opened.name}'",
        means="was made of",
    )  # fmt: skip
    return reference


def _rank_payloads(
    files: Sequence[str | Path],
    tables: Sequence[str | Path],
    images: Reference,
    context: PayloadContext,
    same_keys: bool,
    key: str | Path | None,
) -> tuple[RankedPayload, ...]:
    """The payloads, each with the table that was written with it."""
    opened = []
    for file in files:
        opened.append(open_payload(file, context, ReadOptions(require_signature=key)))
        payload = opened[-1].payload
        check_identity(
            images, images=payload.reference, key=payload.key_id, content=payload.content_id, same_keys=same_keys,
            who=f"payload {file}", means="labels",
        )  # fmt: skip
    read: dict[int, SelectionTable] = {}  # tables, by the number of their payload
    for table in tables:
        positions = read_table(table).positions
        fits = [at for at, each in enumerate(opened) if np.array_equal(positions, each.payload.positions)]
        if not fits:
            raise RequestError(
                f"{table}: is the table of none of the {len(opened)} payloads named. Name the payload that it was written with"
            )
        for at in fits:
            read[at] = read_table(table, opened[at].payload)  # labels are compared too
    return tuple(
        rank_payload(
            each.payload,
            file,
            size=each.bytes,
            scores=read[at].scores if at in read else None,
            ranks=read[at].ranks if at in read else None,
        )
        for at, (file, each) in enumerate(zip(files, opened, strict=True))
    )


def _approximate(opened: Index) -> tuple[bool, tuple[str, ...]]:
    """Whether the approximate index can be used, and what to say of one that is there and cannot."""
    if not opened.has_ann():
        return False, ()
    try:
        opened.ann()
    except PladaError as err:
        return False, (f"every search compares all images: {err}",)
    return True, ()


@contextlib.contextmanager
def _browser(url: str, *, wanted: bool) -> Iterator[None]:
    """Open a browser, where there is a screen. It is given a file that only this user may read, not the address: the
    arguments of a program can be read by everyone on a machine, and the address holds the token."""
    if not wanted or not _has_screen():
        yield
        return
    with tempfile.TemporaryDirectory(prefix="plada-") as folder:
        file = Path(folder) / "explore.html"
        file.touch(mode=0o600)
        file.write_text(
            f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={escape(url)}">'
            f'<title>plada explore</title><a href="{escape(url)}">Go on</a>\n'
        )
        with contextlib.suppress(webbrowser.Error):
            webbrowser.open(file.as_uri())
        yield


def _has_screen() -> bool:
    """Whether a browser would be seen; one in the terminal would only be in the way."""
    if "SSH_CONNECTION" in os.environ and "DISPLAY" not in os.environ:
        return False
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
