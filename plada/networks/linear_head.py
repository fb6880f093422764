"""Linear classifiers on embeddings: multinomial logistic regression, for teachers and students alike."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plada.common.arrays import F32, F64, I64
from plada.common.failures import out_of_memory
from plada.common.products import BLAS, one_thread
from plada.networks.device import gpu_of, release_memory
from plada.networks.solver import blocked_regression, device_regression, softmax_regression

PENALTY = 1e-3  # of a teacher whose penalty nothing has chosen
# A linear student's labels come from a linear teacher: it may follow them closely. At 1e-3 it fell behind with many or
# uneven labels, by up to 25 points (docs/log.md).
STUDENT_PENALTY = 1e-5
LARGE = 1 << 22  # examples x classes up to which a fit is whole in memory, in float64, on one thread
GROWN = 1 << 25  # examples x classes beyond which a fit begins on fewer examples
SETTLED = 1e-3  # share of the loss that ten steps must bring, where a fit has grown or only compares penalties
_BLOCK = 8192  # examples that are measured at a time


@dataclass(frozen=True, slots=True)
class Head:
    """A linear classifier on centred, rescaled embeddings: logits = (x - mean) @ weight + bias."""

    mean: F32  # [d]
    weight: F32  # [d, c]
    bias: F32  # [c]

    def logits(self, vectors: npt.NDArray[np.floating]) -> F32:
        """Logits float32 [n, c] of embeddings [n, d]."""
        centred = np.array(vectors, np.float32)
        centred -= self.mean
        logits: F32 = centred @ self.weight
        logits += self.bias
        return logits


@one_thread(BLAS)
def fit_head(
    vectors: F32,
    labels: I64 | F64,
    *,
    classes: int,
    mean: F32,
    penalty: float,
    steps: int = 300,
    importance: F64 | None = None,
    device: str | None = "cpu",
) -> Head:
    """Multinomial logistic regression with an L2 penalty, by L-BFGS over all examples.

    In float64: the number of threads changes how sums round, and in float32 that changed labels. Beyond LARGE logits in
    float32, with sums in one order. Beyond GROWN logits on fewer examples first, four times as many each time, each search going on
    where the last one ended and ending when it brings next to nothing: few passes over all examples are left.

    `device` is torch's name of where fits of more than LARGE logits may run, None for a GPU if there is one; on a GPU the result is
    the same up to rounding.

    vectors float32 [n, d] of length one, labels int64 [n] or soft ones float64 [n, classes], mean float32 [d] (the
    reference's); `importance` float64 [n] is how much each example counts, None for all alike. The centred vectors are scaled to a
    mean length of one, so that a penalty means the same for every encoder.
    """
    sizes, order = [len(labels)], np.random.default_rng([len(labels), classes]).permutation(len(labels))
    while sizes[0] * classes > GROWN:
        sizes.insert(0, sizes[0] // 4)
    weights: F64 | None = None
    settled = SETTLED if len(sizes) > 1 else 0.0
    for size in sizes:
        rows = np.sort(order[:size]) if size < len(labels) else None
        fitter = HeadFitter(
            vectors,
            labels,
            classes=classes,
            mean=mean,
            rows=rows,
            start=weights,
            importance=importance,
            device=device,
        )
        head = fitter.head(penalty, steps=steps, settled=settled)
        weights = fitter.weights
    return head


class HeadFitter:
    """Fits heads to the same examples under several penalties. Arguments as for `fit_head`; `rows` int64 [m] are the examples
    to fit to, None for all.

    Each search starts where the last one ended: from large penalties to small ones this takes a quarter of the time.

    Beyond LARGE logits neither these nor labels as rows of zeros and ones are ever whole in memory: a block of examples is
    centred, multiplied and added up at a time, in float32, on a GPU where `device` lets it. Memory is that of `vectors`, and 16 MB a
    processor.
    """

    @one_thread(BLAS)
    def __init__(
        self,
        vectors: F32,
        labels: I64 | F64,
        *,
        classes: int,
        mean: F32,
        rows: I64 | None = None,
        start: F64 | None = None,
        importance: F64 | None = None,
        device: str | None = "cpu",
    ) -> None:
        self._classes, self._mean, self._device = classes, mean, device
        self.weights = start  # where the next search begins, of points that are centred and rescaled
        self._axes: F64 | None = None
        self._points: F64 | None = None
        examples = len(labels) if rows is None else len(rows)
        self._labels = labels if rows is None else labels[rows]
        self._importance = importance
        if importance is not None:
            counted = importance if rows is None else importance[rows]
            self._importance = counted / max(float(counted.mean()), 1e-300)
        if examples * classes > LARGE and examples >= vectors.shape[1]:
            self._vectors, self._rows, self._centre = vectors, rows, mean.astype(np.float32)
            self._scale = 1.0  # so that lengths are those of the centred vectors
            length = sum(
                float(np.linalg.norm(self._block(slice(start, start + _BLOCK)).astype(np.float64), axis=1).sum())
                for start in range(0, examples, _BLOCK)
            )
            self._scale = 1.0 / max(length / examples, 1e-9)
            return
        centred = (vectors if rows is None else vectors[rows]).astype(np.float64) - mean
        self._scale = 1.0 / max(float(np.linalg.norm(centred, axis=1).mean()), 1e-9)
        self._points = centred * self._scale
        if 0 < len(centred) < centred.shape[1]:
            # The best weights lie in the span of the examples: fewer numbers to find, the same result.
            self._axes, triangle = np.linalg.qr(self._points.T)
            self._points = np.ascontiguousarray(triangle.T)

    def head(self, penalty: float, *, steps: int = 300, settled: float = 0.0) -> Head:
        """The head under `penalty`, after at most `steps` steps, or when ten steps bring less than the share `settled` of the loss."""
        if self._points is not None:
            weights = softmax_regression(
                self._points,
                self._labels,
                self._classes,
                penalty=penalty,
                steps=steps,
                settled=settled,
                start=self.weights,
                importance=self._importance,
            )
        else:
            weights = self._large(penalty, steps, settled)
        self.weights = weights
        weight = weights[:-1] if self._axes is None else self._axes @ weights[:-1]
        return Head(
            self._mean.astype(np.float32), (weight * self._scale).astype(np.float32), weights[-1].astype(np.float32)
        )

    def _large(self, penalty: float, steps: int, settled: float) -> F64:
        """The weights of a search block by block: on the GPU, or where there is none, or its memory ends, on the CPU."""
        where = gpu_of(self._device)
        if where is not None:
            try:
                return device_regression(
                    self._block, self._labels, self._classes, self._vectors.shape[1], where=where, penalty=penalty,
                    steps=steps, settled=settled, start=self.weights, importance=self._importance,
                )  # fmt: skip
            except (RuntimeError, MemoryError) as err:
                if not out_of_memory(err):
                    raise
            release_memory(where.type)
        return blocked_regression(
            self._block, self._labels, self._classes, self._vectors.shape[1], penalty=penalty, steps=steps,
            settled=settled, start=self.weights, importance=self._importance,
        )  # fmt: skip

    def _block(self, some: slice) -> F32:
        """Centred and rescaled examples of a slice, float32 [m, d]."""
        block = self._vectors[some if self._rows is None else self._rows[some]] - self._centre
        return np.asarray(block * np.float32(self._scale), np.float32)
