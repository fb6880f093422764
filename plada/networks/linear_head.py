"""Linear classifiers on embeddings: multinomial logistic regression, for teachers and students alike."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plada.common.arrays import F32, F64, I64
from plada.networks.solver import softmax_regression

PENALTY = 1e-3  # of a teacher whose penalty nothing has chosen
# A linear student's labels come from a linear teacher: it may follow them closely. At 1e-3 it fell behind with many or
# uneven labels, by up to 25 points (docs/log.md).
STUDENT_PENALTY = 1e-5


@dataclass(frozen=True, slots=True)
class Head:
    """A linear classifier on centred, rescaled embeddings: logits = (x - mean) @ weight + bias."""

    mean: F32  # [d]
    weight: F32  # [d, c]
    bias: F32  # [c]

    def logits(self, vectors: npt.NDArray[np.floating]) -> F32:
        """Logits float32 [n, c] of embeddings [n, d]."""
        return np.asarray((np.asarray(vectors, np.float32) - self.mean) @ self.weight + self.bias, np.float32)


def fit_head(vectors: F32, labels: I64 | F64, *, classes: int, mean: F32, penalty: float, steps: int = 300) -> Head:
    """Multinomial logistic regression with an L2 penalty, by L-BFGS over all examples.

    In float64: the number of threads changes how sums round, and in float32 that changed labels.

    vectors float32 [n, d] of length one, labels int64 [n] or soft ones float64 [n, classes], mean float32 [d] (the
    reference's). The centred vectors are scaled to a mean length of one, so that a penalty means the same for every encoder.
    """
    return HeadFitter(vectors, labels, classes=classes, mean=mean).head(penalty, steps=steps)


class HeadFitter:
    """Fits heads to the same examples under several penalties. Arguments as for `fit_head`.

    Each search starts where the last one ended: from large penalties to small ones this takes a quarter of the time.
    """

    def __init__(self, vectors: F32, labels: I64 | F64, *, classes: int, mean: F32) -> None:
        centred = vectors.astype(np.float64) - mean
        self._scale = 1.0 / max(float(np.linalg.norm(centred, axis=1).mean()), 1e-9)
        self._points, self._axes = centred * self._scale, None
        if 0 < len(centred) < centred.shape[1]:
            # The best weights lie in the span of the examples: fewer numbers to find, the same result.
            self._axes, triangle = np.linalg.qr(self._points.T)
            self._points = np.ascontiguousarray(triangle.T)
        self._labels, self._classes, self._mean = labels, classes, mean
        self._weights: F64 | None = None

    def head(self, penalty: float, *, steps: int = 300) -> Head:
        """The head under `penalty`, after at most `steps` steps."""
        weights = softmax_regression(
            self._points, self._labels, self._classes, penalty=penalty, steps=steps, start=self._weights
        )
        self._weights = weights
        weight = weights[:-1] if self._axes is None else self._axes @ weights[:-1]
        return Head(
            self._mean.astype(np.float32), (weight * self._scale).astype(np.float32), weights[-1].astype(np.float32)
        )
