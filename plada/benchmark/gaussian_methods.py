"""Class Gaussians of features instead of labels: the server sends mean and spread of each class, the client draws features from them and
fits a head of its own. After FedPFT (arXiv 2402.01862), with one Gaussian a class, quantised to the budget.

Only for clients with the server's own encoder, as probes. Features are coordinates on the main axes of the reference's embeddings, in units
of the reference's own spread on each axis: both sides have these. Candidates (the kind of spread, bits of a mean, and as many dimensions
as then fit) are compared by cross-validation over the target's training and validation images.
"""

import struct
from dataclasses import dataclass

import numpy as np

from plada.benchmark.messages import DoesNotFit, Message, Outcome, ProbeWeights
from plada.benchmark.probe_methods import PARTS, Basis, principal_basis, reference_sample
from plada.benchmark.scenario import Scenario
from plada.common.arrays import F32, I64, Bools
from plada.common.statistics import accuracy
from plada.labeler.splits import stratified
from plada.networks.linear_head import PENALTY, Head, fit_head

KINDS = ("spherical", "shared", "diagonal")  # one spread a class, one a dimension, or one for each class and dimension
BITS = (2, 3, 4, 6)  # of a coordinate of a mean
DRAWS = 64  # features of each class that the client draws, fewer of many classes
_MIN_DRAWS, _MAX_FEATURES = 8, 20_000
_HEAD = struct.Struct("<BBHHe")  # kind, bits, dimensions, classes, step of the means
_WIDTH_BITS = 4  # of a spread: quarters of an octave
_TOP_WIDTH = 0.75  # octaves: the largest spread, against the reference's
_CLIPPED = (1.0, 0.8, 0.6, 0.45, 0.3)  # shares of the largest coordinate that the top level may stand for
_LEAST = 4  # dimensions
_STEPS = 80  # of a head's L-BFGS
_TINY = 1e-6


@dataclass(frozen=True, slots=True)
class _Coordinates:
    """What both sides know: the axes, and the reference's spread on each, float32 [d]."""

    basis: Basis
    spread: F32


def write_gaussians(means: F32, widths: F32, kind: str, bits: int) -> bytes:
    """Means float32 [c, m] in `bits` a coordinate, and spreads float32 [c, m] as `kind` has them in 4 bits each; all in units of the
    reference's spread."""
    top = max(1, (1 << (bits - 1)) - 1)
    largest = max(float(np.abs(means).max()) / top, _TINY)
    steps = [np.float16(max(largest * share, _TINY)) for share in _CLIPPED]
    step = min(steps, key=lambda each: float(((_rounded(means, each, top) * each - means) ** 2).sum()))
    if kind == "spherical":
        widths = np.sqrt((widths**2).mean(axis=1, keepdims=True))
    elif kind == "shared":
        widths = np.sqrt((widths**2).mean(axis=0, keepdims=True))
    levels = np.rint(4 * (np.log2(np.maximum(widths, _TINY)) - _TOP_WIDTH)) + (1 << _WIDTH_BITS) - 1
    values = (_rounded(means, step, top) + top).astype(np.int64)
    head = _HEAD.pack(KINDS.index(kind), bits, means.shape[1], len(means), step)
    return (
        head + _packed(values, bits) + _packed(np.clip(levels, 0, (1 << _WIDTH_BITS) - 1).astype(np.int64), _WIDTH_BITS)
    )


def read_gaussians(data: bytes) -> tuple[F32, F32]:
    """(means, spreads), both float32 [c, m]."""
    kind, bits, count, classes, step = _HEAD.unpack_from(data)
    top, at = max(1, (1 << (bits - 1)) - 1), _HEAD.size
    size = _size(bits, classes * count)
    means = (_unpacked(data[at : at + size], bits, classes * count) - top).reshape(classes, count) * step
    shape = {"spherical": (classes, 1), "shared": (1, count), "diagonal": (classes, count)}[KINDS[kind]]
    levels = _unpacked(data[at + size :], _WIDTH_BITS, shape[0] * shape[1]).reshape(shape)
    widths = 2.0 ** ((levels - (1 << _WIDTH_BITS) + 1) / 4 + _TOP_WIDTH)
    return means.astype(np.float32), np.broadcast_to(widths, (classes, count)).astype(np.float32)


def _rounded(means: F32, step: np.float16, top: int) -> F32:
    return np.asarray(np.clip(np.rint(means / np.float32(step)), -top, top), np.float32)


def _packed(values: I64, bits: int) -> bytes:
    return np.packbits(((values.reshape(-1, 1) >> np.arange(bits - 1, -1, -1)) & 1).astype(np.uint8)).tobytes()


