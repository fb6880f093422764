"""How sure a teacher is of an image: logits to one number, higher is kept first."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from plada.common.arrays import F32

Score = Callable[[F32], F32]


def energy(logits: F32, temperature: float = 1.0) -> F32:
    """T log sum exp(logits / T) of logits [n, c]: the negative of the paper's energy (eq. 5; eq. 8 with T)."""
    scaled = logits / np.float32(temperature)
    peak = scaled.max(axis=1)
    return np.asarray(temperature * (peak + np.log(np.exp(scaled - peak[:, None]).sum(axis=1))), np.float32)


def entropy(logits: F32, temperature: float = 1.0) -> F32:
    """Negative Shannon entropy of softmax(logits / T) (eq. 9), in nats."""
    shifted = (logits - energy(logits, temperature)[:, None]) / np.float32(temperature)
    return np.asarray((np.exp(shifted) * shifted).sum(axis=1), np.float32)


def margin(logits: F32) -> F32:
    """Largest logit less the second largest; with one class, the logit itself."""
    if logits.shape[1] == 1:
        return logits[:, 0]
    top = np.partition(logits, -2, axis=1)[:, -2:]
    return np.asarray(top[:, 1] - top[:, 0], np.float32)


def normalised_rank(score: F32) -> F32:
    """Rank of each image / (n - 1), 0 for the best (eq. 10); ties by row."""
    ranks = np.empty(len(score), np.float32)
    ranks[np.argsort(-score, kind="stable")] = np.arange(len(score), dtype=np.float32)
    return np.asarray(ranks / max(len(score) - 1, 1), np.float32)


def consensus(scores: Sequence[F32]) -> F32:
    """The negative of the worst normalised rank that any of the scores gives an image (eq. 11)."""
    return np.asarray(-np.max([normalised_rank(score) for score in scores], axis=0), np.float32)


# What is kept of each image in the one pass over a reference.
SCORES: Mapping[str, Score] = MappingProxyType({"energy": energy, "entropy": entropy, "margin": margin})
