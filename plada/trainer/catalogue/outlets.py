"""Where a catalogue goes beside its folder: frames for a broadcast, a card for people, a copy in a store or a repository."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plada.common.failures import first_line
from plada.common.files import local_place, write_bytes
from plada.common.outputs import check_outputs
from plada.common.packages import require
from plada.common.progress import Report, Tracker
from plada.common.summary import Summary
from plada.errors import PladaError, RequestError
from plada.payload.catalogue.card import CARD, is_card_of_ours, write_card
from plada.payload.catalogue.carousel import FRAME_BYTES, MAX_FRAME, MIN_FRAME, write_carousel
from plada.payload.catalogue.document import Catalogue, read_catalogue
from plada.payload.catalogue.envelope import MAX_TEXT, read_envelope
from plada.payload.catalogue.folder import FILES, JSON, TASKS, WHOLE, CatalogueFolder

_ORDER = (FILES, TASKS, WHOLE, JSON, CARD)  # what others name comes before them


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlets:
    """Where a catalogue goes beside its folder.

    Attributes:
        carousel: File to write: frames of the catalogue and its tasks, to be sent again and again over a link without a way back.
        frame_bytes: Bytes of a frame.
        push: A path or a URL of fsspec (hf://, s3://, ...) that the folder is copied to.
        card: Write README.md into the folder, with the metadata that the Hub reads; `push` does so in any case.

    Raises:
        RequestError: Frames cannot have that size.

    Examples:
        >>> import plada
        >>> outlets = plada.Outlets(carousel="frames.bin", frame_bytes=512)
        >>> plada.publish("radio", ["digits.plada"], outlets=outlets).carousel.frame_bytes
        512
    """

    carousel: str | Path | None = None
    frame_bytes: int = FRAME_BYTES
    push: str | Path | None = None
    card: bool = False

    def __post_init__(self) -> None:
        if not MIN_FRAME <= self.frame_bytes <= MAX_FRAME:
            raise RequestError(f"frames of {self.frame_bytes} bytes: expected {MIN_FRAME} to {MAX_FRAME}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenCarousel(Summary):
    """A carousel.

    Attributes:
        file: Its file.
        frames: Frames in it.
        frame_bytes: Bytes of each.
        needed: Frames that a receiver needs, whichever they are; seldom one or two more.
    """

    file: str
    frames: int
    frame_bytes: int
    needed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedCopy(Summary):
    """A copy of a catalogue.

    Attributes:
        where: Its address.
        files: Files that were written there.
        bytes: Their bytes.
        removed: Files that were removed there.
    """

    where: str
    files: int
    bytes: int
    removed: int


def check_outlets(outlets: Outlets) -> None:
    """Try what is to be written, before any work. Raises RequestError, ResourceError, MissingExtra."""
    check_outputs(outlets.carousel)
    if outlets.carousel is not None:
        require("raptorq", extra="carousel", purpose="a carousel")
    if outlets.push is not None:
        _open(str(outlets.push))


def write_card_beside(folder: CatalogueFolder, catalogue: Catalogue, outlets: Outlets) -> None:
    """Write README.md into the folder, where it is asked for. Raises RequestError: somebody else's is there."""
    if not outlets.card and outlets.push is None:
        return
    path = folder.path / CARD
    if path.exists() and not is_card_of_ours(path.read_bytes()):
        if outlets.card:
            raise RequestError(
                f"{path}: was not written by plada, and is left as it is. Rename it, or leave out --card"
            )
        return
    card = write_card(catalogue, str(outlets.push or "WHERE").rstrip("/"))
    if not path.exists() or path.read_bytes() != card:
        write_bytes(path, card)


def write_frames(folder: CatalogueFolder, catalogue: Catalogue, outlets: Outlets) -> WrittenCarousel | None:
    """Write the carousel's file, where one is asked for: the catalogue, and of each task the newest version and its changes.
    References' files are not in it."""
    if outlets.carousel is None:
        return None
    names = [WHOLE, *(f"{TASKS}/{name}" for name in catalogue.tasks)]
    for task in catalogue.tasks.values():
        plain = [form for form in task.forms if not form.progressive] or task.forms
        names += [f"{FILES}/{each.file}" for each in (*plain, *task.changes) if each.file]
    files = {name: (folder.path / name).read_bytes() for name in dict.fromkeys(names)}
    frames = write_carousel(files, outlets.frame_bytes)
    write_bytes(Path(outlets.carousel), frames.data)
    return WrittenCarousel(
        file=str(outlets.carousel), frames=frames.count, frame_bytes=frames.frame_bytes, needed=frames.needed
    )


def push(folder: CatalogueFolder, catalogue: Catalogue, outlets: Outlets, report: Report) -> PushedCopy | None:
    """Make the copy at `outlets.push` the same as the folder, so that a reader sees the old catalogue or the new one: what others
    name comes first and goes last. A push that was stopped is finished by the next one.

    Raises:
        RequestError: another catalogue, or a newer one, is there; it cannot be written. MissingExtra: a package is missing.
    """
    if outlets.push is None:
        return None
    where = str(outlets.push)
    store = _open(where)
    store.check(catalogue)
    ours = {str(path.relative_to(folder.path)): path for path in _files(folder.path)}
    order = sorted(ours, key=lambda name: (_ORDER.index(name.partition("/")[0]), name))
    theirs = store.listed()
    tracker = Tracker("push", len(order), report)
    written = size = 0
    for name in order:
        data = ours[name].read_bytes()
        # What is named by its content is the same where it is as long.
        same = theirs.get(name) == len(data) and (name.startswith(f"{FILES}/") or store.read(name, len(data)) == data)
        if not same:
            store.write(name, data)
            written, size = written + 1, size + len(data)
        tracker.advance()
    stale = sorted(name for name in theirs if name not in ours and name.startswith((f"{FILES}/", f"{TASKS}/")))
    for name in stale:
        store.remove(name)
    return PushedCopy(where=where, files=written, bytes=size, removed=len(stale))


def _files(folder: Path) -> Iterator[Path]:
    """The files of a catalogue in its folder; what else lies there stays there."""
    yield from (path for name in (FILES, TASKS) for path in sorted((folder / name).glob("*")) if path.is_file())
    yield from (folder / name for name in (WHOLE, JSON, CARD) if (folder / name).is_file())


@dataclass(frozen=True, slots=True)
class _Store:
    """A place that a catalogue is copied to: a file system of fsspec, and a path in it."""

    where: str
    system: Any
    root: str

    def check(self, catalogue: Catalogue) -> None:
        """Raises RequestError: another catalogue, or a newer one, is there."""
        data = self.read(WHOLE, MAX_TEXT) if self._does(lambda: self.system.exists(self._path(WHOLE))) else b""
        if not data:
            return
        try:
            there = read_catalogue(read_envelope(data, self.where).value(self.where), self.where)
        except PladaError as err:
            raise RequestError(f"{err}. Something else is there: name another place for --push") from err
        if there.name != catalogue.name:
            raise RequestError(
                f"{self.where}: holds the catalogue '{there.name}', not '{catalogue.name}'. Name another place for --push"
            )
        if there.serial > catalogue.serial:
            raise RequestError(
                f"{self.where}: holds serial number {there.serial}; this one is {catalogue.serial}. Somebody else has published there: "
                "bring that catalogue here first"
            )

    def listed(self) -> dict[str, int]:
        """Files that are there, with their sizes."""
        names: dict[str, int] = {}
        for part in (FILES, TASKS, ""):
            with self._named():
                try:
                    found = self.system.ls(self._path(part) if part else self.root, detail=True)
                except FileNotFoundError:
                    continue
            for each in found:
                name = f"{part}/" * bool(part) + str(each["name"]).rstrip("/").rpartition("/")[2]
                if each.get("type") == "file":
                    names[name] = int(each.get("size") or 0)
        return names

    def read(self, name: str, most: int) -> bytes:
        """At most `most` bytes of a file."""
        return bytes(self._does(lambda: self.system.cat_file(self._path(name), start=0, end=most)))

    def write(self, name: str, data: bytes) -> None:
        """Write a file, as far as the store can as a whole."""
        if "file" in _names(self.system.protocol):
            write_bytes(Path(self._path(name)), data)
            return
        self._does(lambda: self.system.makedirs(self._path(name).rpartition("/")[0], exist_ok=True))
        self._does(lambda: self.system.pipe_file(self._path(name), data))

    def remove(self, name: str) -> None:
        self._does(lambda: self.system.rm_file(self._path(name)))

    def _path(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}"

    def _does(self, call: Callable[[], Any]) -> Any:
        with self._named():
            return call()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except PladaError:
            raise
        except Exception as err:  # every file system of fsspec has errors of its own
            raise RequestError(
                f"{self.where}: cannot be written ({first_line(err)}). Look at the address and your rights there, and push again: what is "
                "there by now stays"
            ) from err


def _names(protocol: str | tuple[str, ...]) -> tuple[str, ...]:
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _open(where: str) -> _Store:
    import fsspec

    text = local_place(where)
    if text.startswith(("http://", "https://")):
        raise RequestError(f"{where}: a web server takes no files. Push to where it has them from")
    if text.startswith("hf://"):
        require("huggingface_hub", extra="hub", purpose="a URL of a Hub repository")
    try:
        system, root = fsspec.core.url_to_fs(text if "://" in text else str(Path(text).expanduser().absolute()))
    except (ImportError, ValueError) as err:
        raise RequestError(f"{where}: cannot be written here ({first_line(err)}). Install what it names") from err
    system.invalidate_cache()  # a listing of earlier in this process may be stale
    return _Store(where, system, root)
