"""A linear probe as a combination of random heads that both sides draw from one seed: after PRANC (arXiv 2206.08464).

Only the coefficients are sent, in float16, as many as fit, and a bias for each class. The paper combines whole networks; of a network on
the embeddings, which every client has, the head is what there is to learn.
"""

import struct

import numpy as np

from plada.benchmark.messages import DoesNotFit, Message, Outcome, ProbeWeights
from plada.benchmark.probe_methods import PARTS
from plada.benchmark.scenario import Scenario
from plada.common.arrays import F32, Bools
from plada.common.statistics import accuracy
from plada.labeler.splits import stratified
from plada.networks.linear_head import Head

PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4)  # of the ridge regression, chosen by cross-validation
MAX_COEFFICIENTS = 1000
_NUMBERS = 1 << 26  # of the random heads, and of what they say of the images: fewer coefficients or images beyond
_HEAD = struct.Struct("<HH")  # coefficients, classes
_LEAST = 4  # coefficients


def random_heads(dimension: int, classes: int, count: int) -> F32:
    """Heads float32 [count, d, c] from one seed; the first ones of a larger draw are those of a smaller one."""
    rng = np.random.default_rng(2206)
    return np.stack([rng.standard_normal((dimension, classes), np.float32) for _ in range(count)])


def send_random_combination(scenario: Scenario, budget: int) -> Outcome:
    """Coefficients in as many bytes as there are; the penalty that scores best."""
    fixed, classes = _HEAD.size + 2 * scenario.classes, scenario.classes
    count = min((budget - fixed) // 2, MAX_COEFFICIENTS, _NUMBERS // (len(scenario.index.mean) * classes))
    if count < _LEAST:
        return DoesNotFit(f"{_LEAST} coefficients need more", fixed + 2 * _LEAST)
    heads = random_heads(len(scenario.index.mean), classes, count)
    images = np.random.default_rng(scenario.seed).permutation(len(scenario.own_images.labels))
    images = np.sort(images[: max(1, _NUMBERS // (2 * count * classes))])
    vectors, labels = scenario.own_images.vectors[images], scenario.own_images.labels[images]
    centred = np.asarray(vectors - scenario.index.mean, np.float32)
    answers = np.einsum("nd,kdc->nck", centred, heads, optimize=True)
    place = stratified(labels, PARTS, seed=scenario.seed)
    scores = []
    for penalty in PENALTIES:
        right = 0.0
        for part in range(PARTS):
            held = place == part
            if held.any() and not held.all():
                head = _read(_fit(answers, labels, ~held, penalty, classes), scenario, heads)
                right += accuracy(head.logits(vectors[held]), labels[held]) * held.sum()
        scores.append(right / len(labels))
    best = int(np.argmax(scores))
    data = _fit(answers, labels, np.ones(len(labels), np.bool_), PENALTIES[best], classes)
    return Message(
        len(data), ProbeWeights(_read(data, scenario, heads)), data, {"coefficients": count, "expected": scores[best]}
    )


def _fit(answers: F32, labels: np.ndarray, seen: Bools, penalty: float, classes: int) -> bytes:
    """The file: ridge regression of one for the right class and nothing for the others, on answers float32 [n, c, k]."""
    wanted = (labels[seen, None] == np.arange(classes)).astype(np.float64)
    points = answers[seen].astype(np.float64)
    middle, level = points.mean(axis=0), wanted.mean(axis=0)
    flat = (points - middle).reshape(-1, points.shape[2])
    square = flat.T @ flat
    square[np.diag_indices_from(square)] += penalty * np.trace(square) / len(square)
    coefficients = np.linalg.solve(square, flat.T @ (wanted - level).reshape(-1))
    bias = level - middle @ coefficients
    body = np.concatenate([coefficients, bias])
    body /= np.abs(body).max() or 1.0  # float16 has a range; the largest answer is the same
    return _HEAD.pack(len(coefficients), classes) + body.astype("<f2").tobytes()


def _read(data: bytes, scenario: Scenario, heads: F32) -> Head:
    count, _ = _HEAD.unpack_from(data)
    values = np.frombuffer(data, "<f2", offset=_HEAD.size).astype(np.float32)
    weight = np.tensordot(values[:count], heads, axes=1)
    return Head(scenario.index.mean, np.asarray(weight, np.float32), values[count:])
