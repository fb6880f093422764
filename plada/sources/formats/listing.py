"""The offset index of a collection: for each position its key, its size, and where its bytes lie.

Small listings are arrays in memory. From SPILL rows on they are written to a folder as they grow and mapped into memory
when whole, so that listing 14 million images takes no more memory than listing a quarter of a million; and they stay
there, so that the headers of a terabyte of tars are walked once.
"""

import itertools
import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from plada.common.arrays import I32, I64
from plada.common.checksums import file_digest_b3, is_sealed, write_sealed_json
from plada.common.failures import first_line
from plada.common.files import DISK_FULL
from plada.common.progress import Report, Tracker, silent
from plada.errors import DataError, ResourceError
from plada.sources.collection import IMAGE_SUFFIXES, first_at_least
from plada.sources.formats.passed_over import PassedOver
from plada.sources.names import UnicodeForms

SPILL = 262_144  # rows that are held in memory while listing; also about what one partition of a sort holds
_BATCH = 65_536
_FORMAT = 3
_SCHEMA = pa.schema(
    [("key", pa.string()), ("size", pa.int64()), ("part", pa.int32()), ("offset", pa.int64())]
)  # as it is spilled


@dataclass(frozen=True, slots=True)
class Listing:
    """In canonical order: keys (pyarrow string array [N], maybe chunked), sizes int64 [N] (-1 unknown), and the place of
    each image: parts[part_of[i]] (a shard, or a folder's file extension) and offsets int64 [N] (a byte, or a row).
    `remark` says what was passed over."""

    keys: Any
    sizes: I64
    part_of: I32
    offsets: I64
    parts: tuple[str, ...]
    remark: str = ""

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, rows: slice | I64) -> "tuple[Listing, list[int]]":
        """A copy of some rows that is cheap to send to another process, and which of `parts` it has kept."""
        used, part_of = np.unique(self.part_of[rows], return_inverse=True)
        if isinstance(rows, slice):
            keys = self.keys.slice(rows.start, rows.stop - rows.start)
        else:
            keys = self.keys.take(pa.array(rows))
        # Copied, since a slice of an arrow array is pickled with all that lies around it.
        keys = pa.array(keys.to_pylist(), pa.string())
        parts = tuple(self.parts[part] for part in used)
        return Listing(
            keys, np.array(self.sizes[rows]), part_of.astype(np.int32), np.array(self.offsets[rows]), parts
        ), used.tolist()


@dataclass(frozen=True, slots=True)
class ListedCollection:
    """What every collection with a listing has in common; see plada.sources.collection.Collection."""

    location: str
    listing: Listing

    @property
    def keys(self) -> Any:
        return self.listing.keys

    @property
    def sizes(self) -> I64:
        return self.listing.sizes

    def __len__(self) -> int:
        return len(self.listing)

    def part(self, start: int, stop: int) -> Self:
        """See plada.sources.collection.Collection."""
        return replace(self, listing=self.listing.take(slice(start, stop))[0])

    def take(self, positions: I64) -> Self:
        """See plada.sources.collection.Sparse."""
        return replace(self, listing=self.listing.take(positions)[0])


