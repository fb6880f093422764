"""Files below one root: a local path or an fsspec URL, through the same few calls.

Every reader of collections goes through `Files`, so that a folder on a disk and one in an object store are one code.
"""

import fnmatch
import hashlib
import io
import os
import re
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol
from urllib.parse import unquote, urlparse

from plada.common.failures import first_line
from plada.errors import DataError, RequestError

LITTER = "__MACOSX"  # a folder that macOS adds to archives
_WILD = re.compile(r"[*?\[]")
# A pipe in the place of a listed file would be waited for. Windows would translate ends of lines.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_one_reader = threading.Lock()  # of an archive whose files share one stream
_one_seeker = threading.Lock()  # where a read cannot name its place
_DEEPEST = 64  # folders within each other in a remote store: more is a listing that leads back to itself
_GONE = "a link to nothing", "gone since the folder was listed"


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a folder. `stamp` changes when the file does; `identity` tells a folder met again through a link;
    `fault` says why it is no file to read."""

    name: str
    is_folder: bool
    size: int
    stamp: str
    identity: tuple[int, int] | None = None
    fault: str = ""


class Files(Protocol):
    """Paths are relative to the root, `/` between parts; the root itself is the empty path."""

    @property
    def location(self) -> str:
        """The path or URL that opens this root again."""
        ...

    @property
    def remote(self) -> bool:
        """Whether a read is a request over a network: fewer and larger ones are better."""
        ...

    def entries(self, folder: str) -> list[Entry]:
        """What lies in a folder, in no particular order. Raises DataError: it cannot be listed."""
        ...

    def read(self, path: str, offset: int = 0, size: int | None = None) -> bytes:
        """`size` bytes from `offset` on, fewer at the end of the file; all that follow where `size` is None. Raises
        DataError: the file is gone or may not be read."""
        ...

    def reader(self, path: str) -> AbstractContextManager[Callable[[int, int], bytes]]:
        """`read` of one file, as a function of offset and size, for many reads in a row; raises as `read` does."""
        ...

    def open(self, path: str) -> IO[bytes]:
        """The file as a seekable stream; raises as `read` does."""
        ...

    def stamp(self, path: str) -> str:
        """Something that changes when the file or folder does; empty where nothing is known."""
        ...

    def show(self, path: str) -> str:
        """Where a file is, for people."""
        ...


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """Files below a folder of this machine; `pattern` restricts the names directly below it."""

    root: Path
    pattern: str = "*"
    remote: bool = field(default=False, init=False)

    @property
    def location(self) -> str:
        return str(self.root if self.pattern == "*" else self.root / self.pattern)

    def entries(self, folder: str) -> list[Entry]:
        here = self.root / folder
        try:
            status = here.stat()
            with os.scandir(here) as found:
                listed = [_local_entry(entry) for entry in found if folder or fnmatch.fnmatch(entry.name, self.pattern)]
        except OSError as err:
            raise DataError(f"{here}: cannot be listed ({err.strerror}). Mend the permissions or the link") from err
        # The folder itself comes along under no name, so that a link back to it can be told.
        return [Entry("", True, 0, str(status.st_mtime_ns), (status.st_dev, status.st_ino)), *listed]

    def read(self, path: str, offset: int = 0, size: int | None = None) -> bytes:
        try:
            # Three system calls; a buffered file object costs five times as much for an image of two kilobytes.
            handle = os.open(f"{self.root}/{path}", _READ)
            try:
                if size is None:
                    size = max(os.fstat(handle).st_size - offset, 0)
                return _read_at(handle, offset, size)
            finally:
                os.close(handle)
        except OSError as err:
            raise _unreadable(self.show(path), err) from err

    @contextmanager
    def reader(self, path: str) -> Iterator[Callable[[int, int], bytes]]:
        try:
            handle = os.open(f"{self.root}/{path}", _READ)
            try:
                yield lambda offset, size: _read_at(handle, offset, size)
            finally:
                os.close(handle)
        except OSError as err:
            raise _unreadable(self.show(path), err) from err

    def open(self, path: str) -> IO[bytes]:
        try:
            return open(self.root / path, "rb", opener=lambda name, flags: os.open(name, flags | _READ))
        except OSError as err:
            raise _unreadable(self.show(path), err) from err

    def stamp(self, path: str) -> str:
        try:
            return str((self.root / path).stat().st_mtime_ns)
        except OSError:
            return ""

    def show(self, path: str) -> str:
        return str(self.root / path)


@dataclass(frozen=True, slots=True)
class RemoteFiles:
    """Files below an fsspec URL: s3://, gs://, http://, memory://, zip://... as far as its packages are installed."""

    url: str
    system: Any
    root: str
    pattern: str = "*"
    remote: bool = field(default=True, init=False)

    @property
    def location(self) -> str:
        return self.url if self.pattern == "*" else join_url(self.url, self.pattern)

    def entries(self, folder: str) -> list[Entry]:
        try:
            found = self.system.ls(self._full(folder), detail=True)
        except Exception as err:  # every file system of fsspec has errors of its own
            raise DataError(f"{self.show(folder)}: cannot be listed ({first_line(err)}). Check the address") from err
        own = self._full(folder).strip("/")
        listed = [_remote_entry(info) for info in found if info["name"].strip("/") != own]
        return [entry for entry in listed if folder or fnmatch.fnmatch(entry.name, self.pattern)]

    def read(self, path: str, offset: int = 0, size: int | None = None) -> bytes:
        try:
            end = None if size is None else offset + size
            with _one_reader if self._shares_a_stream else nullcontext():
                if end is None and not offset:
                    return bytes(self.system.cat_file(self._full(path)))
                return bytes(self.system.cat_file(self._full(path), start=offset, end=end))
        except Exception as err:
            raise DataError(f"{self.show(path)}: listed but cannot be read ({first_line(err)}). Try again") from err

    @contextmanager
    def reader(self, path: str) -> Iterator[Callable[[int, int], bytes]]:
        yield lambda offset, size: self.read(path, offset, size)

    def open(self, path: str) -> IO[bytes]:
        if self._shares_a_stream:
            return io.BytesIO(self.read(path))
        try:
            stream: IO[bytes] = self.system.open(self._full(path), "rb")
            return stream
        except Exception as err:
            raise DataError(f"{self.show(path)}: listed but cannot be read ({first_line(err)}). Try again") from err

    def stamp(self, path: str) -> str:
        return ""

    def show(self, path: str) -> str:
        return join_url(self.url, path) if path else self.url

    @property
    def _shares_a_stream(self) -> bool:
        """Whether all files are read through one stream, as those of tar:// are: threads would read each other's bytes."""
        return bool({"tar", "libarchive"} & {*_names(self.system.protocol)})

    def _full(self, path: str) -> str:
        # Without a slash where the root is that of an archive: it would be listed for every folder.
        root = self.root.rstrip("/") + "/" if self.root.strip("/") else self.root
        return f"{root}{path}" if path else self.root


