"""The rows of a finished index compared with what its index.json says, in one pass over the table."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from blake3 import blake3

from plada.common.arrays import F16, F64, I32, I64, U8, Bools
from plada.common.failures import first_line, panics_as_errors
from plada.common.progress import Report, Tracker
from plada.errors import PladaError
from plada.indexer.store import SCAN_ROWS, Ledger, readable_rows, schema
from plada.sources.collection import Collection
from plada.sources.compare import sample_positions
from plada.sources.manifest import HASH_BYTES, Manifest, binary_rows, content_hash, content_id, key_id

_OFF = 0.01  # how far a length may be from one; float16 takes a tenth of it
_FACTS = ("size", "width", "height")
_SHAPE = _FACTS[1:]  # 0 where unknown
_COLUMNS = ("position", "key", "vector", "hash", "status", *_FACTS)


@dataclass(slots=True)
class Tally:
    """How many rows fail one check, and what the first of them is."""

    bad: int = 0
    first: str = ""

    def add(self, wrong: Bools, say: Callable[[int], str]) -> None:
        """Count the rows [n] that are wrong; `say(row)` describes one of them."""
        count = int(wrong.sum())
        if count and not self.bad:
            self.first = say(int(np.flatnonzero(wrong)[0]))
        self.bad += count

    def text(self, well: str) -> tuple[bool, str]:
        """(whether no row fails, `well` or what fails)."""
        return not self.bad, well if not self.bad else f"{self.bad} rows; the first: {self.first}"


@dataclass(frozen=True, slots=True)
class AuditedRows:
    """What a pass over a table found: `checks`, whether each holds and what is to be said of it; `keys`, a pyarrow chunked
    string array [rows]; `hashes` uint8 [rows, 16]; `sizes`, a digest of all sizes; `shapes` int32 [2, rows], widths and heights, 0 where unknown."""

    checks: Mapping[str, tuple[bool, str]]
    keys: Any = None
    hashes: U8 = field(default_factory=lambda: np.empty((0, HASH_BYTES), np.uint8))
    sizes: bytes = b""
    shapes: I32 = field(default_factory=lambda: np.empty((2, 0), np.int32))


@dataclass(slots=True)
class _Pass:
    """One pass over the rows, batch by batch."""

    order: Tally = field(default_factory=Tally)
    vectors: Tally = field(default_factory=Tally)
    status: Tally = field(default_factory=Tally)
    keys: list[Any] = field(default_factory=list)
    hashes: list[U8] = field(default_factory=list)
    sizes: Any = field(default_factory=blake3)
    shapes: list[I32] = field(default_factory=list)
    total: F64 | None = None
    rows: int = 0
    unreadable: int = 0

    def add(self, batch: Any) -> None:
        at, n = self.rows, batch.num_rows
        positions = batch.column("position").to_numpy()
        self.order.add(positions != np.arange(at, at + n), lambda row: f"row {at + row} has position {positions[row]}")
        places, vectors = readable_rows(batch)
        with np.errstate(over="ignore", invalid="ignore"):
            lengths = np.linalg.norm(vectors.astype(np.float32), axis=1)
        self.vectors.add(
            ~(np.abs(lengths - 1) <= _OFF), lambda row: f"image {places[row]} has an embedding of length {lengths[row]}"
        )
        reasons = batch.column("status")
        has_reason = pc.not_equal(reasons, "").to_numpy(zero_copy_only=False)
        null = ~batch.column("vector").is_valid().to_numpy(zero_copy_only=False)
        self.status.add(
            has_reason != null,
            lambda row: (
                f"image {at + row} has {'no' if null[row] else 'an'} embedding and status '{reasons[row].as_py()}'"
            ),
        )
        self.keys.append(batch.column("key"))
        self.hashes.append(binary_rows(batch.column("hash")))
        self.sizes.update(batch.column("size").to_numpy().astype("<i8").tobytes())
        self.shapes.append(_shapes(batch))
        if len(vectors):
            total = vectors.sum(axis=0, dtype=np.float64)
            self.total = total if self.total is None else self.total + total
        self.rows += n
        self.unreadable += int(null.sum())


@panics_as_errors()
def audit_rows(dataset: Any, info: Mapping[str, Any], report: Report) -> AuditedRows:
    """Read every row of the table of an index, a Lance data set, once, in order. Memory: its keys and content hashes, and a block.

    Raises:
        Those of DAMAGE: the table cannot be read; `reason_of` says it on one line.
    """
    for column in schema(int(info["dimension"])):
        own = dataset.schema.field(column.name).type if column.name in dataset.schema.names else "missing"
        if column.name in _COLUMNS and own != column.type:
            return AuditedRows({"rows": (False, f"column {column.name} is {own}, expected {column.type}")})
    found = _Pass()
    promised, tracker = info.get("shards"), Tracker("check", int(info["images"]), report)
    ledger = Ledger(int(promised["rows"])) if promised else None
    for batch in dataset.to_batches(columns=list(_COLUMNS), batch_size=SCAN_ROWS, scan_in_order=True):
        found.add(batch)
        if ledger is not None:
            ledger.add(batch)
        tracker.advance(batch.num_rows)
    keys = pa.chunked_array(found.keys, pa.string())
    hashes = np.concatenate([np.empty((0, HASH_BYTES), np.uint8), *found.hashes])
    content = content_id(hashes)
    checks = {
        "rows": (found.rows == info["images"], f"{found.rows} of {info['images']} images"),
        "order": found.order.text("position 0, 1, 2, ... without a gap"),
        "keys": _keys(keys, str(info["key_id"])),
        "content": (content.hex() == info["content_id"], f"content id {content.hex()[:16]}, index.json says {info['content_id'][:16]}"),
        "vectors": found.vectors.text(f"{found.rows - found.unreadable} embeddings, finite and of length one"),
        "status": found.status.text(f"{found.unreadable} images without embedding, each with a reason, and no other"),
        "unreadable": (found.unreadable == info["unreadable"], f"{found.unreadable}, index.json says {info['unreadable']}"),
        "mean": _mean(found, info["mean"]),
    }  # fmt: skip
    if ledger is not None and promised is not None:
        checks["shards"] = _shards(ledger, promised)
    return AuditedRows(
        checks, keys, hashes, found.sizes.digest(), np.concatenate([np.empty((2, 0), np.int32), *found.shapes], axis=1)
    )


def compare_manifest(rows: AuditedRows, manifest: Manifest) -> tuple[bool, str]:
    """Whether a manifest says of every image what the table says of it, and what differs.

    Raises:
        DataError: the manifest is damaged.
    """
    manifest.check()
    own = (key_id(rows.keys), content_id(rows.hashes))
    if (manifest.key_id, manifest.content_id) != own:
        return (
            False,
            f"of other images: content id {manifest.content_id.hex()[:16]}, the table's is {own[1].hex()[:16]}",
        )
    sizes, at = blake3(), 0
    for table in manifest.blocks(list(_FACTS)):
        sizes.update(table.column("size").to_numpy().astype("<i8").tobytes())
        theirs, own_shapes = _shapes(table), rows.shapes[:, at : at + table.num_rows]
        # A header can say what a damaged image does not: only what both know is compared.
        wrong = np.argwhere((theirs != own_shapes) & (theirs > 0) & (own_shapes > 0))
        if len(wrong):
            side, row = (int(number) for number in wrong[0])
            return False, (
                f"another {_SHAPE[side]} than in the table: image {at + row} ({rows.keys[at + row]}) has "
                f"{theirs[side, row]}, the table's is {own_shapes[side, row]}"
            )
        at += table.num_rows
    if sizes.digest() != rows.sizes:
        return False, "another size than in the table"
    return True, f"the same {len(rows.keys)} images"


def _shapes(table: Any) -> I32:
    """Widths and heights of some rows, int32 [2, n]."""
    return np.stack([table.column(name).to_numpy() for name in _SHAPE]).astype(np.int32)


def compare_images(
    rows: AuditedRows, collection: Collection, sample: int | None, seed: int, report: Report
) -> tuple[bool, str]:
    """Whether images of a collection with the table's keys have the sizes and content that were indexed: a seeded sample of
    them, or all where it is None.

    Raises:
        DataError: an image cannot be read.
    """
    n, sizes = len(collection), collection.sizes
    if (sizes >= 0).all() and blake3(sizes.astype("<i8").tobytes()).digest() != rows.sizes:
        return False, f"{collection.location}: images have other sizes than when they were indexed"
    if sample is None:
        entries: Iterable[tuple[int, bytes]] = collection.stream(0, n)
    else:
        picks = sample_positions(n, sample, seed).tolist()
        entries = ((position, collection.read(position)) for position in picks)
    hashed, tracker = 0, Tracker("hash", n if sample is None else min(sample, n), report)
    for position, data in entries:
        if content_hash(data) != rows.hashes[position].tobytes():
            return False, f"{collection.location}: image {position} ({collection.keys[position]}) has changed"
        hashed += 1
        tracker.advance()
    return True, f"keys and sizes of all {n} images, content of {hashed}"


@panics_as_errors()
def some_rows(dataset: Any, info: Mapping[str, Any], count: int, seed: int) -> tuple[I64, F16]:
    """(positions int64 [m], vectors float16 [m, d]) of a seeded choice of at most `count` images, rising; m is smaller where
    some of them are unreadable."""
    n = int(info["images"])
    picks = sample_positions(n, count, seed)
    rows = dataset.take(picks, columns=["position", "vector"]).combine_chunks()
    return readable_rows(rows.to_batches()[0])


def _keys(keys: Any, promised: str) -> tuple[bool, str]:
    if len(keys) > 1 and not pc.all(pc.less(keys[:-1], keys[1:])).as_py():
        return False, "not rising, each different from the one before"
    found = key_id(keys).hex()
    return found == promised, f"key id {found[:16]}, index.json says {promised[:16]}"


def _mean(found: _Pass, promised: Any) -> tuple[bool, str]:
    readable = found.rows - found.unreadable
    mean = np.asarray(promised, np.float64)
    own = np.zeros(0) if found.total is None else found.total / readable
    apart = float(np.abs(mean - own).max(initial=0)) if mean.shape == own.shape else float("nan")
    return apart <= 1e-9, f"mean of the embeddings: {apart:.1e} from what index.json says"


def _shards(ledger: Ledger, promised: Mapping[str, Any]) -> tuple[bool, str]:
    found, wanted = ledger.digests(), list(promised["digests"])
    if len(found) != len(wanted):
        return False, f"{len(found)} shards of {ledger.rows} rows, index.json lists {len(wanted)}"
    bad = [number for number, pair in enumerate(zip(found, wanted, strict=True)) if pair[0] != pair[1]]
    if not bad:
        return True, f"{len(found)} digests of {ledger.rows} rows each"
    first = bad[0] * ledger.rows
    return False, (
        f"{len(bad)} of {len(found)} shards have another digest; the first: rows {first} to {first + ledger.rows - 1}"
    )


def reason_of(err: BaseException) -> str:
    """What a library says of a table it cannot read, on one line."""
    reason = first_line(err)
    return (reason if isinstance(err, PladaError) else f"{type(err).__name__}: {reason}")[:300]
