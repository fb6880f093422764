"""Methods that send a linear probe in few bits. They need a client with the server's own encoder; labels serve any student.

All heads are on the reference's embeddings, centred on the index's mean, which both sides have. The values of a class share
one scale. Candidates (bits per value, and as many dimensions as then fit) are compared by cross-validation over the target's
training and validation images.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import zstandard

from plada.benchmark.messages import DoesNotFit, Message, Outcome, ProbeWeights, SendMethod
from plada.benchmark.scenario import Scenario
from plada.common.arrays import F32, I64, Bools
from plada.common.statistics import accuracy
from plada.labeler.splits import stratified
from plada.networks.linear_head import Head, HeadFitter

BITS = (2, 3, 4, 6)  # of a value that is sent
PARTS = 3  # of the cross-validation
LEVEL = 19
_SAMPLE = 8192  # reference images whose principal axes both sides compute
_HEAD = struct.Struct("<BHH")  # bits (and how the rest is packed), dimensions, classes
_COMPRESSED = 0x80
_LEAST = 4  # dimensions
_CLIPPED = (1.0, 0.85, 0.7, 0.55, 0.4)  # shares of the largest weight that the top level may stand for
_TINY = 1e-6  # above the least float16


@dataclass(frozen=True, slots=True)
class Basis:
    """Dimensions for a head, the most useful first: `order` int64 [d] of the coordinates (x - mean) @ axes, axes float32
    [d, d], or None for the embedding's own. `named`: the message must say which were taken."""

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
    compressed = zstandard.ZstdCompressor(level=LEVEL, write_content_size=False, write_checksum=False).compress(whole)
    body = min(dense, compressed, key=len)
    flag = bits | (_COMPRESSED if body is compressed else 0)
    return _HEAD.pack(flag, *weight.shape) + scale.tobytes() + bias.astype("<f2").tobytes() + places + body


def _rounded(weight: F32, scale: F32, top: int) -> F32:
    return np.asarray(np.clip(np.rint(weight / scale), -top, top), np.float32)


def _scales(weight: F32, top: int) -> F32:
    """The scale [c] of each class that leaves the least squared error: with few levels it pays to clip the largest."""
    largest = np.maximum(np.abs(weight).max(axis=0) / top, _TINY)
    scales = np.stack([np.maximum(largest * share, _TINY) for share in _CLIPPED])
    errors = np.stack([((_rounded(weight, scale, top) * scale - weight) ** 2).sum(axis=0) for scale in scales])
    return np.asarray(np.take_along_axis(scales, errors.argmin(axis=0)[None], axis=0)[0], np.float32)


def read_head(data: bytes, *, named: bool, dimension: int) -> tuple[F32, F32, I64]:
    """(weight float32 [m, c], bias float32 [c], taken int64 [m]) of what write_head wrote."""
    flag, count, classes = _HEAD.unpack_from(data)
    bits, at = flag & ~_COMPRESSED, _HEAD.size
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
    if flag & _COMPRESSED:
        whole = zstandard.ZstdDecompressor().decompress(data[at:], max_output_size=count * classes)
        values = np.frombuffer(whole, np.int8).astype(np.int64)
    else:
        spread = np.unpackbits(np.frombuffer(data, np.uint8, offset=at))[: count * classes * bits].reshape(-1, bits)
        values = spread.astype(np.int64) @ (1 << np.arange(bits - 1, -1, -1)) - top
    return (values.reshape(classes, count).T * scale).astype(np.float32), bias, taken.astype(np.int64)


def pruned_basis(scenario: Scenario) -> Basis:
    """The embedding's own dimensions, first those that change the teacher's logits most on the target's images."""
    moved = np.linalg.norm(scenario.head.weight, axis=1) * scenario.own_images.vectors.std(axis=0)
    return Basis(np.argsort(-moved, kind="stable").astype(np.int64), None, named=True)


def reference_sample(scenario: Scenario) -> F32:
    """Embeddings of some reference images, the same on both sides."""
    positions = scenario.labels.positions
    sample = np.sort(np.random.default_rng(0).permutation(len(positions))[:_SAMPLE])
    return np.asarray(scenario.vectors(positions[sample]), np.float32)


