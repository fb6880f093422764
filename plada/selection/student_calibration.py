"""The note that lets clients correct the class prior: a student like theirs, calibrated on the target's own images."""

from dataclasses import replace

import numpy as np

from plada.common.progress import Report, Tracker
from plada.encoders.encoder import config_from_json
from plada.errors import RequestError
from plada.labeler.calibration import MIN_IMAGES, fit_calibration
from plada.labeler.embedded_target import EmbeddedTarget
from plada.networks.linear_head import STUDENT_PENALTY, fit_head
from plada.payload.calibration import needs_shares, widest_note
from plada.payload.soft_labels import soft_labels_of
from plada.retrieval.embeddings import Vectors
from plada.selection.choose import Draft
from plada.selection.compose import Composer


def reserve_calibration(composer: Composer, embedded: EmbeddedTarget) -> Composer:
    """A composer whose payloads keep room for the note.

    Raises:
        RequestError: the target has too few images to measure a student on.
    """
    images, encoder = len(embedded.known.labels), config_from_json(composer.index.info["encoder"]).short_id()
    if images < MIN_IMAGES:
        raise RequestError(
            f"--calibration: target {composer.target.name} has {images} images to measure a student on; expected {MIN_IMAGES} or more. "
            "Leave it out"
        )
    classes = len(composer.target.classes)
    counts = np.bincount(embedded.known.labels, minlength=classes) + 1.0  # as fit_calibration counts
    room = widest_note(classes, encoder, images, both=needs_shares(counts / counts.sum()))
    return replace(composer, notes={**composer.notes, **room})


def calibrate(
    draft: Draft, composer: Composer, vectors: Vectors, embedded: EmbeddedTarget, budget: int, seed: int, report: Report
) -> Draft:
    """The draft with a true note in the place that was kept free: that of a linear student on the index's embeddings, trained on the
    draft's images and measured on the target's training and validation images. `vectors` gives embeddings of positions.

    Raises:
        RequestError: the note takes more room than was kept.
    """
    Tracker("calibrate", None, report).say("a student like the clients', on the target's own images")
    payload, index = draft.payload, composer.index
    soft = soft_labels_of(payload.notes, len(payload.classes))
    head = fit_head(
        vectors(payload.positions).astype(np.float32),
        payload.labels if soft is None else soft.targets(payload.labels, seed),
        classes=len(payload.classes), mean=index.mean, penalty=STUDENT_PENALTY,
    )  # fmt: skip
    known = embedded.known
    calibration = fit_calibration(
        head.logits(known.vectors), known.labels, encoder=config_from_json(index.info["encoder"]).short_id()
    )
    calibrated = replace(payload, notes={**payload.notes, **calibration.note()})
    size = composer.sender.size(calibrated)
    if size > budget:
        raise RequestError(f"--calibration: the file takes {size} of {budget} bytes with it. Raise --budget a little")
    trial = replace(draft.choice.trial, bytes=size)
    return replace(draft, payload=calibrated, choice=replace(draft.choice, trial=trial))
