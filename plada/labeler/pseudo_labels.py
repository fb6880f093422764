"""Pseudo-labels of a reference, and the pass of a teacher that makes them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from plada.common.arrays import F32, I64
from plada.errors import DataError
from plada.labeler.scores import SCORES


@dataclass(frozen=True, slots=True)
class PseudoLabels:
    """What a teacher says of the readable images of a reference: a label and scores of each.

    positions int64 [n] (rising), labels int64 [n], scores: name -> float32 [n]. `whole` int64 [classes] counts the labels
    over the whole reference where the rows are only a shortlist of it.
    """

    positions: I64
    labels: I64
    scores: Mapping[str, F32]
    classes: int
    whole: I64 | None = None

    def __len__(self) -> int:
        return len(self.positions)

    def where(self, kept: npt.NDArray[np.bool_]) -> "PseudoLabels":
        """The rows that are `kept`, bool [n]."""
        scores = {name: values[kept] for name, values in self.scores.items()}
        return replace(self, positions=self.positions[kept], labels=self.labels[kept], scores=scores)

    def counts(self) -> I64:
        """Rows of each class, int64 [classes]: what can be chosen."""
        return np.bincount(self.labels, minlength=self.classes).astype(np.int64)

    def population(self) -> I64:
        """Pseudo-labels of each class in the whole reference, int64 [classes]: the paper's N_c."""
        return self.counts() if self.whole is None else self.whole


def pseudo_label(
    blocks: Iterable[tuple[I64, npt.NDArray[Any]]],
    logits_of: Callable[[npt.NDArray[Any]], F32],
    *,
    classes: int,
    advance: Callable[[int], None] = lambda _: None,
) -> PseudoLabels:
    """One pass of a teacher over the reference; `blocks` gives (positions [m], inputs [m, ...]).

    Of each image a label and its scores are kept, so memory does not grow with the classes.

    Raises:
        DataError: the teacher gave logits that are not finite, or of another shape; no image at all.
    """
    positions: list[I64] = []
    labels: list[I64] = []
    scores: dict[str, list[F32]] = {name: [] for name in SCORES}
    for where, inputs in blocks:
        if not len(where):
            continue
        logits = logits_of(inputs)
        if logits.shape != (len(where), classes) or not np.isfinite(logits).all():
            raise DataError(f"teacher: logits of shape {logits.shape}, expected finite ({len(where)}, {classes})")
        positions.append(where)
        labels.append(logits.argmax(axis=1))
        for name, score in SCORES.items():
            scores[name].append(score(logits))
        advance(len(where))
    if not positions:
        raise DataError("teacher: the reference has no readable image")
    joined = {name: np.concatenate(parts) for name, parts in scores.items()}
    return PseudoLabels(np.concatenate(positions), np.concatenate(labels), joined, classes)
