"""How sure a teacher is of an image: logits to one number, higher is kept first."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
Score = Callable[[F32], F32]


def energy(logits: F32) -> F32:
    """log sum exp of the logits [n, c]: the paper's energy (eq. 5) with its sign turned, so that high is kept."""
    peak = logits.max(axis=1)
    return np.asarray(peak + np.log(np.exp(logits - peak[:, None]).sum(axis=1)), np.float32)


def entropy(logits: F32) -> F32:
    """Negative Shannon entropy of the softmax (eq. 9, T = 1), in nats."""
    shifted = logits - energy(logits)[:, None]
    return np.asarray((np.exp(shifted) * shifted).sum(axis=1), np.float32)


def margin(logits: F32) -> F32:
    """Largest logit less the second largest; with one class, the logit itself."""
    if logits.shape[1] == 1:
        return logits[:, 0]
    top = np.partition(logits, -2, axis=1)[:, -2:]
    return np.asarray(top[:, 1] - top[:, 0], np.float32)


SCORES: Mapping[str, Score] = MappingProxyType({"energy": energy, "entropy": entropy, "margin": margin})


@dataclass(frozen=True, slots=True)
class PseudoLabels:
    """What a teacher says of the readable images of a reference, and nothing of the size of its logits.

    positions int64 [n] (rising), labels int64 [n], scores: name -> float32 [n].
    """

    positions: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    scores: Mapping[str, F32]
    classes: int

    def __len__(self) -> int:
        return len(self.positions)

    def counts(self) -> npt.NDArray[np.int64]:
        """Pseudo-labels of each class, int64 [classes]."""
        return np.bincount(self.labels, minlength=self.classes).astype(np.int64)
