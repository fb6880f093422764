"""The coder of a pack: a model that learns from the pack's features while it codes.

Images are visited in an order that jumps over the whole reference. Between two visits of a stretch both ends fit the
same weights, one row a class, to all that was coded so far; nothing of them is sent. docs/payload-coders.md section 5
is the authority. Products are taken in float64, where sums of whole numbers below 2^53 are exact on every machine in
whatever order they are added.
"""

from dataclasses import dataclass
from functools import cache
from math import gcd
from typing import Any

import numpy as np
import numpy.typing as npt

from plada.common.arrays import F64, I64
from plada.errors import PayloadCorrupt
from plada.payload.coders import arithmetic, pack_model
from plada.payload.coders.arithmetic import logarithm as ln_of
from plada.payload.coders.block_coder import check_end
from plada.payload.coders.compiled import coding_tables, functions, vector
from plada.payload.coders.tables import LIMIT, exponential, logarithm

I8 = npt.NDArray[np.int8]
MAX_CLASSES = 1024
MAX_CELLS = 1 << 26  # blocks x classes
MAX_WORK = 1 << 38  # images x classes x (features + 1)
BIAS = 32  # the feature that every image has
_SCORE = 2800  # no score lies beyond
_ROOM = 64, 4  # as in block_coder.py
_CHUNK = 4096
_BATCH = 128
_EPOCHS = 4
_SAMPLE = 16384
_FIRST = 512
_GROW = (5, 4)
_RATE = 700 << 12
_EASE = 16384
_MOST_WEIGHT = 1 << 31
_MOST_POWER = 1 << 60
_STEEPEST = 1 << 24


def fits(images: int, classes: int, bounds: I64, features: I8) -> bool:
    """Whether a content of this shape may be coded with these features [images, d]: the work is bounded."""
    cells = (len(bounds) - 1) * classes
    return classes <= MAX_CLASSES and cells <= MAX_CELLS and images * classes * (features.shape[1] + 1) <= MAX_WORK


def encode_features(positions: I64, labels: I64, *, classes: int, bounds: I64, features: I8) -> bytes:
    """Coded bytes of positions int64 [k] and labels int64 [k], k > 0; features int8 [images, d], `bounds` of blocks."""
    marks = np.zeros(len(features), np.int32)
    marks[positions] = labels + 1
    room = _ROOM[0] + _ROOM[1] * len(positions)
    while True:
        io, buffer = _run(np.zeros(room, np.uint8), 0, marks, len(positions), classes, bounds, features)[1:]
        if io[arithmetic.AT] <= room:
            return bytes(buffer[: io[arithmetic.AT] - io[arithmetic.ZEROS]])
        room = int(io[arithmetic.AT])


def decode_features(coded: bytes, count: int, *, classes: int, bounds: I64, features: I8) -> tuple[I64, I64]:
    """Inverse of encode_features, count > 0.

    Raises:
        PayloadCorrupt: no content has these bytes.
    """
    raw = np.frombuffer(coded, np.uint8).copy()
    marks, io, _ = _run(raw, 1, np.zeros(len(features), np.int32), count, classes, bounds, features)
    positions = np.flatnonzero(marks).astype(np.int64)
    if len(positions) != count:
        raise PayloadCorrupt(f"the coded bytes are of no content: {len(positions)} of {count} images")
    check_end(io, len(coded))
    return positions, marks[positions].astype(np.int64) - 1


