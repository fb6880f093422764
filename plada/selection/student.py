"""A small linear student: how rules find out what students learn from a choice."""

import numpy as np

from plada.common.arrays import I64
from plada.labeler.pseudo_labels import PseudoLabels
from plada.networks.linear_head import STUDENT_PENALTY, Head, fit_head
from plada.selection.rules.rule import Context


def small_student(labels: PseudoLabels, context: Context, rows: I64, *, steps: int = 40) -> Head:
    """A linear student of some rows of the pseudo-labels, on centred embeddings, after at most so many steps."""
    vectors = context.centred(labels.positions[rows])
    return fit_head(
        vectors,
        labels.labels[rows],
        classes=labels.classes,
        mean=np.zeros(vectors.shape[1], np.float32),
        penalty=STUDENT_PENALTY,
        steps=steps,
    )
