"""Methods that send the teacher's weights: a linear probe in few bits. Only for a client with the server's own encoder,
whose student is that very probe; labels serve any student.

All heads are of the reference's centred embeddings; the mean is the index's, which both sides have. Values of a class
share one scale. The candidates (bits a value, and as many dimensions as then fit) are judged by cross-validation over the
target's train and validation images.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import zstandard

from plada.benchmark.course import Course
from plada.benchmark.sent import Answer, Ask, Sent, Unfit, Weights
from plada.common.statistics import accuracy
from plada.labeler.splits import stratified
from plada.networks.linear_head import Fitting, Head

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
BITS = (2, 3, 4, 6)  # of a value that is sent
PARTS = 3  # of the cross-validation
LEVEL = 19
_SAMPLE = 8192  # reference images whose main axes both sides compute
_HEAD = struct.Struct("<BHH")  # bits (and how the rest is packed), dimensions, classes
_PRESSED = 0x80
_LEAST = 4  # dimensions
_CLIPPED = (1.0, 0.85, 0.7, 0.55, 0.4)  # shares of the largest weight that the top level may stand for
_TINY = 1e-6  # above the least float16


@dataclass(frozen=True, slots=True)
class Basis:
    """The dimensions that a head stands on: `order` int64 [d], the most useful first, of the coordinates
    (x - mean) @ axes, axes float32 [d, d]; None for the embedding's own. `named`: which were taken must be sent."""

    order: I64
    axes: F32 | None
    named: bool

    def coordinates(self, vectors: F32, mean: F32, taken: I64) -> F32:
        """Coordinates float32 [n, m] of embeddings [n, d]."""
        centred = vectors - mean
        return np.asarray(centred[:, taken] if self.axes is None else centred @ self.axes[:, taken], np.float32)

    def whole(self, head: Head, mean: F32, taken: I64) -> Head:
        """A head on some coordinates as one on embeddings."""
        weight = np.zeros((len(mean), head.weight.shape[1]), np.float32)
        if self.axes is None:
            weight[taken] = head.weight
        else:
            weight = self.axes[:, taken] @ head.weight
        return Head(mean, weight, head.bias)


def write_head(weight: F32, bias: F32, bits: int, taken: I64 | None, dimension: int) -> bytes:
    """A head [m, c] in `bits` a value, with a scale (float16) and a bias (float16) for each class; `taken` int64 [m] of
    `dimension`, rising, are named by the smaller of a bitmap and a list (None: the first m)."""
    top = max(1, (1 << (bits - 1)) - 1)
    scale = _scales(weight, top).astype("<f2")
    values = _rounded(weight, scale.astype(np.float32), top).astype(np.int64)
    places = b""
    if taken is not None:
        mask = np.zeros(dimension, np.uint8)
        mask[taken] = 1
        bitmap, listed = np.packbits(mask).tobytes(), taken.astype("<u2").tobytes()
        places = min(bitmap, listed, key=len)
    whole = values.T.astype(np.int8).tobytes()
    dense = np.packbits(
        ((values.T.reshape(-1, 1) + top) >> np.arange(bits - 1, -1, -1)).astype(np.uint8) & 1
    ).tobytes()  # fmt: skip
    pressed = zstandard.ZstdCompressor(level=LEVEL, write_content_size=False, write_checksum=False).compress(whole)
    body = min(dense, pressed, key=len)
    flag = bits | (_PRESSED if body is pressed else 0)
    return _HEAD.pack(flag, *weight.shape) + scale.tobytes() + bias.astype("<f2").tobytes() + places + body


def _rounded(weight: F32, scale: F32, top: int) -> F32:
    return np.asarray(np.clip(np.rint(weight / scale), -top, top), np.float32)


def _scales(weight: F32, top: int) -> F32:
    """The scale [c] of each class that leaves the least squared error: with few levels it pays to clip the largest."""
    largest = np.maximum(np.abs(weight).max(axis=0) / top, _TINY)
    found = np.stack([np.maximum(largest * share, _TINY) for share in _CLIPPED])
    errors = np.stack([((_rounded(weight, scale, top) * scale - weight) ** 2).sum(axis=0) for scale in found])
    return np.asarray(np.take_along_axis(found, errors.argmin(axis=0)[None], axis=0)[0], np.float32)


def read_head(data: bytes, *, named: bool, dimension: int) -> tuple[F32, F32, I64]:
    """(weight float32 [m, c], bias float32 [c], taken int64 [m]) of what write_head wrote."""
    flag, count, classes = _HEAD.unpack_from(data)
    bits, at = flag & ~_PRESSED, _HEAD.size
    top = max(1, (1 << (bits - 1)) - 1)
    scale, bias = (np.frombuffer(data, "<f2", classes, at + 2 * classes * part).astype(np.float32) for part in (0, 1))
    at += 4 * classes
    taken = np.arange(count)
    if named:
        bitmap = (dimension + 7) // 8
        if bitmap <= 2 * count:
            mask = np.unpackbits(np.frombuffer(data, np.uint8, bitmap, at))[:dimension]
            taken, at = np.flatnonzero(mask), at + bitmap
        else:
            taken, at = np.frombuffer(data, "<u2", count, at).astype(np.int64), at + 2 * count
    if flag & _PRESSED:
        whole = zstandard.ZstdDecompressor().decompress(data[at:], max_output_size=count * classes)
        values = np.frombuffer(whole, np.int8).astype(np.int64)
    else:
        spread = np.unpackbits(np.frombuffer(data, np.uint8, offset=at))[: count * classes * bits].reshape(-1, bits)
        values = spread.astype(np.int64) @ (1 << np.arange(bits - 1, -1, -1)) - top
    return (values.reshape(classes, count).T * scale).astype(np.float32), bias, taken.astype(np.int64)