def _run(
    raw: npt.NDArray[np.uint8], decoding: int, marks: npt.NDArray[np.int32], count: int, classes: int, bounds: I64,
    features: I8,
) -> tuple[npt.NDArray[np.int32], Any, Any]:  # fmt: skip
    """(marks, state of the coder, buffer) after coding in one direction; marks are 0, or the class + 1."""
    images, blocks = len(features), len(bounds) - 1
    f = functions(10 * images + 40 * count * (1 + classes // 10))
    compiled = f.compiled
    buffer: Any = raw if compiled else bytearray(raw.tobytes())
    io = vector(np.zeros(6), compiled)
    f.arithmetic.start(io, buffer, decoding)
    width = 1 << (classes - 1).bit_length()
    slots, by_block = np.zeros(2 * pack_model.BUCKETS), np.zeros(blocks)
    keeps = (pack_model.START, slots, slots, by_block, by_block, np.zeros(pack_model.INPUTS))
    names = (pack_model.LABEL_START, np.zeros(blocks * classes), np.zeros(2 * width), np.zeros(pack_model.EXPERTS))
    model = f.pack_model.KeepModel(*(vector(entries, compiled) for entries in keeps))
    labels = f.pack_model.LabelModel(classes, width, *(vector(entries, compiled) for entries in names))
    t = (*coding_tables(compiled), vector(exponential(), compiled))
    learner = Learner.fresh(images, count, classes, features.shape[1])
    step = step_of(images)
    found: list[I64] = []
    done = end = 0
    while done < count and end < images:
        begin, end = end, min(images, max(images // _FIRST, 1) if not end else max(end * _GROW[0] // _GROW[1], end + 1))
        for at in range(begin, end, _CHUNK):
            order = np.arange(at, min(at + _CHUNK, end), dtype=np.int64) * step % images
            scores = learner.scores(rows_of(features, order))
            rows = (np.searchsorted(bounds, order, "right") - 1, logits_of(scores), scores.ravel(), marks[order])
            stretch = f.pack_model.Stretch(*(vector(entries, compiled) for entries in rows))
            done = f.pack_model.code_stretch(io, buffer, stretch, count, done, t, model, labels)
            marks[order] = stretch.marks
            found.append(order[marks[order] > 0])
            if done == count:
                break
        if done < count and end < images:
            learner.learn(features, *sample(marks, np.concatenate(found), end, step))
    if not decoding:
        f.arithmetic.finish(io, buffer)
    return marks, io, buffer


def step_of(images: int) -> int:
    """The jump from one image to the next: about 0.618 of the reference, without a common divisor with it."""
    step = max(images * 0x9E3779B9 >> 32, 1)
    while gcd(step, images) > 1:
        step += 1
    return step


def sample(marks: npt.NDArray[np.int32], found: I64, end: int, step: int) -> tuple[I64, I64, I64]:
    """Images to learn from, each int64 [n]: positions, classes (-1: not kept), how many each stands for.

    `found` are the kept ones of the `end` images visited so far, in their order; marks [images] are 0 for the others.
    """
    every = max(-(-len(found) // _SAMPLE), 1)
    kept_ones = found[::every]
    apart = -(-end // _SAMPLE)
    others = np.arange(0, end, apart, dtype=np.int64) * step % len(marks)
    others = others[marks[others] == 0]
    chosen = np.concatenate([kept_ones, others])
    stands = np.repeat(np.array([every, apart], np.int64), [len(kept_ones), len(others)])
    mixed = np.arange(len(chosen), dtype=np.int64) * step_of(len(chosen)) % len(chosen)
    return chosen[mixed], marks[chosen[mixed]].astype(np.int64) - 1, stands[mixed]


def rows_of(features: I8, positions: I64) -> F64:
    """Features of images as float64 [n, d + 1], the last one 32."""
    rows = np.full((len(positions), features.shape[1] + 1), BIAS, np.float64)
    rows[:, :-1] = features[positions]
    return rows


def logits_of(scores: I64) -> I64:
    """Logit [n] of being kept as any class, from scores [n, C]."""
    total = _exponential()[scores + LIMIT].sum(1)
    bits = np.frexp(total.astype(np.float64))[1].astype(np.int64) - 1  # exact: total is below 2^53
    top = np.where(bits >= 10, total >> np.maximum(bits - 10, 0), total << np.maximum(10 - bits, 0))
    logits: I64 = _logarithm()[top - 1024] + (bits * 45426 >> 8) - (24 * 45426 >> 8)
    return logits


def roots_of(values: I64) -> I64:
    """Square roots, rounded down, of whole numbers up to 2^60."""
    roots = np.sqrt(values.astype(np.float64)).astype(np.int64)
    roots -= roots * roots > values  # the float may have been rounded up, or down
    return roots + ((roots + 1) * (roots + 1) <= values)


@cache
def _exponential() -> I64:
    return np.array(exponential(), np.int64)


@cache
def _logarithm() -> I64:
    return np.array(logarithm(), np.int64)


@dataclass(slots=True)
class Learner:
    """A row of weights for each class: float64 [C, d + 1] of whole numbers, in 1/2^16 a unit of feature.

    power: what has moved each class so far, which makes its steps shorter.
    """

    weights: F64
    power: I64

    @classmethod
    def fresh(cls, images: int, count: int, classes: int, features: int) -> "Learner":
        """What is known at the start: how many images are kept."""
        weights = np.zeros((classes, features + 1))
        ln = _logarithm().tolist()
        usual = ln_of(ln, count) - ln_of(ln, classes) - ln_of(ln, max(images - count, 1))
        weights[:, -1] = usual << 8
        return cls(weights, np.zeros(classes, np.int64))

    def scores(self, rows: F64) -> I64:
        """Scores int64 [n, C] in 1/256 nat, of rows [n, d + 1]."""
        scores: I64 = np.clip((rows @ self.weights.T).astype(np.int64) >> 13, -_SCORE, _SCORE)
        return scores

    def learn(self, features: I8, positions: I64, labels: I64, stands: I64) -> None:
        """Gradient steps on these images: four epochs in batches of 128."""
        all_rows = rows_of(features, positions)
        for begin in [*range(0, len(positions), _BATCH)] * _EPOCHS:
            batch = slice(begin, begin + _BATCH)
            rows, names = all_rows[batch], labels[batch]
            exps = _exponential()[self.scores(rows) + LIMIT]
            errors = -((exps << 16) // (exps.sum(1) + (1 << 24))[:, None])
            kept_ones = np.flatnonzero(names >= 0)
            errors[kept_ones, names[kept_ones]] += 1 << 16
            errors *= stands[batch, None]
            slope = (errors.T.astype(np.float64) @ rows).astype(np.int64)
            powers = (np.clip(slope >> 10, -_STEEPEST, _STEEPEST) ** 2).sum(1) // slope.shape[1]
            rates = _RATE // (roots_of(self.power) + _EASE)
            self.weights += slope * rates[:, None] >> 16
            self.power = np.minimum(self.power + powers, _MOST_POWER)
            np.clip(self.weights, -_MOST_WEIGHT, _MOST_WEIGHT, out=self.weights)
