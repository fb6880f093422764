"""Small linear students: how rules find out what students learn from a choice, and how they are judged."""

import numpy as np

from plada.common.arrays import F32, I64
from plada.labeler.pseudo_labels import PseudoLabels
from plada.networks.linear_head import STUDENT_PENALTY, Head, fit_head
from plada.selection.rules.rule import Context

STEPS = 40  # of training: enough to tell rules apart


def fit_student(
    points: F32,
    labels: I64,
    *,
    classes: int,
    penalty: float = STUDENT_PENALTY,
    steps: int = STEPS,
) -> Head:
    """A linear student of centred points [k, d] with labels [k], after at most so many steps."""
    zero = np.zeros(points.shape[1], np.float32)
    return fit_head(points, labels, classes=classes, mean=zero, penalty=penalty, steps=steps)


def small_student(labels: PseudoLabels, context: Context, rows: I64, *, steps: int = STEPS) -> Head:
    """A student of some rows of the pseudo-labels, on the context's own points."""
    points = context.centred(labels.positions[rows])
    return fit_student(points, labels.labels[rows], classes=labels.classes, steps=steps)
