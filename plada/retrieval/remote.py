"""An index at a URL, read where it lies: its table by Lance, its other files through Lance's client of the same store. So address,
credentials and time limits are the same for all of it, and no message names a credential.
"""

import os
import re
import shutil
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from blake3 import blake3

from plada.common.failures import explained, first_line
from plada.common.files import one_writer, write_bytes
from plada.common.outputs import raise_output_error
from plada.common.packages import require
from plada.common.progress import Report, Tracker
from plada.common.units import format_size
from plada.errors import DataError, PladaError, RequestError, ResourceError
from plada.indexer.ann import FILES, digest, read_ann_json, untouched
from plada.indexer.store import DAMAGE

SCHEMES = ("s3", "gs", "az", "abfss", "oss")  # of the stores that Lance reads
COPY = "Copy the folder of the index again, index.json last (`aws s3 cp --recursive`)"
# How long a store may say nothing, and how often it is asked again. Lance asks four times for each of these tries, and by its own
# settings waits for a dead network for many minutes.
_PATIENCE = {
    "connect_timeout": "5s", "read_timeout": "8s", "timeout": "10m", "client_max_retries": "1", "client_retry_timeout": "20",
    "lance_aimd_max_retries": "0",
}  # fmt: skip
_MAX_JSON = 1 << 26
_PIECE, _AT_ONCE = 1 << 24, 4  # bytes of a request for a part of a file, and how many of them wait
_SECRET = re.compile(r"secret|token|key|password|sas|credential", re.IGNORECASE)
_SHOWABLE = 6  # letters that are no secret
_BUCKET = "NoSuchBucket", "ContainerNotFound"
_ACCESS = re.compile(
    r"40[13] |AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken|privileges|nauthenticated|"
    r"nauthorized|credentials|ProviderError"
)
_SILENCE = re.compile(
    r"error sending request|timed? ?out|response body|onnection (?:refused|reset|closed)|dns error|retries|50[0234] "
)
_MISSING = re.compile(r"not found|404 |NoSuchKey|416 |InvalidRange", re.IGNORECASE)
_FILE = re.compile(r"[^\s:]+\.(?:lance|manifest|json|faiss|f16|txn)\b")


def is_url(place: object) -> bool:
    """Whether a place is a URL, and not a path or the URL of one (file://)."""
    return isinstance(place, str) and "://" in place and not place.startswith("file:")


