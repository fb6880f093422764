"""The linear teacher: a softmax head on the index's own embeddings."""

from collections.abc import Sequence

import numpy as np

from plada.common.arrays import F32, I64
from plada.common.progress import Report, Tracker, silent
from plada.common.statistics import accuracy, class_ranks
from plada.labeler.calibration import fit_temperature, log_likelihood
from plada.labeler.embedded_target import EmbeddedTarget
from plada.labeler.splits import HeldOut, stratified
from plada.labeler.teacher import VECTORS, Teacher
from plada.networks.linear_head import SETTLED, HeadFitter, fit_head
from plada.retrieval.index import Index

CROSS_PARTS = 5
CROSS_PENALTIES = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6)  # falling: each search begins where the last one ended
CROSS_STEPS = 80  # of a search in a part: enough to tell penalties apart (docs/log.md)
SAMPLE = 1 << 25  # logits of the images that a penalty is searched on, at most
ONE_PART = 1 << 21  # logits of these images beyond which one part is held out, not each in turn: it is large enough
_A_CLASS = 10  # images of a class that a penalty is searched on, at least
_WORSE = 2  # penalties in a row below the best, after which smaller ones, the slowest, are not tried


def train_linear(
    index: Index,
    classes: int,
    embedded: EmbeddedTarget,
    seed: int,
    report: Report = silent,
    *,
    device: str | None = "cpu",
) -> tuple[Teacher, float, HeldOut]:
    """(teacher, its penalty, held-out logits): a head on the index's embeddings, trained on train and validation images.

    Large fits may run on `device`, as in `fit_head`. Penalty and held-out logits are those of `cross_validate`. The logits serve for calibration and for an accuracy with a
    narrow interval: validation splits are small.
    """
    known = embedded.known
    penalty, held_out = cross_validate(
        known.vectors, known.labels, classes=classes, mean=index.mean, seed=seed, steps=CROSS_STEPS, device=device,
        report=report,
    )  # fmt: skip
    tracker = Tracker("teacher: fit", 1, report)
    tracker.advance(0)
    head = fit_head(known.vectors, known.labels, classes=classes, mean=index.mean, penalty=penalty, device=device)
    tracker.advance()
    return Teacher(kind="linear", classes=classes, needs=VECTORS, logits=head.logits, head=head), penalty, held_out


def cross_validate(
    vectors: F32,
    labels: I64,
    *,
    classes: int,
    mean: F32,
    seed: int,
    parts: int = CROSS_PARTS,
    penalties: Sequence[float] = CROSS_PENALTIES,
    steps: int = CROSS_STEPS,
    device: str | None = "cpu",
    report: Report = silent,
) -> tuple[float, HeldOut]:
    """(penalty, held-out logits) of heads on vectors [n, d] with labels [n].

    The penalty is the one under which heads of all parts but one are right most often on that one (equals: the likeliest,
    then the larger). Each part is held out in turn; of many images (ONE_PART) the first alone is, and every other
    penalty is tried; of very many only those that `searched` draws are looked at. The penalty that n images need falls as 1 / n (it is a prior on the weights), so that of
    a sample is divided accordingly. The only image of a class is in no part: a head that has not seen it does not know the class.
    """
    rows = searched(labels, classes, seed)
    place = stratified(labels[rows], parts, seed=seed)
    single = np.bincount(labels, minlength=classes)[labels[rows]] == 1
    masks = [held for held in (~single & (place == part) for part in range(parts)) if held.any() and not held.all()]
    if not masks:  # no class has two images: nothing tells penalties apart
        return penalties[0], HeldOut(rows[:0], np.zeros((0, classes), np.float32))
    settled = 0.0
    if len(rows) * classes > ONE_PART:
        masks, penalties, settled = masks[:1], penalties[::2], SETTLED
    judged_rows = np.flatnonzero(np.any(masks, axis=0))
    wanted = labels[rows[judged_rows]]
    fitters = [
        (np.searchsorted(judged_rows, np.flatnonzero(held)), rows[held],
         HeadFitter(vectors, labels, classes=classes, mean=mean, rows=rows[~held], device=device))
        for held in masks
    ]  # fmt: skip
    best: tuple[float, float, float] | None = None
    best_logits = np.zeros((len(judged_rows), classes), np.float32)
    worse = 0
    tracker = Tracker("teacher: penalty", len(penalties) * len(fitters), report)
    tracker.advance(0)
    for penalty in penalties:
        logits = np.zeros_like(best_logits)
        for at, held_rows, fitter in fitters:
            logits[at] = fitter.head(penalty, steps=steps, settled=settled).logits(vectors[held_rows])
            tracker.advance()
        likelihood = log_likelihood(logits, wanted, fit_temperature(logits, wanted))
        judged = accuracy(logits, wanted), likelihood, penalty
        worse = worse + 1 if best is not None and judged[0] < best[0] else 0
        if best is None or judged > best:
            best, best_logits = judged, logits
        if worse == _WORSE:
            break
    assert best is not None
    tracker.finish()
    return best[2] * (len(rows) / len(labels)), HeldOut(rows[judged_rows], best_logits)


def searched(labels: I64, classes: int, seed: int) -> I64:
    """The rows, rising, of the images that a penalty is searched on: all, or where they have more than SAMPLE logits as many of
    each class, drawn at random, as have about SAMPLE logits together; at least _A_CLASS of each."""
    if len(labels) * classes <= SAMPLE:
        return np.arange(len(labels))
    order = np.random.default_rng([seed, 6]).permutation(len(labels))
    kept = order[class_ranks(labels[order]) < max(_A_CLASS, SAMPLE // classes**2)]
    return np.sort(kept)
