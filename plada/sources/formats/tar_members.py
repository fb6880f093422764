"""The members of one tar file: where each lies, after checking that the archive is whole.

The plain headers of images are parsed here, some thirty times as fast as `tarfile` does; a tar with anything else in it (long
names, sparse files, sizes over 8 GiB) is handed to `tarfile`. Both refuse what `tarfile` alone passes over without a
word: a cut at a member boundary, and a second archive behind the first.
"""

import io
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from plada.common.arrays import I64
from plada.common.failures import first_line
from plada.errors import DataError
from plada.sources.names import first_fault, shortened
from plada.sources.storage import Files

_BLOCK = 512
_ZERO = bytes(_BLOCK)
_NEAR = 1 << 16  # window of one read where members are small or each read is a request over a network
_FAR = 4096  # and where they are large: the header, and the small file that often lies between two images
_REMOTE = 8 << 20
_PLAIN = frozenset((0x30, 0x00, 0x37))  # regular files
_FOLDER = 0x35
_PAX = 0x78


@dataclass(frozen=True, slots=True)
class Members:
    """The regular files of a tar, in its order: names (pyarrow string array [n], without a leading `./`), where the bytes
    of each begin, and how many there are (int64 [n])."""

    names: Any
    offsets: I64
    sizes: I64

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, slots=True)
class InnerFiles:
    """The files that lie in an archive as plain bytes, each seen as a file of its own: `size` bytes from `base` on."""

    files: Files
    path: str
    base: int
    size: int

    @property
    def remote(self) -> bool:
        return self.files.remote

    def read(self, path: str, offset: int = 0, size: int | None = None) -> bytes:
        left = max(self.size - offset, 0)
        return self.files.read(self.path, self.base + offset, left if size is None else min(size, left))

    @contextmanager
    def reader(self, path: str) -> Iterator[Callable[[int, int], bytes]]:
        with self.files.reader(self.path) as read:
            yield lambda offset, size: read(self.base + offset, max(min(size, self.size - offset), 0))

    def open(self, path: str) -> IO[bytes]:
        return io.BytesIO(self.read(path))  # for the rare tar that only tarfile understands

    def show(self, path: str) -> str:
        return f"{self.files.show(self.path)}: {path}"


class _NotPlainError(Exception):
    """The fast walk met something that is for tarfile to judge."""


