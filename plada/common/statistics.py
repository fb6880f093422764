"""Figures that more than one room needs: softmax, accuracy, Wilson's interval."""

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]


def probabilities(logits: F32, temperature: float = 1.0) -> F32:
    """softmax(logits / T) of logits [n, c]."""
    scaled = logits / np.float32(temperature)
    odds = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True), np.float32)


def accuracy(logits: F32, labels: npt.NDArray[np.int64]) -> float:
    """Share of right argmaxes; 0 for no image."""
    return float((logits.argmax(axis=1) == labels).mean()) if len(labels) else 0.0
