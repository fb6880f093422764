"""The identity of a collection: every key, size and content hash, and the two ids that payloads carry.

Hash: BLAKE3 cut to 16 bytes. It is as fast as the non-cryptographic hashes on images of a hundred kilobytes, and
nobody can make another image with the same hash, on which the meaning of a payload depends (docs/decisions.md).

A manifest is a Parquet file in small row groups with checksums, those of pages and one of the footer. Only its footer is read when it is opened: 14.2
million rows open in milliseconds, and a lookup decodes one group.
"""

import bisect
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from blake3 import blake3

from plada.common.arrays import I32, I64, U8
from plada.common.checksums import NO_DIGEST
from plada.common.files import whole_file
from plada.errors import DataError, RequestError
from plada.sources.collection import first_at_least
from plada.sources.parquet_errors import PARQUET_ERRORS

HASH_BYTES = 16
READABLE = "readable"
_FORMAT = b"2"
_GROUP = 4096  # rows of a row group: a lookup decodes one, a third of a millisecond
_KEPT = 64  # groups that stay decoded
_FOOTER_DIGEST = "footer_digest"
_REMEDY = "Delete it; it is made again when needed"
_SCHEMA = pa.schema(
    [
        pa.field("position", pa.uint32(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("hash", pa.binary(HASH_BYTES), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("status", pa.string()),
    ]
)


def content_hash(data: bytes) -> bytes:
    """Hash of one image's stored bytes, 16 bytes."""
    return blake3(data).digest(HASH_BYTES)


def key_id(keys: Any) -> bytes:
    """16-byte hash over all keys in order: each as its length in UTF-8 bytes (uint32 LE) and the bytes themselves.

    `keys` is a pyarrow string array [N], chunked or not; all lengths come first, then all bytes, so that both are hashed
    in large pieces.
    """
    chunks = chunked(keys).chunks
    hasher = blake3(b"plada key id 1\0")
    hasher.update(np.uint64(len(keys)).astype("<u8").tobytes())
    for chunk in chunks:
        hasher.update(pc.binary_length(chunk).to_numpy(zero_copy_only=False).astype("<u4").tobytes())
    for chunk in chunks:
        _, offsets, data = chunk.buffers()
        ends = np.frombuffer(offsets, np.int32, len(chunk) + 1, chunk.offset * 4)
        if data is not None:
            hasher.update(memoryview(data)[int(ends[0]) : int(ends[-1])])
    return hasher.digest(16)


def content_id(hashes: U8) -> bytes:
    """16-byte hash over all content hashes in order; `hashes` is uint8 [N, 16]."""
    return _content_id([hashes])


def _content_id(blocks: Iterable[U8]) -> bytes:
    hasher = blake3(b"plada content id 1\0")
    for hashes in blocks:
        hasher.update(np.ascontiguousarray(hashes).tobytes())
    return hasher.digest(16)


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One image. `width` and `height` are 0 where unknown; `status` is "readable", the reason why not, or None where the
    image was hashed but never decoded."""

    position: int
    key: str
    size: int
    hash: bytes
    width: int
    height: int
    status: str | None


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive rows: keys (pyarrow string array [n]), sizes int64 [n], hashes uint8 [n, 16], width and height int32
    [n], status [n] as in ManifestRow."""

    keys: Any
    sizes: I64
    hashes: U8
    width: I32
    height: I32
    status: Sequence[str | None]


class Manifest:
    """One row an image, in order of position, read from a Parquet file as it is asked for. Threads may share it."""

    def __init__(self, path: Path, file: Any, key: bytes, content: bytes) -> None:
        self.path, self.key_id, self.content_id = path, key, content
        self._file = file
        self._groups: OrderedDict[int, Any] = OrderedDict()
        self._hashes: dict[int, U8] = {}
        self._firsts: dict[int, str] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    def row(self, position: int) -> ManifestRow:
        """Everything about one image. Raises RequestError: a position outside 0..N-1. DataError: the file is damaged
        there."""
        self._check(position)
        table, at = self._group(position // _GROUP), position % _GROUP
        return ManifestRow(*(table.column(name)[at].as_py() for name in _SCHEMA.names))

    def find(self, key: str) -> int | None:
        """The position of a key; None if there is no such image."""
        group = bisect.bisect_right(range(self._file.num_row_groups), key, key=self._first) - 1
        if group < 0:
            return None
        keys = self._group(group).column("key")
        at = first_at_least(keys, key)
        return group * _GROUP + at if at < len(keys) and keys[at].as_py() == key else None

    def keys_at(self, positions: npt.ArrayLike) -> list[str]:
        """Keys of some images, in the order asked for; raises as `row` does."""
        wanted = np.asarray(positions, np.int64)
        for position in (wanted.min(), wanted.max()) if len(wanted) else ():
            self._check(int(position))
        distinct, at = np.unique(wanted, return_inverse=True)
        found: list[str] = []
        for rows in np.split(distinct, np.flatnonzero(np.diff(distinct // _GROUP)) + 1) if len(distinct) else ():
            keys = self._group(int(rows[0]) // _GROUP).column("key")
            found += (
                keys.take(pa.array(rows % _GROUP)).to_pylist()
                if len(rows) > 1
                else [keys[int(rows[0]) % _GROUP].as_py()]
            )
        return [found[row] for row in at.tolist()]

    def sizes_at(self, positions: npt.ArrayLike) -> I64:
        """Bytes of some images, int64 [k], by one pass over the column: for many images. Raises RequestError: a position outside
        0..N-1. DataError: the file is damaged."""
        wanted = np.asarray(positions, np.int64)
        for position in (wanted.min(), wanted.max()) if len(wanted) else ():
            self._check(int(position))
        sizes, at = np.empty(len(wanted), np.int64), 0
        order = np.argsort(wanted, kind="stable")
        rising = wanted[order]
        for table in self.blocks(["size"]):
            first, last = np.searchsorted(rising, [at, at + len(table)])
            sizes[order[first:last]] = table.column(0).to_numpy()[rising[first:last] - at]
            at += len(table)
        return sizes

    def hash_at(self, position: int) -> bytes:
        """Content hash of one image, 16 bytes; raises as `row` does. Hashes once read stay in memory, 16 bytes each."""
        self._check(position)
        group = position // _GROUP
        with self._lock:
            if group not in self._hashes:
                self._hashes[group] = _hashes_of(self._read([group], ["hash"]))
        found: bytes = self._hashes[group][position % _GROUP].tobytes()
        return found

    def forget(self) -> None:
        """Let go of the hashes and rows that were read: for whoever looks at a few images all over millions."""
        with self._lock:
            self._hashes.clear()
            self._groups.clear()

    def blocks(self, columns: Sequence[str] = tuple(_SCHEMA.names), groups: int = 16) -> Iterator[Any]:
        """All rows in order, as pyarrow tables of 65 536 rows with the named columns."""
        for first in range(0, self._file.num_row_groups, groups):
            wanted = range(first, min(first + groups, self._file.num_row_groups))
            with self._lock:
                table = self._read(wanted, list(columns))
            yield table

    @property
    def keys(self) -> Any:
        """All keys at once, a chunked pyarrow string array [N]: for collections that fit into memory."""
        return pa.chunked_array([c for t in self.blocks(["key"]) for c in t.column(0).chunks], pa.string())

    def check(self) -> None:
        """Compute both ids from the rows. Raises DataError: they are not those that the file names: it is damaged."""
        content = _content_id(_hashes_of(table) for table in self.blocks(["hash"]))
        if (key_id(self.keys), content) != (self.key_id, self.content_id):
            raise DataError(f"{self.path}: its rows do not have the ids it names; it is damaged. {_REMEDY}")

    def _first(self, group: int) -> str:
        """The first key of a row group. Not by its statistics: over a damaged footer the library would end the process."""
        with self._lock:
            if group not in self._firsts:
                self._firsts[group] = self._read([group], ["key"]).column(0)[0].as_py()
            return self._firsts[group]

    def _group(self, group: int) -> Any:
        with self._lock:
            if group not in self._groups:
                self._groups[group] = self._read([group], None).combine_chunks()
                if len(self._groups) > _KEPT:
                    self._groups.popitem(last=False)
            self._groups.move_to_end(group)
            return self._groups[group]

    def _read(self, groups: Iterable[int], columns: list[str] | None) -> Any:
        wanted = list(groups)
        try:
            table = self._file.read_row_groups(wanted, columns=columns, use_threads=False)
        except PARQUET_ERRORS as err:
            raise DataError(f"{self.path}: is damaged ({err}). {_REMEDY}") from err
        rows = sum(min(_GROUP, len(self) - group * _GROUP) for group in wanted)
        if table.num_rows != rows:
            raise DataError(f"{self.path}: is damaged ({table.num_rows} rows where its footer says {rows}). {_REMEDY}")
        return table

    def _check(self, position: int) -> None:
        if not 0 <= position < len(self):
            raise RequestError(f"position {position}: {self.path} holds 0 to {len(self) - 1}")


class ManifestWriter:
    """Writes a manifest block by block, whole or not at all; memory does not grow with the number of images.

    with ManifestWriter(path) as writer:
        writer.write(block)
        ...
        writer.finish(key_id)
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stack = ExitStack()
        self._hasher = blake3(b"plada content id 1\0")
        self._rows = 0
        self._waiting: list[Any] = []
        self._writer: Any = None
        self._finished = False

    def __enter__(self) -> "ManifestWriter":
        part = self._stack.enter_context(whole_file(self.path))
        # Hashes do not compress, and dictionaries of unique keys only cost; both are said to Parquet.
        self._writer = pq.ParquetWriter(
            part,
            _SCHEMA,
            compression={name: "none" if name == "hash" else "zstd" for name in _SCHEMA.names},
            use_dictionary=["width", "height", "status"],
            column_encoding={"key": "DELTA_BYTE_ARRAY"},
            write_statistics=["key"],
            write_page_checksum=True,
        )
        # A failure to close is a failure to write: it too must keep the file from getting its name. Last in, first out.
        self._stack.callback(lambda: _fill_footer_digest(part) if self._finished else None)
        self._stack.callback(self._writer.close)
        return self

    def __exit__(self, *failure: Any) -> None:
        self._stack.__exit__(*failure)

    def write(self, block: Block | Any) -> None:
        """The next rows: a Block, or a pyarrow table of all columns but `position`."""
        table = _table_of(block) if isinstance(block, Block) else block
        self._hasher.update(_hashes_of(table).tobytes())
        positions = pa.array(np.arange(self._rows, self._rows + table.num_rows, dtype=np.uint32))
        self._rows += table.num_rows
        self._waiting.append(table.add_column(0, _SCHEMA.field(0), positions).cast(_SCHEMA))
        whole = sum(waiting.num_rows for waiting in self._waiting) // _GROUP * _GROUP
        if whole:
            table = pa.concat_tables(self._waiting)
            self._writer.write_table(table.slice(0, whole), row_group_size=_GROUP)
            self._waiting = [table.slice(whole)]

    def finish(self, key: bytes) -> bytes:
        """Write what is left and both ids; `key` is the key id of all keys written. Returns the content id."""
        rest = pa.concat_tables(self._waiting) if self._waiting else _SCHEMA.empty_table()
        if rest.num_rows:
            self._writer.write_table(rest, row_group_size=_GROUP)
        content: bytes = self._hasher.digest(16)
        self._writer.add_key_value_metadata(
            {
                "plada.manifest": _FORMAT.decode(),
                "key_id": key.hex(),
                "content_id": content.hex(),
                _FOOTER_DIGEST: NO_DIGEST,
            }
        )
        self._finished = True
        return content


def _footer(path: Path) -> tuple[int, bytes]:
    """Where a Parquet file's footer begins, and its bytes, the four for its length and the four of the mark included."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(size - 8, 0))
        start = max(size - 8 - int.from_bytes(file.read(4), "little"), 0)
        file.seek(start)
        return start, file.read()


def _digest_place(footer: bytes) -> slice:
    """Where the digest stands in a footer: behind its name, a byte for the kind of field and one for the length."""
    name = _FOOTER_DIGEST.encode()
    at = footer.find(name) + len(name) + 2
    return slice(at, at + len(NO_DIGEST)) if name in footer else slice(0, 0)


def _footer_digest(footer: bytes) -> bytes:
    """BLAKE3 of a footer, hexadecimal, zeros in the place of the digest."""
    bare = bytearray(footer)
    place = _digest_place(footer)
    bare[place] = NO_DIGEST.encode()[: place.stop - place.start]
    return str(blake3(bytes(bare)).hexdigest()).encode()


def _fill_footer_digest(path: Path) -> None:
    start, footer = _footer(path)
    with path.open("r+b") as file:
        file.seek(start + _digest_place(footer).start)
        file.write(_footer_digest(footer))


def load_manifest(path: Path) -> Manifest:
    """Open a manifest by its footer; rows are read, and their checksums compared, when they are asked for. Raises
    DataError: not a manifest, of another format, or its end is damaged."""
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True, memory_map=True)
    except PARQUET_ERRORS as err:
        raise DataError(f"{path}: not a readable manifest ({err}). {_REMEDY}") from err
    meta = file.metadata.metadata or {}
    named = {b"key_id", b"content_id"} <= meta.keys()
    if meta.get(b"plada.manifest") != _FORMAT or not named or not file.schema_arrow.equals(_SCHEMA):
        raise DataError(f"{path}: not a manifest of format {_FORMAT.decode()}. {_REMEDY}")
    # Pages have checksums of their own; the footer says which pages there are, and has the ids.
    if _FOOTER_DIGEST.encode() in meta:
        footer = _footer(path)[1]
        if footer[_digest_place(footer)] != _footer_digest(footer):
            raise DataError(
                f"{path}: the checksum of its footer is wrong: it is damaged, or another program wrote it. {_REMEDY}"
            )
    try:
        ids = [bytes.fromhex(meta[name].decode()) for name in (b"key_id", b"content_id")]
    except ValueError as err:
        raise DataError(f"{path}: one of its ids is no hexadecimal number ({err}). {_REMEDY}") from err
    groups, rows = file.metadata.num_row_groups, file.metadata.num_rows
    if -(-rows // _GROUP) != groups or any(
        file.metadata.row_group(group).num_rows != _GROUP
        for group in {0, groups // 2, groups - 2}
        if 0 <= group < groups - 1
    ):
        raise DataError(f"{path}: its row groups are not of {_GROUP} rows; another program wrote it. {_REMEDY}")
    return Manifest(path, file, *ids)


def open_manifest(path: str | Path) -> Manifest:
    """Open a manifest that the user names. Raises RequestError: there is no such file. DataError: as load_manifest."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise RequestError(f"{file}: no such manifest. Give the file manifest.parquet that the server's plada keeps")
    return load_manifest(file)


def _table_of(block: Block) -> Any:
    columns = [
        chunked(block.keys),
        pa.array(block.sizes),
        binary_column(block.hashes),
        pa.array(block.width),
        pa.array(block.height),
        pa.array(block.status, pa.string()),
    ]
    return pa.table(columns, names=_SCHEMA.names[1:])


def _hashes_of(table: Any) -> U8:
    """uint8 [n, 16] of the column `hash`."""
    return binary_rows(table.column("hash"))


def chunked(keys: Any) -> Any:
    """A pyarrow array as a chunked one, whatever it is."""
    return keys if isinstance(keys, pa.ChunkedArray) else pa.chunked_array([keys])


def binary_column(rows: U8) -> Any:
    """A pyarrow column of binaries of one width from uint8 [n, width]; the inverse of `binary_rows`."""
    n, width = rows.shape
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), n, [None, pa.py_buffer(np.ascontiguousarray(rows))])


def binary_rows(column: Any) -> U8:
    """uint8 [n, width] of a pyarrow column of binaries of one width and without nulls, an array or a chunked one."""
    width = column.type.byte_width
    chunks = chunked(column).chunks
    parts = [
        np.frombuffer(chunk.buffers()[1], np.uint8).reshape(-1, width)[chunk.offset : chunk.offset + len(chunk)]
        for chunk in chunks
        if len(chunk)
    ]
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.empty((0, width), np.uint8)
