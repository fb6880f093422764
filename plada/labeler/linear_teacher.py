"""The linear teacher: a softmax head on the index's own embeddings."""

import numpy as np

from plada.common.arrays import F32
from plada.common.statistics import accuracy
from plada.labeler.calibration import fit_temperature, log_likelihood
from plada.labeler.embedded_target import EmbeddedTarget
from plada.labeler.splits import stratified
from plada.labeler.teacher import VECTORS, Teacher
from plada.networks.linear_head import HeadFitter, fit_head
from plada.retrieval.index import Index

CROSS_PARTS = 5
CROSS_PENALTIES = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6)  # falling: each search begins where the last one ended
_CROSS_STEPS = 80  # of a search in a part: enough to tell penalties apart (docs/log.md)
_WORSE = 2  # penalties in a row below the best, after which smaller ones, the slowest, are not tried


def train_linear(index: Index, classes: int, embedded: EmbeddedTarget, seed: int) -> tuple[Teacher, float, F32]:
    """(teacher, its penalty, held-out logits): a head on the index's embeddings, trained on train and validation images.

    The penalty is the one under which five heads of four fifths each are right most often on the other fifth (equals: the
    likeliest, then the larger). The held-out logits float32 [n, classes] are of all these images, each by a head that has
    not seen it. They serve for calibration and for an accuracy with a narrow interval: validation splits are small.
    """
    known = embedded.known
    place = stratified(known.labels, CROSS_PARTS, seed=seed)
    parts = [
        (held, HeadFitter(known.vectors[~held], known.labels[~held], classes=classes, mean=index.mean))
        for held in (place == part for part in range(CROSS_PARTS))
        if held.any() and not held.all()
    ]
    best: tuple[float, float, float] | None = None
    best_logits = np.zeros((len(known.labels), classes), np.float32)
    worse = 0
    for penalty in CROSS_PENALTIES:
        logits = np.zeros_like(best_logits)
        for held, fitting in parts:
            logits[held] = fitting.head(penalty, steps=_CROSS_STEPS).logits(known.vectors[held])
        likelihood = log_likelihood(logits, known.labels, fit_temperature(logits, known.labels))
        judged = accuracy(logits, known.labels), likelihood, penalty
        worse = worse + 1 if best is not None and judged[0] < best[0] else 0
        if best is None or judged > best:
            best, best_logits = judged, logits
        if worse == _WORSE:
            break
    assert best is not None
    head = fit_head(known.vectors, known.labels, classes=classes, mean=index.mean, penalty=best[2])
    return Teacher(kind="linear", classes=classes, needs=VECTORS, logits=head.logits, head=head), best[2], best_logits
