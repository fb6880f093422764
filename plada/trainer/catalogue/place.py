"""Where a catalogue is: its files by name, from a folder, any URL, or the frames of a carousel."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError

from plada.common.checksums import short_digest
from plada.common.files import local_place, write_bytes
from plada.common.progress import Report, silent
from plada.common.transfer import fetch_bytes, fetch_file
from plada.errors import PayloadCorrupt, RequestError
from plada.payload.catalogue.carousel import read_carousel
from plada.payload.catalogue.document import MAX_FILE, StoredFile, check_name, is_name
from plada.payload.catalogue.envelope import MAGIC, MAX_TASK_FILE, MAX_TEXT, Envelope, read_envelope
from plada.payload.catalogue.folder import FILES, TASKS, WHOLE
from plada.sources.storage import join_url, split_url

_GONE = (403, 404, 410)  # object stores forbid what is not there


@dataclass(slots=True)
class Place:
    """A catalogue's place. `base` is a path or a URL, the same for every way to write it; `received` counts bytes of files that came;
    `foreign`: something came that is no file of a catalogue, as servers have a page for every address. `carried`: the files that a
    carousel brought, by name, where the place is a file of its frames."""

    base: str
    received: int = 0
    foreign: bool = False
    carried: Mapping[str, bytes] | None = None

    def address(self, name: str) -> str:
        """Address of one file of the catalogue."""
        return join_url(self.base, name) if "://" in self.base else str(Path(self.base) / name)

    def whole(self) -> Envelope:
        """The file that says all of the catalogue; raises as `task` does."""
        return self._envelope(WHOLE, MAX_TEXT)

    def task(self, task: str) -> Envelope:
        """The file of one task.

        Raises:
            RequestError: it cannot be fetched. PayloadError: it is no file of a catalogue.
        """
        return self._envelope(f"{TASKS}/{task}", MAX_TASK_FILE)

    def fetch(self, stored: StoredFile, out: Path, *, report: Report = silent) -> None:
        """Bring a file that is named by its content to `out`, resumed where it broke off before.

        Raises:
            RequestError: it cannot be fetched. PayloadError: it is another one than the catalogue speaks of. ResourceError: the disk
                is full.
        """
        if self.carried is not None and not stored.url:
            data = self._carried(f"{FILES}/{stored.file}")
            if len(data) != stored.bytes or short_digest(data) != stored.file:
                raise PayloadCorrupt(f"{self.base}: carries another file than {stored.file}. Ask its sender")
            write_bytes(out, data)
            self.received += len(data)
            return
        before = out.exists()
        where = stored.url or self.address(f"{FILES}/{stored.file}")
        fetch_file(where, out, size=stored.bytes, digest=stored.file, max_bytes=MAX_FILE, report=report)
        self.received += 0 if before else stored.bytes

    def read(self, name: str, most: int) -> bytes:
        """At most `most` bytes of a file of the catalogue.

        Raises:
            RequestError: it cannot be fetched. PayloadCorrupt: it is larger.
        """
        return fetch_bytes(self.address(name), max_bytes=most) if self.carried is None else self._carried(name)

    def _envelope(self, name: str, most: int) -> Envelope:
        where = self.address(name)
        data = self.read(name, most)
        self.received += len(data)
        self.foreign = not data.startswith(MAGIC)
        return read_envelope(data, where)

    def _carried(self, name: str) -> bytes:
        assert self.carried is not None
        try:
            return self.carried[name]
        except KeyError:
            raise RequestError(
                f"{self.base}: the carousel does not carry {name}. Pull from a server, or ask its sender"
            ) from FileNotFoundError(name)


def place_at(where: str | Path) -> Place:
    """The place at a path or URL. A file is one of frames that were received.

    Raises:
        RequestError, PayloadError: the frames cannot be read, or are too few.
    """
    base = normal_place(where)
    is_file = "://" not in base and Path(base).is_file()
    return Place(base, carried=read_carousel(Path(base)) if is_file else None)


def find_place(where: str | Path, task: str | None, known: frozenset[str]) -> list[tuple[Place, str | None]]:
    """What WHERE[/TASK] may mean, likeliest first: (the catalogue's place, the task or None for the whole). `known` are places of
    before.

    Raises:
        RequestError: the task's name cannot be one. PayloadError: a file of frames is no good.
    """
    base = normal_place(where)
    if task is not None:
        return [(place_at(base), check_name(task, "task"))]
    head, last = split_url(base) if "://" in base else (str(Path(base).parent), Path(base).name)
    if "://" not in base and Path(base).is_file():
        return [(place_at(base), None)]
    if "://" not in base and Path(head).is_file() and is_name(last):
        return [(place_at(head), last)]
    is_whole = base in known or str(where).endswith("/") or ("://" not in base and (Path(base) / WHOLE).exists())
    if is_whole or not is_name(last):
        return [(Place(base), None)]
    if head in known:
        return [(Place(head), last)]
    return [(Place(head), last), (Place(base), None)]


def normal_place(where: str | Path) -> str:
    """A place in the one way in which it is remembered."""
    text = local_place(where)
    if "://" not in text:
        return str(Path(text).expanduser().absolute())
    return text.rstrip("/") if "::" not in text else text


def is_missing(err: Exception) -> bool:
    """Whether a place answered that there is no such file."""
    cause = err.__cause__
    if isinstance(cause, HTTPError):
        return cause.code in _GONE
    return isinstance(cause, (FileNotFoundError, NotADirectoryError, IsADirectoryError))