@dataclass
class ListingWriter:
    """Takes images in any order and puts them into canonical order; what is fed in order costs no sort.

    To be used in a `with` statement, which clears away what was spilled.
    `folder` is where a listing of more than SPILL rows goes, a temporary one if None.
    """

    location: str
    folder: Path | None = None
    spill: int = field(default_factory=lambda: SPILL)
    # Says where an image was found, from its part, offset and key; for messages.
    place: Callable[[str, int, str], str] = lambda part, offset, key: f"{part} ({key}, at {offset})"
    parts: tuple[str, ...] = ()
    rows: int = 0
    passed: PassedOver = field(default_factory=PassedOver)
    remarks: list[str] = field(default_factory=list)  # others for the user
    key_rule: str = "a key leaves the file extension out"  # for the message of two images with one key
    _forms: UnicodeForms = field(default_factory=UnicodeForms)
    _pending: list[tuple[str, int, int, int]] = field(default_factory=list)
    _held: list[Any] = field(default_factory=list)
    _spilled: "list[_Run]" = field(default_factory=list)
    _scratch: Path | None = None

    def __enter__(self) -> "ListingWriter":
        return self

    def __exit__(self, *_: object) -> None:
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def add(self, key: str, size: int, part: int, offset: int) -> None:
        """One image."""
        self._pending.append((key, size, part, offset))
        if len(self._pending) >= _BATCH:
            self._flush()

    def add_rows(self, keys: Any, sizes: I64 | None, part: int, offsets: I64) -> None:
        """Many images of one part: keys (pyarrow string array [n]), sizes int64 [n] or None where unknown, offsets int64 [n]."""
        self._flush()
        n = len(keys)
        numbers = [np.full(n, -1) if sizes is None else sizes, np.full(n, part, np.int32), offsets]
        self._keep(pa.record_batch([keys, *(pa.array(column) for column in numbers)], _SCHEMA))

    def finish(self, parts: tuple[str, ...], note: dict[str, Any] | None = None) -> Listing:
        """The listing; with a `folder` and more than `spill` rows it stays there, and `note` with it. Raises DataError:
        no image at all, or two with one key."""
        self.parts = parts
        self._flush()
        passed = self.passed.text()
        if not self.rows:
            raise DataError(
                f"{self.location}: no image found{', ' if passed else ''}{passed}. Expected files ending in "
                f"{' '.join(sorted(IMAGE_SUFFIXES))}, tar or parquet files of such, or a Lance data set"
            )
        self.remarks += [passed] if passed else []
        if not self._spilled:
            table = _sorted(pa.Table.from_batches(self._held, _SCHEMA)).combine_chunks()
            self._refuse_twins(table.column("key").combine_chunks(), table, None)
            size, part, offset = (_numbers(table, name) for name in _NUMBERS)
            return Listing(table["key"].combine_chunks(), size, part, offset, self.parts, self._remark())
        self._spill()
        with _disk(self._scratch):
            return self._merged(note or {})

    def _remark(self) -> str:
        return "; ".join(text for text in (*self.remarks, self._forms.text("keys")) if text)

    def _flush(self) -> None:
        if self._pending:
            keys, *numbers = zip(*self._pending, strict=True)
            self._pending = []
            try:
                array = pa.array(keys, pa.string())
            except UnicodeEncodeError:
                raise DataError(_not_utf8(self.location, keys)) from None
            columns = [
                array,
                *(pa.array(column, kind) for column, kind in zip(numbers, _SCHEMA.types[1:], strict=True)),
            ]
            self._keep(pa.record_batch(columns, _SCHEMA))

    def _keep(self, batch: Any) -> None:
        self._held.append(batch)
        self.rows += batch.num_rows
        if sum(held.num_rows for held in self._held) >= self.spill:
            self._spill()

    def _spill(self) -> None:
        """Sort what is held and write it as one run."""
        if not self._held:
            return
        if self._scratch is None:
            base = self.folder.parent if self.folder else None
            if base is not None:
                base.mkdir(parents=True, exist_ok=True)
            self._scratch = Path(tempfile.mkdtemp(prefix="listing-", suffix=".part", dir=base))
        table = _sorted(pa.Table.from_batches(self._held, _SCHEMA))
        self._held = []
        path = self._scratch / f"run-{len(self._spilled)}.arrow"
        with _disk(self._scratch), pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
            writer.write_table(table, max_chunksize=_BATCH)
        keys = table.column("key")
        self._spilled.append(_Run(path, keys[0].as_py(), keys[-1].as_py(), table.num_rows))

    def _merged(self, note: dict[str, Any]) -> Listing:
        assert self._scratch is not None
        out = self._scratch / "whole"
        out.mkdir()
        at, last = 0, None
        with ExitStack() as stack:
            sink = stack.enter_context(pa.OSFile(str(out / "keys.arrow"), "wb"))
            writer = stack.enter_context(pa.ipc.new_file(sink, pa.schema([_SCHEMA.field(0)])))
            # Appended to, not mapped: what is written through a map counts as memory until the kernel takes it back.
            numbers = {name: stack.enter_context((out / f"{name}.npy").open("wb")) for name in _NUMBERS}
            for name, file in numbers.items():
                kind = np.dtype(_SCHEMA.field(name).type.to_pandas_dtype())
                np.lib.format.write_array_header_1_0(
                    file, {"descr": kind.str, "fortran_order": False, "shape": (self.rows,)}
                )
            for table in self._in_order():
                keys = table.column("key").combine_chunks()
                self._refuse_twins(keys, table, last)
                last = keys[len(keys) - 1].as_py()
                writer.write_table(pa.table({"key": keys}), max_chunksize=_BATCH)
                for name, file in numbers.items():
                    file.write(np.ascontiguousarray(_numbers(table, name)).tobytes())
                at += len(keys)
        assert at == self.rows
        digests = {name: file_digest_b3(out / name).hex() for name in _FILES}
        note = {**note, "remark": self._remark()}
        listed = {**note, "format": _FORMAT, "images": self.rows, "parts": list(self.parts), "digests": digests}
        write_sealed_json(out / "listing.json", listed)
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            out.rename(self.folder)
            return _mapped(self.folder)
        kept = Path(tempfile.mkdtemp(prefix="plada-listing-"))
        listing = _mapped(out.rename(kept / "whole"))
        # No folder to keep it in: it goes when nobody uses its arrays any more.
        weakref.finalize(listing.sizes, shutil.rmtree, str(kept), ignore_errors=True)
        return listing

    def _in_order(self) -> Iterator[Any]:
        """Tables that follow each other: the runs as they are where they do, else ranges of keys cut from all runs."""
        runs = sorted(self._spilled, key=lambda run: run.first)
        if all(a.last <= b.first for a, b in itertools.pairwise(runs)):
            for run in runs:
                with pa.memory_map(str(run.path)) as source:
                    yield from (pa.Table.from_batches([b]) for b in _file_batches(source))
            return
        # Cuts from a sample of every run, so that a range holds about as many rows as one run.
        samples = [_with(run, lambda table: _every(table["key"], self.spill // 256)) for run in runs]
        sample = pa.concat_arrays(samples)
        sample = sample.take(pc.sort_indices(sample))
        cuts = [sample[i].as_py() for i in range(256, len(sample), 256)]
        places = [
            _with(run, lambda table: [0, *(first_at_least(table["key"], cut) for cut in cuts), table.num_rows])
            for run in runs
        ]
        for number in range(len(cuts) + 1):
            # Mapped anew for each range, so that no more than one range is in memory.
            pieces = [_piece(run, *place[number : number + 2]) for run, place in zip(runs, places, strict=True)]
            if merged := [piece for piece in pieces if piece.num_rows]:
                yield _sorted(pa.concat_tables(merged))

    def _refuse_twins(self, keys: Any, table: Any, last: str | None) -> None:
        self._forms.add(keys)
        if last is not None and keys[0].as_py() == last:
            raise DataError(self._twins(last, "an image further up", self._where(table, 0)))
        same = pc.index(pc.equal(keys.slice(1), keys.slice(0, len(keys) - 1)), True).as_py() if len(keys) > 1 else -1
        if same >= 0:
            key = keys[same].as_py()
            raise DataError(self._twins(key, self._where(table, same), self._where(table, same + 1)))

    def _twins(self, key: str, one: str, other: str) -> str:
        return f"{self.location}: {one} and {other} have the same key '{key}' ({self.key_rule}). Remove or rename one of them"

    def _where(self, table: Any, row: int) -> str:
        part, offset, key = (table[name][row].as_py() for name in ("part", "offset", "key"))
        return self.place(self.parts[part], offset, key)


@dataclass(frozen=True, slots=True)
class _Run:
    path: Path
    first: str
    last: str
    rows: int


_NUMBERS = ("size", "part", "offset")
_FILES = ("keys.arrow", *(f"{name}.npy" for name in _NUMBERS))


def settled(stamps: dict[str, str], start: int) -> dict[str, str]:
    """`stamps` if all are older than `start` (ns) by two seconds, else none: a change in the same tick would not show."""
    young = any(int(stamp) > start - 2_000_000_000 for stamp in stamps.values() if stamp.isdigit())
    return {} if young else stamps


def load_listing(folder: Path, still: Callable[[dict[str, Any]], bool], report: Report = silent) -> Listing | None:
    """The listing that `ListingWriter` left in `folder` if `still` agrees with the note it was left with. One that is damaged is
    said: it is only a copy of what the files say, and the caller lists again."""
    if not (folder / "listing.json").exists():
        return None
    try:
        saved = json.loads((folder / "listing.json").read_text())
        if saved["format"] != _FORMAT or (is_sealed(saved) and not still(saved)):
            return None
        if is_sealed(saved) and all(file_digest_b3(folder / name).hex() == saved["digests"][name] for name in _FILES):
            listing = _mapped(folder)
            if len(listing) == saved["images"] == len(listing.sizes):
                return listing
        reason = "its checksum is wrong"
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as err:
        reason = first_line(err)
    Tracker("list", None, report).say(f"{folder}: the kept listing is damaged ({reason}); the images are listed again")
    return None


def _mapped(folder: Path) -> Listing:
    saved = json.loads((folder / "listing.json").read_text())
    keys = pa.ipc.open_file(pa.memory_map(str(folder / "keys.arrow"))).read_all().column("key")
    size, part, offset = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in _NUMBERS)
    return Listing(keys, size, part, offset, tuple(saved["parts"]), saved["remark"])


def _sorted(table: Any) -> Any:
    keys = table.column("key")
    if all(_rises(chunk) for chunk in keys.chunks) and all(
        a[len(a) - 1].as_py() <= b[0].as_py() for a, b in itertools.pairwise(c for c in keys.chunks if len(c))
    ):
        return table
    return table.take(pc.sort_indices(keys))


def _rises(keys: Any) -> bool:
    return len(keys) < 2 or pc.all(pc.less_equal(keys.slice(0, len(keys) - 1), keys.slice(1))).as_py()


def _numbers(table: Any, name: str) -> Any:
    return table.column(name).to_numpy()


def _file_batches(source: Any) -> Iterator[Any]:
    reader = pa.ipc.open_file(source)
    for number in range(reader.num_record_batches):
        yield reader.get_batch(number)


@contextmanager
def _disk(folder: Path | None) -> Iterator[None]:
    """A full disk is a planned failure."""
    try:
        yield
    except OSError as err:
        if err.errno in DISK_FULL:
            raise ResourceError(
                f"{folder}: no room to list the collection ({os.strerror(err.errno)}). Free space, or set TMPDIR or --home "
                "to a larger disk"
            ) from err
        raise


def _with(run: _Run, use: Callable[[Any], Any]) -> Any:
    """What `use` makes of a run's table, which is mapped for as long as that takes."""
    with pa.memory_map(str(run.path)) as source:
        return use(pa.ipc.open_file(source).read_all())


def _piece(run: _Run, start: int, stop: int) -> Any:
    """A copy of some rows of a run."""
    return _with(run, lambda table: table.take(pa.array(np.arange(start, stop))))


def _every(keys: Any, step: int) -> Any:
    return keys.take(pa.array(np.arange(0, len(keys), max(step, 1)))).combine_chunks()


def _not_utf8(location: str, names: tuple[str, ...]) -> str:
    bad = next(name for name in names if not _encodes(name))
    return f"{location}: the name {bad!r} is not UTF-8. Rename it: keys must read alike everywhere"


def _encodes(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