def walk_tar(files: Files | InnerFiles, path: str, length: int) -> Members:
    """Every regular file of a tar of `length` bytes. Raises DataError: the tar is cut, concatenated, or not a tar; a
    name that leads out of it, is not UTF-8, or a link."""
    try:
        with files.reader(path) as read:
            found, end = _walk_plain(files, path, length, read)
    except _NotPlainError:
        found, end = _walk_any(files, path)
    _check_end(files, path, end, length)
    names, offsets, sizes = zip(*found, strict=True) if found else ((), (), ())
    try:
        text = pa.array(names, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        bad = next(name for name in names if not _is_utf8(name))
        raise DataError(
            f"{files.show(path)}: the member name {bad!r} is not UTF-8. Make the tar anew with UTF-8 names"
        ) from None
    text = pc.replace_substring_regex(text, r"^\./", "", max_replacements=1)
    row, fault = first_fault(text, hidden=False)  # hidden ones are passed over, as in folders
    if fault:
        raise DataError(
            f"{files.show(path)}: member {row}, '{shortened(text[row].as_py())}', {fault}. Do not trust it; fetch the tar "
            "from its source again, or make it anew without that member"
        )
    return Members(text, np.asarray(offsets, np.int64), np.asarray(sizes, np.int64))


Found = list[tuple[bytes, int, int]]


def _walk_plain(
    files: Files | InnerFiles, path: str, length: int, read: Callable[[int, int], bytes]
) -> tuple[Found, int]:
    found: Found = []
    window, base, at = b"", 0, 0
    while True:
        start = at - base
        block = window[start : start + _BLOCK]
        if len(block) < _BLOCK:
            large = at > len(found) * _NEAR // 4
            span = _REMOTE if files.remote else _FAR if large else _NEAR
            window, base = read(at, min(span, max(length - at, 0))), at
            block = window[:_BLOCK]
            if len(block) < _BLOCK:
                raise DataError(f"{files.show(path)}: ends without the end-of-archive mark; it was cut. Fetch it again")
        kind = block[156]
        if kind not in _PLAIN:
            if kind == _PAX:
                at = _skip_pax(files, path, at, block)
                continue
            if kind != _FOLDER:
                raise _NotPlainError
        elif not kind and block == _ZERO:
            return found, at
        size = _size(block)
        at += _BLOCK
        if at + size > length:
            raise DataError(f"{files.show(path)}: not a whole tar file (ends inside a member). Fetch it again")
        name = block[: block.find(0, 0, 100)] if block[99] == 0 else block[:100]
        if block[345] and block[257:263] == b"ustar\0":
            name = block[345:500].partition(b"\0")[0] + b"/" + name
        if kind != _FOLDER and name[-1:] != b"/":
            found.append((name, at, size))
        at += (size + 511) & -512


def _size(block: bytes) -> int:
    try:
        total = int(block[148:156].rstrip(b"\0 "), 8)
        size = int(block[124:136].rstrip(b"\0 "), 8)
    except ValueError:
        raise _NotPlainError from None
    # The checksum is the sum of all bytes, its own field taken as spaces. The low half of Adler-32 is one more than such
    # a sum, modulo 65521, and comes a hundred times as fast as adding up here.
    if zlib.adler32(block[156:], zlib.adler32(block[:148])) & 0xFFFF != (total - 8 * 32 + 1) % 65521:
        raise _NotPlainError
    return size


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _skip_pax(files: Files | InnerFiles, path: str, at: int, block: bytes) -> int:
    """Where the next header lies, if the extended header changes neither name nor size."""
    size = _size(block)
    text = files.read(path, at + _BLOCK, size)
    if any(word in text for word in (b" path=", b" size=", b" GNU.sparse", b" hdrcharset=", b" linkpath=")):
        raise _NotPlainError
    return at + _BLOCK + (size + _BLOCK - 1) // _BLOCK * _BLOCK


def _walk_any(files: Files | InnerFiles, path: str) -> tuple[Found, int]:
    """The same by tarfile, slower and for every dialect."""
    try:
        with files.open(path) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            found = [_checked(files, path, member) for member in tar if not member.isdir()]
            return found, tar.offset
    except (
        tarfile.TarError,
        EOFError,
        OSError,
        ValueError,
        OverflowError,
        MemoryError,
    ) as err:  # sizes out of any bounds
        raise DataError(f"{files.show(path)}: not a whole tar file ({first_line(err)}). Fetch it again") from err


def _checked(files: Files | InnerFiles, path: str, member: tarfile.TarInfo) -> tuple[bytes, int, int]:
    if not member.isreg() or member.issparse():
        raise DataError(
            f"{files.show(path)}: member '{member.name}' is a link, a device or sparse; its bytes cannot be read in "
            "place. Make the tar anew from plain files"
        )
    return member.name.encode(errors="surrogateescape"), member.offset_data, member.size


def _check_end(files: Files | InnerFiles, path: str, end: int, length: int) -> None:
    """tarfile stops without a word at a cut between members and at the first of two concatenated archives."""
    tail = files.read(path, end, 2 * _BLOCK)
    if len(tail) < 2 * _BLOCK or any(tail):
        raise DataError(f"{files.show(path)}: ends without the end-of-archive mark; it was cut. Fetch it again")
    for block in _blocks(files, path, end + 2 * _BLOCK, length):
        if any(block):
            raise DataError(
                f"{files.show(path)}: something follows its end-of-archive mark; it is several tars in one. Split it"
            )


def _blocks(files: Files | InnerFiles, path: str, start: int, stop: int) -> Iterator[bytes]:
    for at in range(start, stop, 1 << 20):
        yield files.read(path, at, min(1 << 20, stop - at))