def _unpacked(data: bytes, bits: int, count: int) -> I64:
    spread = np.unpackbits(np.frombuffer(data, np.uint8))[: count * bits].reshape(-1, bits).astype(np.int64)
    return np.asarray(spread @ (1 << np.arange(bits - 1, -1, -1)), np.int64)


def _size(bits: int, count: int) -> int:
    return (count * bits + 7) // 8


def _bytes(kind: str, bits: int, count: int, classes: int) -> int:
    widths = {"spherical": classes, "shared": count, "diagonal": classes * count}[kind]
    return _HEAD.size + _size(bits, classes * count) + _size(_WIDTH_BITS, widths)


def send_gaussians(scenario: Scenario, budget: int) -> Outcome:
    """Class Gaussians on as many axes as fit, of the kind and at the bits that score best."""
    best: tuple[float, str, int, int] | None = None  # score, kind, bits, dimensions
    for kind in KINDS:
        for bits in BITS:
            count = _max_fitting(scenario, kind, bits, budget)
            if count >= _LEAST:
                score = _judge(scenario, kind, bits, count)
                best = max(best or (score, kind, bits, count), (score, kind, bits, count), key=lambda each: each[0])
    if best is None:
        return DoesNotFit(
            f"{_LEAST} dimensions need more", min(_bytes(kind, BITS[0], _LEAST, scenario.classes) for kind in KINDS)
        )
    score, kind, bits, count = best
    data = _send(scenario, kind, bits, count, np.ones(len(scenario.own_images.labels), np.bool_))
    detail = {"kind": kind, "bits": bits, "dimensions": count, "expected": score}
    return Message(len(data), ProbeWeights(_arrive(scenario, data)), data, detail)


def _max_fitting(scenario: Scenario, kind: str, bits: int, budget: int) -> int:
    count = len(scenario.index.mean)
    while count and _bytes(kind, bits, count, scenario.classes) > budget:
        count -= max(1, count // 50)
    return count


def _coordinates(scenario: Scenario) -> _Coordinates:
    if "gaussian axes" not in scenario.cache:
        basis = scenario.cache.setdefault("basis axes", principal_basis(scenario))
        placed = basis.coordinates(reference_sample(scenario), scenario.index.mean, basis.order)
        scenario.cache["gaussian axes"] = _Coordinates(basis, np.maximum(placed.std(axis=0), _TINY).astype(np.float32))
    known: _Coordinates = scenario.cache["gaussian axes"]
    return known


def _send(scenario: Scenario, kind: str, bits: int, count: int, seen: Bools) -> bytes:
    """The file of the Gaussians of some of the target's images. A class without an image has the mean and spread of all."""
    known, shared = scenario.own_images, _coordinates(scenario)
    points = shared.basis.coordinates(known.vectors[seen], scenario.index.mean, shared.basis.order[:count])
    points, labels = points / shared.spread[:count], known.labels[seen]
    means = np.tile(points.mean(axis=0), (scenario.classes, 1))
    widths = np.tile(points.std(axis=0), (scenario.classes, 1))
    for number in np.unique(labels):
        mine = points[labels == number]
        means[number] = mean = mine.mean(axis=0)
        widths[number] = np.sqrt(((mine - mean) ** 2).sum(axis=0) / max(len(mine) - 1, 1))
    return write_gaussians(means.astype(np.float32), widths.astype(np.float32), kind, bits)


def _arrive(scenario: Scenario, data: bytes) -> Head:
    """The head that a client fits to what it draws: as many features of every class."""
    shared = _coordinates(scenario)
    means, widths = read_gaussians(data)
    classes, count = means.shape
    each = max(_MIN_DRAWS, min(DRAWS, _MAX_FEATURES // classes))
    draws = np.random.default_rng(scenario.seed).standard_normal((each, classes, count), np.float32)
    points = ((means + widths * draws) * shared.spread[:count]).reshape(-1, count)
    labels = np.tile(np.arange(classes), each)
    head = fit_head(points, labels, classes=classes, mean=np.zeros(count, np.float32), penalty=PENALTY, steps=_STEPS)
    return shared.basis.whole(head, scenario.index.mean, shared.basis.order[:count])


def _judge(scenario: Scenario, kind: str, bits: int, count: int) -> float:
    """Cross-validated accuracy of such heads on the target's own images."""
    known = scenario.own_images
    place, right = stratified(known.labels, PARTS, seed=scenario.seed), 0.0
    for part in range(PARTS):
        held = place == part
        if held.any() and not held.all():
            head = _arrive(scenario, _send(scenario, kind, bits, count, ~held))
            right += accuracy(head.logits(known.vectors[held]), known.labels[held]) * held.sum()
    return right / len(known.labels)
