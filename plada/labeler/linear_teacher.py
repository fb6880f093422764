"""The linear teacher: a softmax head on the index's own embeddings."""

import numpy as np

from plada.common.arrays import F32, I64
from plada.common.statistics import accuracy
from plada.labeler.calibration import fit_temperature, log_likelihood
from plada.labeler.embedded_target import EmbeddedTarget
from plada.labeler.splits import stratified
from plada.labeler.teacher import VECTORS, Teacher
from plada.networks.linear_head import HeadFitter, fit_head
from plada.retrieval.index import Index

CROSS_PARTS = 5
CROSS_PENALTIES = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6)  # falling: each search begins where the last one ended
CROSS_STEPS = 80  # of a search in a part: enough to tell penalties apart (docs/log.md)
_WORSE = 2  # penalties in a row below the best, after which smaller ones, the slowest, are not tried


def train_linear(index: Index, classes: int, embedded: EmbeddedTarget, seed: int) -> tuple[Teacher, float, F32]:
    """(teacher, its penalty, held-out logits): a head on the index's embeddings, trained on train and validation images.

    Penalty and held-out logits are those of `cross_validate`. The logits serve for calibration and for an accuracy with a
    narrow interval: validation splits are small.
    """
    known = embedded.known
    penalty, logits = cross_validate(known.vectors, known.labels, classes=classes, mean=index.mean, seed=seed)
    head = fit_head(known.vectors, known.labels, classes=classes, mean=index.mean, penalty=penalty)
    return Teacher(kind="linear", classes=classes, needs=VECTORS, logits=head.logits, head=head), penalty, logits


def cross_validate(
    vectors: F32, labels: I64, *, classes: int, mean: F32, seed: int, parts: int = CROSS_PARTS, steps: int = CROSS_STEPS
) -> tuple[float, F32]:
    """(penalty, held-out logits float32 [n, classes]) of heads on vectors [n, d] with labels [n].

    The penalty is the one under which heads of all parts but one are right most often on that one (equals: the likeliest,
    then the larger). The logits are of all images, each by a head that has not seen it.
    """
    place = stratified(labels, parts, seed=seed)
    fitters = [
        (held, HeadFitter(vectors[~held], labels[~held], classes=classes, mean=mean))
        for held in (place == part for part in range(parts))
        if held.any() and not held.all()
    ]
    best: tuple[float, float, float] | None = None
    best_logits = np.zeros((len(labels), classes), np.float32)
    worse = 0
    for penalty in CROSS_PENALTIES:
        logits = np.zeros_like(best_logits)
        for held, fitter in fitters:
            logits[held] = fitter.head(penalty, steps=steps).logits(vectors[held])
        likelihood = log_likelihood(logits, labels, fit_temperature(logits, labels))
        judged = accuracy(logits, labels), likelihood, penalty
        worse = worse + 1 if best is not None and judged[0] < best[0] else 0
        if best is None or judged > best:
            best, best_logits = judged, logits
        if worse == _WORSE:
            break
    assert best is not None
    return best[2], best_logits
