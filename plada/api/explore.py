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
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

from plada.common.files import home_directory
from plada.common.packages import require
from plada.common.progress import Report, silent
from plada.errors import PladaError, RequestError, ResourceError
from plada.explorer.choices import Choice, choice_of
from plada.explorer.contents import Contents
from plada.payload.payload import Payload
from plada.retrieval.index import Index, open_index
from plada.selection.table import read_table
from plada.sources.reference import Reference, check_identity, open_reference
from plada.sources.registry import open_source
from plada.sources.storage import plain_name
from plada.trainer.payload_file import PayloadContext, open_payload

ADDRESS = "127.0.0.1"  # this machine alone; never another
PORT = 7523
_PATIENCE = 2  # seconds that answers in flight are given at the end


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploring:
    """The fields of `plada explore --json`, printed when the page can be opened: `url` holds the token that opens it,
    `words` says whether the index can be searched by words, `notes` what a person should know."""

    url: str
    port: int
    index: str
    images: int
    payloads: int
    words: bool
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def explore(
    name: Index | str | Path,
    payload: Sequence[str | Path] = (),
    *,
    reference: str | Path | None = None,
    same_keys: bool = False,
    selection: Sequence[str | Path] = (),
    port: int = PORT,
    open_page: bool = True,
    pack: str | Path | None = None,
    weights: str | Path | None = None,
    device: str | None = None,
    home: str | Path | None = None,
    ready: Callable[[Exploring], None] = lambda _: None,
    report: Report = silent,
) -> None:
    """Serve pages of an index to a browser on this machine, until Ctrl-C: search, neighbours, what payloads chose.

    `reference` is where the indexed images are now, if they have moved; `same_keys` accepts a re-encoded copy, and payloads
    of one. `selection` are tables that `Selection.write_table` wrote for the payloads, in any order: they bring scores.
    `port` 0 takes a free one. `open_page` opens a browser where there is a screen. `pack` is what payloads may need to be
    read, `weights` where those of the encoder lie now. `ready` is called once, when the page can be opened.

    Raises:
        UnknownName: no such index. ReferenceMismatch: images or payloads of another reference. RequestError, PayloadError,
        DataError: a file is bad. MissingExtra: the server's packages are not installed. ResourceError: the port is in use.
    """
    for package in ("starlette", "uvicorn", "python_multipart"):
        require(package, extra="explore", purpose="plada explore")
    from plada.explorer.app import application

    token = secrets.token_urlsafe(24)
    with listening(port) as listener:  # before anything that takes time: a port in use is said at once
        chosen = int(listener.getsockname()[1])
        held = contents(
            name, payload, reference=reference, same_keys=same_keys, selection=selection, pack=pack, weights=weights,
            device=device, home=home, report=report,
        )  # fmt: skip
        url = f"http://{ADDRESS}:{chosen}/?token={token}"
        said = [*held.notes, *([f"no search by words: {held.no_words}"] if held.no_words else [])]
        summary = Exploring(
            url=url, port=chosen, index=held.index.name, images=len(held), payloads=len(held.choices),
            words=not held.no_words, notes=tuple(said),
        )  # fmt: skip
        server = server_of(application(held, token=token, cookie=f"plada-{chosen}"))
        with contextlib.suppress(KeyboardInterrupt), _shown(url, wanted=open_page):  # Ctrl-C is how it ends
            ready(summary)
            server.run(sockets=[listener])


@contextlib.contextmanager
def listening(port: int) -> Iterator[socket.socket]:
    """A socket that listens on this machine's own address.

    Raises:
        RequestError: no such port, or one that only the system may have. ResourceError: another program has it.
    """
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
            f"port {port} of {ADDRESS} cannot be had ({err.strerror}). Say --port 0 for a free one"
        ) from err
    with listener:
        yield listener


def server_of(app: Any) -> Any:
    """The server (uvicorn) of an application. It logs no addresses, since they may hold the token."""
    import uvicorn

    config = uvicorn.Config(
        app, host=ADDRESS, loop="asyncio", http="h11", ws="none", lifespan="off", log_level="warning", access_log=False,
        proxy_headers=False, server_header=False, timeout_graceful_shutdown=_PATIENCE,
    )  # fmt: skip
    return uvicorn.Server(config)