def open_files(place: str | Path) -> tuple[Files, str]:
    """(the files below a path or URL, the path of the one file meant, empty where a folder is meant).

    A place whose last part has a wildcard, such as `data/train-*.parquet`, means the files that match it.

    Raises:
        RequestError: nothing there, or a kind of URL that nothing installed can read.
    """
    text = str(place)
    if "://" in text and urlparse(text).scheme != "file":
        return _open_remote(text)
    path = Path(unquote(urlparse(text).path) if "://" in text else text).expanduser().absolute()
    if path.is_dir():
        return LocalFiles(path), ""
    if path.exists():
        return LocalFiles(path.parent), path.name
    if _WILD.search(path.name) and path.parent.is_dir():
        return LocalFiles(path.parent, path.name), ""
    raise RequestError(f"{text}: expected a folder of images, of tar or of parquet files; there is none")


def _open_remote(url: str) -> tuple[Files, str]:
    import fsspec

    bare, pattern = url, "*"
    head, last = split_url(url)
    if _WILD.search(last):
        bare, pattern = head, last
    try:
        system, root = fsspec.core.url_to_fs(bare)
        system.invalidate_cache()  # a listing of earlier in this process may be stale
        folder = not root.strip("/") or system.info(root).get("type") == "directory"
        if folder and not root.strip("/"):
            system.ls(root)  # the root of an archive, which need not have an entry of its own
    except (ImportError, ValueError) as err:
        raise RequestError(f"{url}: cannot be read here ({first_line(err)}). Install what it names") from err
    except Exception as err:
        raise RequestError(f"{url}: nothing can be reached there ({first_line(err)}). Check the address") from err
    if folder:
        return RemoteFiles(bare, system, root, pattern), ""
    head, last = split_url(bare)
    return RemoteFiles(head, system, root.rpartition("/")[0]), last


def _names(protocol: str | tuple[str, ...]) -> tuple[str, ...]:
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _first_link(url: str) -> tuple[str, str, str]:
    """(before, link, behind) of a URL or a chain of URLs: the link is the one whose path is meant, the first with a path, as in
    `simplecache::zip://folder::https://host/file.zip`."""
    links = url.split("::")
    at = next((number for number, link in enumerate(links) if "://" in link), 0)
    return "".join(f"{link}::" for link in links[:at]), links[at], "".join(f"::{link}" for link in links[at + 1 :])


def join_url(url: str, path: str) -> str:
    """The URL of a path below a URL, which may be a chain: zip://::FILE and a/b is zip://a/b::FILE."""
    before, link, behind = _first_link(url)
    return f"{before}{link if link.endswith('://') else link.rstrip('/') + '/'}{path}{behind}"


def split_url(url: str) -> tuple[str, str]:
    """(the URL of the folder, the name in it) of a URL, which may be a chain."""
    before, link, behind = _first_link(url)
    protocol, _, path = link.partition("://")
    head, _, last = path.rpartition("/")
    return f"{before}{protocol}://{head}{behind}", last


