"""The linear teacher: a head on the index's own embeddings, and the reference labelled in one pass over the table."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from plada.common.progress import Report, Tracker
from plada.common.statistics import accuracy
from plada.encoders.encoder import Encoder
from plada.errors import DataError
from plada.labeler.calibration import fit_temperature, log_likelihood
from plada.labeler.embedding_cache import encoder_identity, load_embeddings, save_embeddings, split_digest
from plada.labeler.pseudo_labels import PseudoLabels, pseudo_label
from plada.labeler.splits import stratified
from plada.labeler.teacher import VECTORS, Teacher
from plada.networks.linear_head import F32, HeadFitter, fit_head, fit_linear_teacher
from plada.retrieval.index import Index
from plada.sources.decode import load_pixels
from plada.sources.targets.target import Split, Target

CROSS_PARTS = 5
CROSS_PENALTIES = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6)  # falling: each search begins where the last one ended
_CROSS_STEPS = 80  # of a search in a part: enough to tell penalties apart (docs/log.md)
_WORSE = 2  # penalties in a row below the best, after which smaller ones, the slowest, are not looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherReport:
    """Kind of teacher and its accuracy on the target's test and validation images (None where there are none), each with
    its 95 % interval. For a linear teacher `validation_accuracy` is cross-validated over train and validation images.
    `temperature` is what its logits are divided by to be honest odds; `members` are the teachers of a vote."""

    kind: str
    accuracy: float | None
    validation_accuracy: float | None
    interval: tuple[float, float] | None = None
    validation_interval: tuple[float, float] | None = None
    validation_images: int = 0
    temperature: float = 1.0
    members: "tuple[TeacherReport, ...]" = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class EmbeddedSplit:
    """Readable images of a split: vectors float32 [n, d], labels int64 [n]; `left_out` could not be read; `readable`
    bool [images of the split] says which they are, None where nobody asked."""

    vectors: F32
    labels: npt.NDArray[np.int64]
    left_out: int
    readable: npt.NDArray[np.bool_] | None = None

    def and_more(self, more: "EmbeddedSplit") -> "EmbeddedSplit":
        """Both one after the other."""
        return EmbeddedSplit(
            np.concatenate([self.vectors, more.vectors]),
            np.concatenate([self.labels, more.labels]),
            self.left_out + more.left_out,
        )


@dataclass(frozen=True, slots=True)
class EmbeddedTarget:
    """The target's splits as the index's encoder sees them; `test` is None where the target has none."""

    train: EmbeddedSplit
    validation: EmbeddedSplit
    test: EmbeddedSplit | None


def embed_split(
    encoder: Encoder, split: Split, *, stage: str, report: Report, batch_size: int = 64, cache: Path | None = None
) -> EmbeddedSplit:
    """Embeddings of a target's images by the index's encoder; taken from the folder `cache`, or kept there, if given.

    Raises:
        DataError: no image of the split can be read.
    """
    digest, path = "", None
    if cache is not None and len(split):
        digest = split_digest(split, encoder_identity(encoder))
        path = cache / f"{digest[:32]}.npz"
        found = load_embeddings(path, digest, images=len(split), dimension=encoder.config.dimension)
        if found is not None:
            return EmbeddedSplit(found[0], split.labels[found[1]], int((~found[1]).sum()), found[1])
    vectors: list[F32] = [np.zeros((0, encoder.config.dimension), np.float32)]
    kept: list[npt.NDArray[np.bool_]] = []
    tracker = Tracker(stage, len(split), report)
    for start in range(0, len(split), batch_size):
        pixels, readable = load_pixels(
            split.collection.read, split.positions[start : start + batch_size], encoder.view, stage=stage
        )
        kept.append(readable)
        if readable.any():
            vectors.append(encoder.encode(pixels[readable]))
        tracker.advance(len(readable))
    mask = np.concatenate(kept) if kept else np.zeros(0, np.bool_)
    if len(split) and not mask.any():
        raise DataError(f"{split.collection.location}: none of {len(split)} images can be read")
    made = np.concatenate(vectors)
    if path is not None:
        save_embeddings(path, digest, made, mask)
    return EmbeddedSplit(made, split.labels[mask], int((~mask).sum()), mask)


def check_every_class(target: Target, train: EmbeddedSplit) -> None:
    """Refuse a target that no teacher can learn whole.

    Raises:
        DataError: a class without a readable training image.
    """
    if not len(train.labels):
        raise DataError(
            f"target {target.name}: has no training images, and this teacher learns from them. Take --teacher zeroshot, or "
            "a target with images"
        )
    missing = np.flatnonzero(np.bincount(train.labels, minlength=len(target.classes)) == 0)
    if len(missing):
        raise DataError(
            f"target {target.name}: class '{target.classes[missing[0]]}' has no readable training image. "
            "Add one, or leave the class out"
        )


def linear_teacher(
    index: Index,
    target: Target,
    train: EmbeddedSplit,
    validation: EmbeddedSplit,
    test: EmbeddedSplit | None,
    *,
    report: Report,
) -> tuple[PseudoLabels, TeacherReport]:
    """Train the head on `train`, choose its penalty on `validation`, and label every image of the index."""
    classes = len(target.classes)
    head, judged = fit_linear_teacher(
        (train.vectors, train.labels), (validation.vectors, validation.labels), classes=classes, mean=index.mean
    )
    tracker = Tracker("label", len(index), report)
    labels = pseudo_label(index.scan(), head.logits, classes=classes, advance=tracker.advance)
    tested = accuracy(head.logits(test.vectors), test.labels) if test is not None else None
    return labels, TeacherReport(kind="linear", accuracy=tested, validation_accuracy=judged)


def train_linear(
    index: Index, target: Target, train: EmbeddedSplit, validation: EmbeddedSplit, seed: int
) -> tuple[Teacher, float, F32]:
    """(teacher, its penalty, held logits): a head on the index's embeddings, trained on train and validation images.

    The penalty is the one under which five students of four fifths each are right most often on the other fifth (equals:
    the likeliest, then the larger). `held` float32 [n, c] are logits of all these images, each by a head that has not seen
    it, for calibration and for an accuracy with a narrow interval: validation splits are small.
    """
    known, classes = train.and_more(validation), len(target.classes)
    place = stratified(known.labels, CROSS_PARTS, seed=seed)
    parts = [
        (out, HeadFitter(known.vectors[~out], known.labels[~out], classes=classes, mean=index.mean))
        for out in (place == part for part in range(CROSS_PARTS))
        if out.any() and not out.all()
    ]
    best: tuple[float, float, float] | None = None
    held = np.zeros((len(known.labels), classes), np.float32)
    worse = 0
    for penalty in CROSS_PENALTIES:
        logits = np.zeros_like(held)
        for out, fitting in parts:
            logits[out] = fitting.head(penalty, steps=_CROSS_STEPS).logits(known.vectors[out])
        likely = log_likelihood(logits, known.labels, fit_temperature(logits, known.labels))
        found = accuracy(logits, known.labels), likely, penalty
        worse = worse + 1 if best is not None and found[0] < best[0] else 0
        if best is None or found > best:
            best, held = found, logits
        if worse == _WORSE:
            break
    assert best is not None
    head = fit_head(known.vectors, known.labels, classes=classes, mean=index.mean, penalty=best[2])
    return Teacher(kind="linear", classes=classes, needs=VECTORS, logits=head.logits, head=head), best[2], held