def contents(
    name: Index | str | Path,
    payload: Sequence[str | Path] = (),
    *,
    reference: str | Path | None = None,
    same_keys: bool = False,
    selection: Sequence[str | Path] = (),
    pack: str | Path | None = None,
    weights: str | Path | None = None,
    device: str | None = None,
    home: str | Path | None = None,
    report: Report = silent,
) -> Contents:
    """What the pages show, opened and compared; arguments and errors are those of `explore`."""

    require("faiss", extra="cpu", purpose="search")
    opened = name if isinstance(name, Index) else open_index(name, home=home)
    root = home_directory(home) if home is not None else opened.home
    images = _reference(opened, reference, same_keys, root, report)
    choices = _choices(payload, selection, images, pack, same_keys, root)
    encoder, no_encoder = None, ""
    try:
        encoder = opened.encoder(weights=weights, device=device)
    except PladaError as err:  # positions and keys can be looked for all the same
        if weights is not None:
            raise
        no_encoder = f"the encoder cannot be loaded ({err})"
    approximate, notes = _approximate(opened)
    return Contents(
        index=opened, reference=images, choices=choices, encoder=encoder, no_encoder=no_encoder, approximate=approximate,
        notes=notes,
    )  # fmt: skip


def _reference(opened: Index, named: str | Path | None, same_keys: bool, home: Path, report: Report) -> Reference:
    """The indexed images, where the index says or at `named`, after their ids were compared with the index's."""

    if named is None and not same_keys:
        return opened.reference()
    where = opened.info["reference"]
    collection = open_source(named if named is not None else where["location"], home)
    title = plain_name(collection.location) if named is not None else where["name"]
    found = open_reference(collection, home, name=title, report=report)
    check_identity(
        found, images=len(opened), key=bytes.fromhex(opened.info["key_id"]), content=bytes.fromhex(opened.info["content_id"]),
        same_keys=same_keys, who=f"index '{opened.name}'", means="was made of",
    )  # fmt: skip
    return found


def _choices(
    files: Sequence[str | Path],
    tables: Sequence[str | Path],
    images: Reference,
    pack: str | Path | None,
    same_keys: bool,
    home: Path,
) -> tuple[Choice, ...]:
    """The payloads, each with the table that was written with it."""
    import numpy as np

    around = PayloadContext(home=home, reference=images.collection.location, pack=pack)
    read: list[tuple[str | Path, int, Payload]] = []
    for file in files:
        opened = open_payload(file, around)
        made = opened.payload
        check_identity(
            images, images=made.reference, key=made.key_id, content=made.content_id, same_keys=same_keys,
            who=f"payload {file}", means="labels",
        )  # fmt: skip
        read.append((file, opened.bytes, made))
    scores: dict[int, tuple[Any, Any]] = {}
    for table in tables:
        rows = read_table(table)
        fits = [number for number, (_, _, made) in enumerate(read) if np.array_equal(rows.positions, made.positions)]
        if not fits:
            raise RequestError(
                f"{table}: is the table of none of the {len(read)} payloads named. Name the payload that it was written with"
            )
        for number in fits:
            read_table(table, read[number][2])  # labels are compared too
            scores[number] = (rows.scores, rows.ranks)
    return tuple(
        choice_of(made, file, size=size, scores=scores.get(at, (None, None))[0], ranks=scores.get(at, (None, None))[1])
        for at, (file, size, made) in enumerate(read)
    )


def _approximate(opened: Index) -> tuple[bool, tuple[str, ...]]:
    """Whether the approximate index can be used, and what to say of one that is there and cannot."""
    if not (opened.folder / "ann").exists():
        return False, ()
    try:
        opened.ann()
    except PladaError as err:
        return False, (f"every search compares all images: {err}",)
    return True, ()


@contextlib.contextmanager
def _shown(url: str, *, wanted: bool) -> Iterator[None]:
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