def walk(
    files: Files, folder: str = "", above: frozenset[tuple[int, int]] = frozenset(), depth: int = 0
) -> Iterator[tuple[str, Entry]]:
    """(path, entry) of everything below `folder` that is not hidden or litter of an archive, folder by folder; a folder comes before its files.

    In each folder the order is that of canonical keys: a file by its name without extension, a folder by its name
    and a slash, so that keys come out sorted. Links are followed.

    Raises:
        DataError: a folder that cannot be listed, a link that leads back to a folder above or to nothing, a file that is
            gone before it was seen, a name that is not UTF-8.
    """
    if depth > _DEEPEST and files.remote:
        raise DataError(
            f"{files.show(folder)}: lies more than {_DEEPEST} folders deep, so this listing leads back to itself. Give a "
            "folder without such a loop"
        )
    entries = files.entries(folder)
    own = next((entry.identity for entry in entries if not entry.name), None)
    if own is not None:
        if own in above:
            raise DataError(f"{files.show(folder)}: a link that leads back to a folder above it. Remove the link")
        above = above | {own}
    for entry in sorted((entry for entry in entries if not _is_hidden(entry)), key=_place):
        path = f"{folder}/{entry.name}" if folder and entry.name else folder or entry.name
        if entry.is_folder and entry.name:
            _check_name(files, path)
            yield from walk(files, path, above, depth + 1)
        else:
            if entry.fault in _GONE:
                check_readable(files, path, entry)
            yield path, entry


def check_readable(files: Files, path: str, entry: Entry) -> None:
    """Raises DataError: an entry that counts is a pipe, a socket or a device, leads to nothing, or is gone."""
    if entry.fault:
        todo = {
            _GONE[0]: "Restore what it leads to, or remove it",
            _GONE[1]: "Wait until nothing changes, and run again",
        }
        raise DataError(
            f"{files.show(path)}: cannot be read, it is {entry.fault}. {todo.get(entry.fault, 'Put a file in its place, or remove it')}"
        )


def _is_hidden(entry: Entry) -> bool:
    """Hidden names, and the folder that macOS adds to archives."""
    return entry.name.startswith(".") or (entry.is_folder and entry.name == LITTER)


def plain_name(location: str) -> str:
    """A name for people: the last part of a path, or a registered name with its options, in plain characters."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(location).name).strip("-.") or "collection"


def slug(location: str) -> str:
    """A folder name that no other collection has: the plain name, and a hash of the location where that says more."""
    plain = plain_name(location)
    return plain if plain == location else f"{plain}-{hashlib.sha256(location.encode()).hexdigest()[:8]}"


def _place(entry: Entry) -> str:
    if not entry.name:
        return ""
    return entry.name + "/" if entry.is_folder else entry.name[: len(entry.name) - len(suffix_of(entry.name))]


def suffix_of(name: str) -> str:
    """The extension of a file name with its dot, empty where it has none: `.JPEG` of `a.v2.JPEG`."""
    stem, dot, suffix = name.rpartition(".")
    return dot + suffix if stem.strip(".") and suffix and "/" not in suffix else ""


def _check_name(files: Files, path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"{files.location}: the name {path!r} is not UTF-8. Rename it: keys must read alike everywhere"
        ) from None


def _local_entry(entry: os.DirEntry[str]) -> Entry:
    if entry.is_dir():
        return Entry(entry.name, True, 0, "")
    try:
        status = entry.stat()
    except FileNotFoundError:
        return Entry(entry.name, False, 0, "", fault=_GONE[0] if entry.is_symlink() else _GONE[1])
    fault = (
        "" if stat.S_ISREG(status.st_mode) else "a pipe" if stat.S_ISFIFO(status.st_mode) else "a socket or a device"
    )
    return Entry(entry.name, False, status.st_size, str(status.st_mtime_ns), fault=fault)


def _remote_entry(info: dict[str, Any]) -> Entry:
    stamp = next(
        (str(info[name]) for name in ("ETag", "etag", "mtime", "LastModified", "created") if info.get(name)), ""
    )
    return Entry(PurePosixPath(info["name"]).name, info["type"] == "directory", int(info.get("size") or 0), stamp)


def _read_at(handle: int, offset: int, size: int) -> bytes:
    data = _read_once(handle, offset, size)
    if len(data) == size or not data:
        return data
    # One call gives at most 2 GiB, and a network file system may give less than was asked for.
    parts = [data]
    while data and sum(map(len, parts)) < size:
        done = sum(map(len, parts))
        parts.append(data := _read_once(handle, offset + done, size - done))
    return b"".join(parts)


def _read_once(handle: int, offset: int, size: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(handle, size, offset)
    with _one_seeker:  # Windows: threads share the place in a file
        os.lseek(handle, offset, os.SEEK_SET)
        return os.read(handle, size)


def _unreadable(where: str, err: OSError) -> DataError:
    return DataError(f"{where}: listed but cannot be read ({err.strerror}). Restore it or list again")