def pruned_basis(course: Course) -> Basis:
    """The embedding's own dimensions, those first that move the teacher's logits most on the target's images."""
    moved = np.linalg.norm(course.head.weight, axis=1) * course.known.vectors.std(axis=0)
    return Basis(np.argsort(-moved, kind="stable").astype(np.int64), None, named=True)


def principal_basis(course: Course) -> Basis:
    """The main axes of the reference's embeddings, which both sides can compute; the first ones are taken, unnamed."""
    rng = np.random.default_rng(0)
    positions = course.labels.positions
    sample = np.sort(rng.permutation(len(positions))[:_SAMPLE])
    centred = course.vectors(positions[sample]).astype(np.float64) - course.index.mean
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    return Basis(np.arange(axes.shape[1]), np.ascontiguousarray(axes, np.float32), named=False)


def in_few_bits(name: str, make: Callable[[Course], Basis]) -> Ask:
    """A probe on as many dimensions of a basis as fit, in the number of bits a value that judges best."""

    def ask(course: Course, budget: int) -> Answer:
        if f"basis {name}" not in course.kept:
            course.kept[f"basis {name}"] = make(course)
        basis: Basis = course.kept[f"basis {name}"]
        best: tuple[float, int, int] | None = None  # judged, bits, dimensions
        for bits in BITS:
            count = _most(course, basis, bits, budget)
            if count < _LEAST:
                continue
            judged = _judge(course, basis, bits, count)
            if best is None or judged > best[0]:
                best = judged, bits, count
        if best is None:
            return Unfit(f"{_LEAST} dimensions need more", _bytes(course, basis, BITS[0], _LEAST))
        _, bits, count = best
        everything = np.ones(len(course.known.labels), np.bool_)
        data = _send(course, basis, bits, count, everything)
        while len(data) > budget:  # the last bytes depend on the values
            count -= max(1, count // 50)
            data = _send(course, basis, bits, count, everything)
        return Sent(len(data), Weights(_arrive(course, basis, data)), data, {"bits": bits, "dimensions": count})

    return ask


def int8_probe(course: Course, _: int) -> Answer:
    """The teacher's whole head in 8 bits a weight, through zstd-19 where that helps; as many bytes as it takes."""
    mean = course.index.mean
    bias = np.asarray(course.head.bias + (mean - course.head.mean) @ course.head.weight, np.float32)
    data = write_head(course.head.weight, bias, 8, None, len(mean))
    weight, read_bias = read_head(data, named=False, dimension=len(mean))[:2]
    return Sent(len(data), Weights(Head(mean, weight, read_bias)), data, {"bits": 8, "dimensions": len(mean)})


def _most(course: Course, basis: Basis, bits: int, budget: int) -> int:
    """Dimensions that fit, the values in their plain bits: pressed they may take less, never more."""
    count = min(len(basis.order), max(0, budget * 8 // (bits * course.classes)))
    while count and _bytes(course, basis, bits, count) > budget:
        count -= max(1, count // 50)
    return count


def _bytes(course: Course, basis: Basis, bits: int, count: int) -> int:
    places = min((len(basis.order) + 7) // 8, 2 * count) if basis.named else 0
    return _HEAD.size + 4 * course.classes + places + (count * course.classes * bits + 7) // 8


def _send(course: Course, basis: Basis, bits: int, count: int, seen: npt.NDArray[np.bool_]) -> bytes:
    """The file of a head that is fitted to some of the target's images on `count` dimensions."""
    known, mean, taken = course.known, course.index.mean, np.sort(basis.order[:count])
    points = basis.coordinates(known.vectors[seen], mean, taken)
    fitting = Fitting(points, known.labels[seen], classes=course.classes, mean=np.zeros(count, np.float32))
    head = fitting.head(course.penalty, steps=80)
    return write_head(head.weight, head.bias, bits, taken if basis.named else None, len(mean))


def _arrive(course: Course, basis: Basis, data: bytes) -> Head:
    mean = course.index.mean
    weight, bias, taken = read_head(data, named=basis.named, dimension=len(mean))
    return basis.whole(Head(np.zeros(len(taken), np.float32), weight, bias), mean, taken)


def _judge(course: Course, basis: Basis, bits: int, count: int) -> float:
    """Accuracy of such heads on the target's own images, each by one that has not seen it."""
    known = course.known
    place = stratified(known.labels, PARTS, seed=course.seed)
    right = 0.0
    for part in range(PARTS):
        held = place == part
        if not held.any() or held.all():
            continue
        head = _arrive(course, basis, _send(course, basis, bits, count, ~held))
        right += accuracy(head.logits(known.vectors[held]), known.labels[held]) * held.sum()
    return right / len(known.labels)