@dataclass(frozen=True, slots=True)
class RemoteFolder:
    """The folder of an index in a store. `options` are Lance's storage options beyond what the environment says."""

    url: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    _opened: list[Any] = field(default_factory=list, repr=False, compare=False)

    def read(self, name: str) -> bytes | None:
        """A small file; None where there is none.

        Raises:
            RequestError: no such bucket, or no access. ResourceError: the store does not answer. DataError: it is no small file.
        """
        try:
            data = self._range(name, 0, _MAX_JSON)
        except _NotThereError:
            return None
        if len(data) == _MAX_JSON:
            raise DataError(
                f"{self.url}/{name}: is larger than {format_size(_MAX_JSON)}; not what plada writes. {COPY}"
            )
        return data

    def folders(self) -> list[str]:
        """Names of the folders in it; raises as `read` does."""
        with explained(DAMAGE, self.explain):
            found = self._session().list_with_delimiter()
        return sorted(Path(name).name for name in found.common_prefixes)

    def dataset(self, table: str, version: int) -> Any:
        """A version of a table as a Lance data set; raises what Lance does."""
        require("lance", extra="cpu", purpose="an index")
        import lance

        return lance.dataset(f"{self.url}/{table}.lance", version=version, storage_options=self._storage())

    def database(self) -> Any:
        """The LanceDB database that the folder is."""
        os.environ.setdefault("LANCEDB_LOG", "error")
        require("lancedb", extra="cpu", purpose="an index")
        import lancedb

        return lancedb.connect(self.url, storage_options=self._storage())

    def copy(self, name: str, path: Path, size: int, report: Report) -> None:
        """Copy a file of `size` bytes to `path`, some pieces at a time. A copy that was stopped goes on where it ended.

        Raises:
            DataError: it has another size. ResourceError: the store does not answer, the disk is full. RequestError: no access.
        """
        part, tracker = path.with_name(f"{path.name}.part"), Tracker(f"copy {path.name}, MB", -(-size // 10**6), report)
        with one_writer(path) as made_meanwhile:
            if made_meanwhile:
                return
            done = min(part.stat().st_size, size) // _PIECE * _PIECE if part.exists() else 0
            tracker.advance(done // 10**6)
            if shutil.disk_usage(path.parent).free < size - done:
                raise ResourceError(
                    f"{path.parent}: {format_size(size - done)} are needed for a copy of {self.url}/{name}, which is more than is "
                    "free. Free space, or search without --approximate"
                )
            try:
                with part.open("r+b" if part.exists() else "wb") as file, ThreadPoolExecutor(_AT_ONCE) as pool:
                    file.truncate(done)
                    file.seek(done)
                    offsets, waiting = deque(range(done, size, _PIECE)), deque[Future[bytes]]()
                    while offsets or waiting:
                        while offsets and len(waiting) < _AT_ONCE:
                            at = offsets.popleft()
                            waiting.append(pool.submit(self._range, name, at, min(_PIECE, size - at)))
                        file.write(waiting.popleft().result())
                        tracker.advance(file.tell() // 10**6 - tracker.done)
            except OSError as err:
                raise_output_error(path, err)
            if part.stat().st_size != size:
                found = part.stat().st_size
                part.unlink()
                raise DataError(f"{self.url}/{name}: expected {size} bytes, found {found}; a partial copy. {COPY}")
            part.replace(path)
            tracker.finish()

    def explain(self, err: BaseException) -> PladaError:
        """What an error of Lance's on this folder means, without anything that could be a credential."""
        if isinstance(err, PladaError):
            return err
        text = str(err)
        code = re.search(r"<Code>(\w+)</Code>", text)
        kind = code[1] if code else ""
        if kind in _BUCKET or any(name in text for name in _BUCKET):
            return RequestError(f"{self.url}: there is no such bucket. Mend the address, or AWS_ENDPOINT")
        if _ACCESS.search(text):
            said = kind or ("403 Forbidden" if "403" in text else "none were found, or they serve nothing here")
            return RequestError(
                f"{self.url}: access is refused ({said}). Look at the credentials in the environment (AWS_ACCESS_KEY_ID, ...) or "
                "in ~/.aws, and at what they allow"
            )
        if "builder error" in text:
            return RequestError(
                f"{self.url}: the address of the store is refused. Set AWS_ENDPOINT, and AWS_ALLOW_HTTP=true for one with http://"
            )
        if "resolve region" in text:
            return RequestError(
                f"{self.url}: the region of the bucket is not known. Set AWS_REGION, or mend the address"
            )
        if _SILENCE.search(text):
            host = re.search(r"https?://(?:[^/@\s]*@)?([^/?\s]+)", text)
            return ResourceError(
                f"{self.url}: the store{f' at {host[1]}' if host else ''} does not answer, or stopped in the middle. Look at the network "
                "and at AWS_ENDPOINT, and run the same command again"
            )
        if _MISSING.search(text):
            file = _FILE.search(text.partition("not found: ")[2] or text)
            missing = Path(file[0]).name if file else "a file"
            return _NotThereError(f"{self.url}: {missing} is missing there, or cut; a partial copy. {COPY}")
        return DataError(f"{self.url}: cannot be opened or read ({self._plain(text)}). {COPY}")

    def _plain(self, text: str) -> str:
        """The first line of an error, without what servers put behind it, queries and options."""
        line = first_line(RuntimeError(re.sub(r", /(?:home|rustc)/\S+$", "", text.partition("<")[0].strip())))
        line = re.sub(r"//[^/@\s]+@", "//", re.sub(r"(\w+://[^\s?]+)\?\S+", r"\1", line))
        for name, value in self.options.items():
            line = line.replace(value, "***") if len(value) >= _SHOWABLE and _SECRET.search(name) else line
        return line[:300]

    def _range(self, name: str, at: int, size: int) -> bytes:
        with explained(DAMAGE, self.explain):
            return bytes(self._session().read_range(name, at, size))

    def _session(self) -> Any:
        if not self._opened:
            require("lance", extra="cpu", purpose="an index")
            from lance.file import LanceFileSession

            self._opened.append(LanceFileSession(self.url, storage_options=self._storage()))
        return self._opened[0]

    def _storage(self) -> dict[str, str]:
        return {**_PATIENCE, **self.options}


class _NotThereError(DataError):
    """A file that a store does not have."""


def remote_folder(url: str, options: Mapping[str, str] | None = None) -> RemoteFolder:
    """The folder at a URL; nothing is opened yet.

    Raises:
        RequestError: no store of this kind is read; or the URL holds credentials, which would be shown.
    """
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise RequestError(
            f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}: the URL of an index has no user, password or query. "
            "Credentials belong into the environment (AWS_ACCESS_KEY_ID, ...) or ~/.aws"
        )
    if parts.scheme not in SCHEMES or not parts.netloc:
        known = ", ".join(f"{scheme}://" for scheme in (*SCHEMES, "file"))
        raise RequestError(f"{url}: an index is read from {known}, or from a folder. Copy it to one of these")
    return RemoteFolder(url.rstrip("/"), dict(options or {}))


def copied_ann(remote: RemoteFolder, cache: Path, report: Report) -> Path:
    """The folder below `cache` with a copy of the approximate index of a remote folder, whose digests were compared. What is there
    already is not copied again; copies of earlier ones are removed.

    Raises:
        RequestError: there is none. DataError: it is damaged. ResourceError: the disk is full, or the store does not answer.
    """
    data = remote.read("ann/ann.json")
    if data is None:
        raise RequestError(
            f"{remote.url}: this index has no approximate index. Make one where it was built (`plada index ... --ann ivf`) and "
            "copy it, too; or search exactly"
        )
    folder = cache / f"ann-{blake3(data).hexdigest(length=8)}"
    write_bytes(folder / "ann.json", data)
    info = read_ann_json(folder / "ann.json")
    for name in FILES:
        path = folder / name
        if untouched(path, info):
            continue
        match info.get("states", {}).get(name):
            case [int(size), int(written)]:
                pass
            case _:
                raise DataError(
                    f"{remote.url}/ann/ann.json: does not say the size of {name}; an older plada wrote it. Make the approximate index "
                    "again (plada.make_ann) where the index was built, and copy it"
                )
        wanted = info["digests"].get(name)
        if not path.is_file() or digest(path) != wanted:
            path.unlink(missing_ok=True)
            remote.copy(f"ann/{name}", path, size, report)
            if digest(path) != wanted:
                path.unlink()
                raise DataError(f"{remote.url}/ann/{name}: damaged: its digest is not that of ann.json. {COPY}")
        os.utime(path, ns=(written, written))  # so that it is believed from now on
    for other in cache.glob("ann-*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return folder
