"""Files fetched from a path, an http(s) URL or any URL of fsspec: whole, compared with size and digest, and resumed where the link
breaks.

HTTP is spoken with the standard library: a client needs no package for it, and sends four short header lines.
"""

import io
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, InvalidURL
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    AbstractHTTPHandler,
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPRedirectHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from plada.common.checksums import file_digest_b3
from plada.common.failures import first_line
from plada.common.files import local_place, one_writer
from plada.common.outputs import raise_output_error, refuse_what_is_no_file
from plada.common.packages import require
from plada.common.progress import Report, Tracker, silent
from plada.errors import PayloadCorrupt, PayloadTruncated, RequestError

_PIECE = 1 << 16  # bytes that are read at a time
_TIMEOUT = 30.0  # seconds without a byte
_ANSWER = 120.0  # seconds until the header of an answer, or a piece of its body, is whole
_ATTEMPTS = 5  # in a row that bring nothing new
_PAUSE = 0.25  # seconds before the second of them; doubled for each further one
_GRACE = 900.0  # seconds that any transfer may take
_SLOWEST = 50.0  # bytes a second below which a longer one is given up
_STRONG = 60.0  # seconds that a file must be older than the answer if its date is to name it (RFC 9110, 8.8.2.2)
_PERMANENT = (400, 401, 403, 404, 405, 406, 410, 414, 451)  # answers that another attempt does not change
_GONE = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ValueError, InvalidURL)
_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)")
_ASK = "There is another file than expected: ask its sender"


@dataclass(slots=True)
class _Stream:
    """What a place sends: from byte `start` on, of `total` bytes (None: it does not say). `version` names the version of the file
    where a later request can ask for the rest of the same one."""

    read: Callable[[int], bytes]
    start: int
    total: int | None
    version: str = ""


# (offset, version) to a stream that begins there, or at 0 where the place cannot begin in the middle.
_Opening = Callable[[int, str], AbstractContextManager[_Stream]]