def principal_basis(scenario: Scenario) -> Basis:
    """The principal axes of the reference's embeddings, which both sides can compute; the first ones are taken, unnamed."""
    centred = reference_sample(scenario).astype(np.float64) - scenario.index.mean
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    return Basis(np.arange(axes.shape[1]), np.ascontiguousarray(axes, np.float32), named=False)


def send_quantised_probe(name: str, make: Callable[[Scenario], Basis]) -> SendMethod:
    """A probe on as many dimensions of a basis as fit, at the number of bits per value that scores best."""

    def send(scenario: Scenario, budget: int) -> Outcome:
        if f"basis {name}" not in scenario.cache:
            scenario.cache[f"basis {name}"] = make(scenario)
        basis: Basis = scenario.cache[f"basis {name}"]
        best: tuple[float, int, int] | None = None  # score, bits, dimensions
        for bits in BITS:
            count = _max_fitting(scenario, basis, bits, budget)
            if count < _LEAST:
                continue
            score = _judge(scenario, basis, bits, count)
            if best is None or score > best[0]:
                best = score, bits, count
        if best is None:
            return DoesNotFit(f"{_LEAST} dimensions need more", _bytes(scenario, basis, BITS[0], _LEAST))
        _, bits, count = best
        all_images = np.ones(len(scenario.own_images.labels), np.bool_)
        data = _send(scenario, basis, bits, count, all_images)
        while len(data) > budget:  # the last bytes depend on the values
            count -= max(1, count // 50)
            data = _send(scenario, basis, bits, count, all_images)
        return Message(
            len(data),
            ProbeWeights(_arrive(scenario, basis, data)),
            data,
            {"bits": bits, "dimensions": count, "expected": best[0]},
        )

    return send


def send_int8_probe(scenario: Scenario, _: int) -> Outcome:
    """The teacher's whole head in 8 bits a weight, through zstd-19 where that helps; as many bytes as it takes."""
    mean = scenario.index.mean
    bias = np.asarray(scenario.head.bias + (mean - scenario.head.mean) @ scenario.head.weight, np.float32)
    data = write_head(scenario.head.weight, bias, 8, None, len(mean))
    weight, read_bias = read_head(data, named=False, dimension=len(mean))[:2]
    return Message(len(data), ProbeWeights(Head(mean, weight, read_bias)), data, {"bits": 8, "dimensions": len(mean)})


def _max_fitting(scenario: Scenario, basis: Basis, bits: int, budget: int) -> int:
    """Dimensions that fit with the values in plain bits; compressed they never take more."""
    count = min(len(basis.order), max(0, budget * 8 // (bits * scenario.classes)))
    while count and _bytes(scenario, basis, bits, count) > budget:
        count -= max(1, count // 50)
    return count


def _bytes(scenario: Scenario, basis: Basis, bits: int, count: int) -> int:
    places = min((len(basis.order) + 7) // 8, 2 * count) if basis.named else 0
    return _HEAD.size + 4 * scenario.classes + places + (count * scenario.classes * bits + 7) // 8


def _send(scenario: Scenario, basis: Basis, bits: int, count: int, seen: Bools) -> bytes:
    """The file of a head that is fitted to some of the target's images on `count` dimensions."""
    known, mean, taken = scenario.own_images, scenario.index.mean, np.sort(basis.order[:count])
    points = basis.coordinates(known.vectors[seen], mean, taken)
    fitter = HeadFitter(points, known.labels[seen], classes=scenario.classes, mean=np.zeros(count, np.float32))
    head = fitter.head(scenario.penalty, steps=80)
    return write_head(head.weight, head.bias, bits, taken if basis.named else None, len(mean))


def _arrive(scenario: Scenario, basis: Basis, data: bytes) -> Head:
    mean = scenario.index.mean
    weight, bias, taken = read_head(data, named=basis.named, dimension=len(mean))
    return basis.whole(Head(np.zeros(len(taken), np.float32), weight, bias), mean, taken)


def _judge(scenario: Scenario, basis: Basis, bits: int, count: int) -> float:
    """Cross-validated accuracy of such heads on the target's own images."""
    known = scenario.own_images
    place = stratified(known.labels, PARTS, seed=scenario.seed)
    right = 0.0
    for part in range(PARTS):
        held = place == part
        if not held.any() or held.all():
            continue
        head = _arrive(scenario, basis, _send(scenario, basis, bits, count, ~held))
        right += accuracy(head.logits(known.vectors[held]), known.labels[held]) * held.sum()
    return right / len(known.labels)
