"""The coder of blocks: prepares the state of block_model.py and runs it over a whole content, in either direction."""

from typing import Any

import numpy as np
import numpy.typing as npt

from plada.common.arrays import I64
from plada.errors import PayloadCorrupt
from plada.payload.coders import arithmetic, block_model
from plada.payload.coders.compiled import coding_tables, functions, vector

_ROOM = 64, 2  # bytes reserved for the coded ones: so many, and so many an image; if they are too few, it runs again
EVEN = 256  # length of blocks where no folder is known


def even_bounds(images: int) -> I64:
    """Bounds int64 [B+1] of blocks of 256, the last one shorter."""
    return np.append(np.arange(0, images, EVEN, dtype=np.int64), images)


def cut_bounds(bounds: I64) -> I64:
    """Bounds of the same runs, long ones cut into pieces of 2048 images (the last one shorter), empty ones left out."""
    sizes = np.diff(bounds)
    pieces = -(-sizes // block_model.LARGEST)
    first = np.repeat(np.cumsum(pieces) - pieces, pieces)
    starts = np.repeat(bounds[:-1], pieces) + block_model.LARGEST * (np.arange(len(first)) - first)
    return np.append(starts, bounds[-1]).astype(np.int64)


def encode_blocks(positions: I64, labels: I64, *, classes: int, bounds: I64) -> bytes:
    """Coded bytes of positions int64 [k] and labels int64 [k], k > 0; `bounds` as of even_bounds or cut_bounds."""
    kept = len(positions)
    room = _ROOM[0] + _ROOM[1] * (kept + classes)
    while True:
        io, buffer = _run(np.zeros(room, np.uint8), 0, positions, labels, kept, classes, bounds)[2:]
        if io[arithmetic.AT] <= room:
            return bytes(buffer[: io[arithmetic.AT] - io[arithmetic.ZEROS]])
        room = int(io[arithmetic.AT])


def decode_blocks(coded: bytes, kept: int, *, classes: int, bounds: I64) -> tuple[I64, I64]:
    """Inverse of encode_blocks, kept > 0.

    Raises:
        PayloadCorrupt: no content has these bytes.
    """
    blank = np.zeros(kept, np.int64)
    raw = np.frombuffer(coded, np.uint8).copy()
    positions, labels, io, _ = _run(raw, 1, blank, blank, kept, classes, bounds)
    check_end(io, len(coded))
    return np.array(positions, np.int64), np.array(labels, np.int64)


def check_end(io: Any, length: int) -> None:
    """Refuse a body with bytes that the decoder did not read.

    Raises:
        PayloadCorrupt: there are some.
    """
    if io[arithmetic.AT] < length:
        raise PayloadCorrupt(f"a body goes on for {length - io[arithmetic.AT]} bytes after its last image")


def _run(
    raw: npt.NDArray[np.uint8], decoding: int, positions: I64, labels: I64, kept: int, classes: int, bounds: I64
) -> tuple[Any, Any, Any, Any]:
    """(positions, labels, state of the coder, buffer) after coding in one direction."""
    steps = 40 * kept + min(int(bounds[-1]), 256 * kept) + 4 * len(bounds) + 10 * classes
    f = functions(steps)
    compiled = f.compiled
    buffer: Any = raw if compiled else bytearray(raw.tobytes())
    io, t = vector(np.zeros(6), compiled), coding_tables(compiled)
    f.arithmetic.start(io, buffer, decoding)
    totals = vector(np.zeros(classes) if decoding else np.bincount(labels, minlength=classes), compiled)
    slots = np.zeros(block_model.NUMBERS)
    values, counts = vector(slots, compiled), vector(slots, compiled)
    failed = f.block_model.code_class_counts(io, buffer, totals, kept, classes, t, values, counts)
    if not failed:
        open_classes, remaining = _trees(np.array(totals, np.int64))
        empty = np.zeros(len(remaining))
        state = (
            slots, slots, block_model.START, np.zeros(block_model.EXPERTS), open_classes, remaining, empty, empty, empty
        )  # fmt: skip
        model = f.block_model.BlockModel(len(remaining) // 2, *(vector(entries, compiled) for entries in state))
        places, names = vector(positions, compiled), vector(labels, compiled)
        failed = f.block_model.code_blocks(io, buffer, vector(bounds, compiled), places, names, kept, t, model)
    if failed:
        raise PayloadCorrupt("the coded bytes are of no content: there is no room for its images")
    if not decoding:
        f.arithmetic.finish(io, buffer)
    return places, names, io, buffer


def _trees(totals: I64) -> tuple[I64, I64]:
    """Sums over the classes as a binary tree [2 w], leaves from w on: 1 for each class with images, and its images."""
    width = 1 << (len(totals) - 1).bit_length()
    images = np.zeros(2 * width, np.int64)
    images[width : width + len(totals)] = totals
    open_classes = (images > 0).astype(np.int64)
    at = width
    while at > 1:
        for tree in (images, open_classes):
            tree[at // 2 : at] = tree[at : 2 * at : 2] + tree[at + 1 : 2 * at : 2]
        at //= 2
    return open_classes, images