def fetch_file(
    url: str, out: Path, *, size: int | None, digest: str | None, max_bytes: int, report: Report = silent
) -> None:
    """Fetch a file to `out`. Nothing is fetched where it is there already.

    A transfer that breaks is resumed, also by a later call where `digest` is given: what has come lies in `out`.part until all of it
    is there and right. Two calls for one `out` wait for each other.

    Args:
        url: A path, an http(s) URL, or a URL of fsspec.
        out: File to write.
        size: Bytes that it must have; None takes what comes.
        digest: Its BLAKE3, hexadecimal, whole or its first bytes; None takes what comes.
        max_bytes: What is larger is refused.
        report: Called as bytes come, and with a note where a transfer is resumed.

    Raises:
        RequestError: nothing there, it cannot be reached, or the link broke too often; what has come is kept. PayloadTruncated,
            PayloadCorrupt: another size or digest than expected, or more than `max_bytes`. ResourceError: the disk is full or not
            writable. MissingExtra: a kind of URL that needs a package.
    """
    if size is not None:
        _check_size(url, size, max_bytes)
    refuse_what_is_no_file(out)
    part = out.with_name(f"{out.name}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with one_writer(out):
            if digest is not None and out.exists() and size in (None, out.stat().st_size) and _is(out, digest):
                return
            transfer = _Transfer(url, out, size=size, max_bytes=max_bytes, resumable=digest is not None, report=report)
            for attempt in (1, 2):
                with part.open("ab+", buffering=0) as file:
                    transfer.fill(file)
                    os.fsync(file.fileno())
                if digest is None or _is(part, digest):
                    break
                part.unlink()
                if attempt == 2:
                    raise PayloadCorrupt(
                        f"{url}: came twice, and its BLAKE3 is not {digest[:16]} as expected. {_ASK}, or fetch it another way"
                    )
                transfer.tracker.say("the bytes are not the ones expected: fetching them again")
            part.replace(out)
    except OSError as err:
        raise_output_error(out, err)


def fetch_bytes(url: str, *, max_bytes: int) -> bytes:
    """The bytes at a path or URL, all of one version of the file; resumed where the place can tell its versions apart.

    A server that does not say how long its answer is can end it early and nobody sees it: compare what comes with a digest.

    Raises: as fetch_file does.
    """
    file = io.BytesIO()
    _Transfer(url, None, size=None, max_bytes=max_bytes, resumable=False, report=silent).fill(file)
    return file.getvalue()


class _Transfer:
    """One file on its way: its attempts, and what ends them.

    `resumable`: whether bytes of different attempts may be joined whatever the place says, since a digest is compared at the end.
    """

    def __init__(
        self, url: str, out: Path | None, *, size: int | None, max_bytes: int, resumable: bool, report: Report
    ) -> None:
        self.url, self.out, self.size, self.resumable = url, out, size, resumable
        self.most = max_bytes if size is None else size
        self.version = ""  # of the file that the bytes so far are of
        self.tracker = Tracker("fetch", size, report)
        self.began = time.monotonic()
        self.open = _opening(url)

    def fill(self, file: IO[bytes]) -> None:
        """Append to `file` what is missing. Raises as fetch_file does."""
        here = self._begin(file, self.resumable and file.seek(0, io.SEEK_END) <= self.most)
        idle, best = 0, here
        while self.size is None or here < self.size:
            try:
                self._attempt(file)
                return
            except (OSError, HTTPException, ValueError) as err:
                if isinstance(err, HTTPError) and err.code == 416 and self.resumable:  # nothing lies behind these bytes
                    self._check_total(here)
                    return
                here = file.seek(0, io.SEEK_END)
                idle = 0 if here > best else idle + 1
                self._judge(err, idle, here)
            best = max(best, here)
            if idle:
                time.sleep(_PAUSE * 2 ** (idle - 1))

    def _attempt(self, file: IO[bytes]) -> None:
        """Append what comes until all is there. Raises OSError, HTTPException: it broke off."""
        offset = self._begin(file, self.resumable or bool(self.version))
        with self.open(offset, self.version) as stream:
            if stream.start not in (0, offset):
                raise ConnectionError(f"byte {stream.start} came where {offset} was asked for")
            # What begins at 0 again is another version, or comes from a place that cannot begin in the middle.
            offset = self._begin(file, self.resumable or stream.start == offset)
            self.version = stream.version
            self._check_total(stream.total)
            position = stream.start
            while piece := stream.read(min(_PIECE, self.most + 1 - position)):
                self._write(file, piece[max(0, offset - position) :])
                position += len(piece)
                if position > self.most:
                    self._check_total(position)
                if self._is_late(position):
                    raise TimeoutError("too slow")
            expected = self.size if stream.total is None else stream.total
            if expected is not None and position < expected:
                raise ConnectionError(f"it ended after {position} of {expected} bytes")

    def _begin(self, file: IO[bytes], keep: bool) -> int:
        """The bytes of `file`, to which more is appended; none of them are kept without `keep`."""
        if not keep:
            file.seek(0)
            file.truncate(0)
        self.tracker.done = file.seek(0, io.SEEK_END)
        return self.tracker.done

    def _write(self, file: IO[bytes], piece: bytes) -> None:
        try:
            while piece:  # a file without a buffer takes what fits
                written = file.write(piece)
                piece = piece[written:]
                self.tracker.advance(written)
        except OSError as err:
            raise_output_error(self.out or Path(self.url), err)

    def _check_total(self, total: int | None) -> None:
        """Raises PayloadTruncated, PayloadCorrupt: the file there has not the size that is expected."""
        if total is not None and self.size is None:
            _check_size(self.url, total, self.most)
        elif total is not None and self.size is not None and total != self.size:
            kind = PayloadTruncated if total < self.size else PayloadCorrupt
            raise kind(f"{self.url}: has {total} bytes; expected {self.size}. {_ASK}")

    def _is_late(self, come: int) -> bool:
        return time.monotonic() - self.began > _GRACE + come / _SLOWEST

    def _judge(self, err: Exception, idle: int, come: int) -> None:
        """Say that the transfer is resumed. Raises RequestError: another attempt is of no use."""
        if isinstance(err, HTTPError):
            err.close()
        cause = err.reason if isinstance(err, URLError) and isinstance(err.reason, Exception) else err
        lasting = isinstance(err, HTTPError) and (err.code in _PERMANENT or err.code < 400)
        why = f"HTTP {err.code} {err.reason}".splitlines()[0] if isinstance(err, HTTPError) else first_line(cause)
        if lasting or isinstance(cause, _GONE):
            raise RequestError(
                f"{self.url}: cannot be fetched ({why}). Check the address, or fetch the file yourself"
            ) from err
        if idle >= _ATTEMPTS or self._is_late(come):
            kept = (
                "What has come is kept, and the same call resumes it" if self.resumable and come else "Try again later"
            )
            expected = "its" if self.size is None else self.size
            end = f"{idle} attempts in a row brought nothing more" if idle >= _ATTEMPTS else "it takes too long"
            raise RequestError(
                f"{self.url}: broke off after {come} of {expected} bytes ({why}); {end}. {kept}, or fetch the file yourself"
            ) from err
        self.tracker.say(f"broke off after {come} bytes ({why}): resuming")


def _check_size(url: str, size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise PayloadCorrupt(f"{url}: has {size} bytes or more; at most {max_bytes} are taken here. {_ASK}")


def _is(path: Path, digest: str) -> bool:
    """Whether the BLAKE3 of a file begins with `digest`."""
    return len(digest) >= 32 and file_digest_b3(path).hex().startswith(digest.lower())


def _opening(place: str) -> _Opening:
    """How the file at a place is opened. Raises RequestError, MissingExtra: a kind of URL that cannot be read here."""
    text = local_place(place)
    if text.startswith(("http://", "https://")) and "::" not in text:
        return partial(_open_http, text)
    return _store(text) if "://" in text else partial(_open_local, Path(text))


@contextmanager
def _open_local(path: Path, offset: int, _: str) -> Iterator[_Stream]:
    with path.open("rb") as file:
        total = os.fstat(file.fileno()).st_size
        yield _Stream(file.read, file.seek(offset), total)


def _store(url: str) -> _Opening:
    """A file at another kind of URL."""
    import fsspec

    if url.startswith("hf://"):
        require("huggingface_hub", extra="hub", purpose="a URL of a Hub repository")
    try:
        system, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as err:
        raise RequestError(f"{url}: cannot be read here ({first_line(err)}). Install what it names") from err

    @contextmanager
    def opened(offset: int, _: str) -> Iterator[_Stream]:
        with _as_broken_link():
            system.invalidate_cache()  # a listing of earlier in this process may be stale
            file = system.open(path, "rb")
        with file:
            with _as_broken_link():
                start = int(file.seek(offset)) if offset and file.seekable() else 0
            yield _Stream(_reader(file), start, getattr(file, "size", None))

    return opened


def _reader(file: Any) -> Callable[[int], bytes]:
    def read(size: int) -> bytes:
        with _as_broken_link():
            return bytes(file.read(size))

    return read


@contextmanager
def _as_broken_link() -> Iterator[None]:
    """Every file system of fsspec has errors of its own: what is not there stays so, anything else is worth another attempt."""
    try:
        yield
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError):
        raise
    except Exception as err:
        raise ConnectionError(first_line(err)) from err


@contextmanager
def _open_http(url: str, offset: int, version: str) -> Iterator[_Stream]:
    clock = _Clock()
    request = Request(url, headers={"User-Agent": "plada"})
    if offset:
        request.add_header("Range", f"bytes={offset}-")
        if version:
            request.add_header("If-Range", version)
    with _opener(clock).open(request, timeout=_TIMEOUT) as response:
        headers = response.headers
        if headers.get("Content-Encoding", "identity").lower() != "identity":
            raise RequestError(
                f"{url}: came as {headers['Content-Encoding']}, which was not asked for. Have the server send the file as it is"
            )
        found = _RANGE.fullmatch(headers.get("Content-Range", ""))
        if response.status != 200 and not (response.status == 206 and found):
            raise ConnectionError(f"HTTP {response.status} without the bytes that were asked for")
        if response.status == 206 and found:
            start, total = int(found[1]), None if found[2] == "*" else int(found[2])
        else:
            start, total = 0, response.length  # None where it comes in chunks, or until the connection ends
        yield _Stream(clock.reader(response), start, total, _version(headers))


def _opener(clock: "_Clock") -> OpenerDirector:
    """What speaks HTTP and nothing else: a redirect leads to no file of this machine."""
    opener = OpenerDirector()
    opener.addheaders = []
    known = (
        ProxyHandler(),
        UnknownHandler(),
        HTTPDefaultErrorHandler(),
        HTTPErrorProcessor(),
        _Redirects(),
        _Http(clock),
    )
    for handler in known:
        opener.add_handler(handler)
    return opener


def _version(headers: Any) -> str:
    """What names the version of the file for If-Range: a strong ETag, or a date that is old enough; else nothing."""
    tag, changed, now = headers.get("ETag", ""), headers.get("Last-Modified"), headers.get("Date")
    if tag.startswith('"'):
        return str(tag)
    try:
        age = (parsedate_to_datetime(now) - parsedate_to_datetime(changed)).total_seconds()
    except (TypeError, ValueError):
        return ""
    return str(changed) if age >= _STRONG else ""


class _Clock:
    """Limits how long a server may drip the bytes of one answer: no timeout of a socket does."""

    def __init__(self) -> None:
        self.until = time.monotonic() + _ANSWER

    def reader(self, response: HTTPResponse) -> Callable[[int], bytes]:
        def read(size: int) -> bytes:
            self.until = time.monotonic() + _ANSWER
            return response.read1(size)  # what is there; `read` waits until all of it is

        return read

    def connection(self, kind: type[HTTPConnection], host: str, **options: Any) -> HTTPConnection:
        made = kind(host, **options)
        made.response_class = partial(_TimedResponse, self)  # type: ignore[assignment]
        return made


class _TimedResponse(HTTPResponse):
    def __init__(self, clock: _Clock, sock: Any, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp = io.BufferedReader(_TimedSocket(clock, sock, self.fp.detach()))


class _TimedSocket(io.RawIOBase):
    def __init__(self, clock: _Clock, sock: Any, raw: Any) -> None:
        self.clock, self.sock, self.raw = clock, sock, raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self.clock.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self.sock.settimeout(min(_TIMEOUT, left))
        count: int | None = self.raw.readinto(buffer)
        return count

    def close(self) -> None:
        self.raw.close()
        super().close()


class _Http(AbstractHTTPHandler):
    def __init__(self, clock: _Clock) -> None:
        super().__init__()
        self.clock = clock

    def http_open(self, req: Request) -> HTTPResponse:
        return self.do_open(partial(self.clock.connection, HTTPConnection), req)

    def https_open(self, req: Request) -> HTTPResponse:
        return self.do_open(partial(self.clock.connection, HTTPSConnection), req)

    http_request = https_request = AbstractHTTPHandler.do_request_


class _Redirects(HTTPRedirectHandler):
    """Follows a redirect, but never from https to what anybody on the way can read and change."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new not in ("http", "https") or (old, new) == ("https", "http"):
            fp.close()
            raise RequestError(
                f"{req.full_url}: leads to {newurl}, which is {new} and not {old}. Name the address that you mean"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)
