"""The student `linear`: a linear head on embeddings.

On the client's own index training takes seconds and no image is read. With an encoder alone the payload's images are embedded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from plada.common.arrays import F32, F64, I64, U8
from plada.common.progress import Clock, Report, Tracker
from plada.common.summary import shared_fields
from plada.encoders.encoder import Encoder, load_encoder, reload_encoder
from plada.encoders.spec import EncoderSpec
from plada.errors import DataError, RequestError, ResourceError, UnknownName, Unreadable
from plada.labeler.calibration import MIN_IMAGES, fit_calibration
from plada.networks.linear_head import LARGE, STUDENT_PENALTY, Head, fit_head
from plada.networks.network import NetworkSpec, read_safetensors
from plada.networks.process_group import ProcessGroup
from plada.payload.calibration import (
    LABELLED_SET,
    OWN_PICTURES,
    Calibration,
    calibration_of,
)
from plada.payload.payload import Payload
from plada.retrieval.index import Index, indexes, indexes_that, open_index
from plada.sources.decode import View, decode
from plada.trainer.model_file import read_calibration, read_card, save_model
from plada.trainer.own_pictures import ENOUGH, held_out_logits, importance
from plada.trainer.payload_images import PayloadImages
from plada.trainer.run import LINEAR, TrainingResult, TrainingRun

_BATCH = 64
_CALIBRATED, _STEPS = 2048, 120  # images of the labelled set that a student is calibrated on, and steps of a fit for it
MAX_TARGETS = 1 << 30  # numbers of the table of images and classes; four such are held, of 8 bytes each


@dataclass(frozen=True, slots=True)
class LinearStudent:
    """A head on an encoder's embeddings, with its class names, the identity of the run that made it, and what its logits mean."""

    encoder: Encoder
    head: Head
    classes: tuple[str, ...]
    run: Mapping[str, Any]
    calibration: Calibration | None = None

    @property
    def view(self) -> View:
        """How the encoder wants its images."""
        return self.encoder.view

    def logits(self, pixels: U8) -> F32:
        """Logits float32 [n, classes] of pixels uint8 [n, size, size, 3] as `view` makes them."""
        return self.head.logits(self.encoder.encode(pixels))

    def save(self, path: Path) -> None:
        """Write head and card as safetensors; the encoder is named in the card, not stored."""
        import torch

        state = {name: torch.from_numpy(np.array(getattr(self.head, name))) for name in ("mean", "weight", "bias")}
        encoder = {**asdict(self.encoder.config), "self_check": self.encoder.self_check()}
        card = {"network": LINEAR, "classes": self.classes, "run": dict(self.run), "encoder": encoder}
        if self.calibration is not None:
            card["calibration"] = self.calibration.to_dict()
        save_model(path, state, card)


def load_linear_student(path: Path, *, weights: str | Path | None, device: str | None) -> LinearStudent:
    """A linear student as it was saved; `weights` is where its encoder's file is now, if it has moved. Raises
    DataError: damaged. ReferenceMismatch: the encoder is not the same any more. RequestError: its weights are gone."""
    card = read_card(path)
    state = read_safetensors(path)
    if set(state) != {"mean", "weight", "bias"}:
        raise DataError(f"{path}: not a linear student (it holds {', '.join(sorted(state))})")
    head = Head(**{name: tensor.numpy() for name, tensor in state.items()})
    outputs = [array.shape[axis] if array.ndim > axis else 0 for array, axis in ((head.weight, -1), (head.bias, 0))]
    if set(outputs) != {len(card["classes"])}:
        raise DataError(
            f"{path}: its head has {outputs[0]} outputs and its card names {len(card['classes'])} classes. Train it again"
        )
    encoder = reload_encoder(card["encoder"], weights=weights, device=device)
    return LinearStudent(encoder, head, tuple(card["classes"]), card.get("run", {}), read_calibration(path, card))


def encoder_spec(student: NetworkSpec, encoder: str | NetworkSpec | None) -> NetworkSpec | None:
    """The encoder of a student. Where only its name is given, the student's own options are the encoder's: a linear
    student has no other use for weights."""
    return replace(student, name=encoder) if isinstance(encoder, str) else encoder


def train_linear(
    run: TrainingRun, images: PayloadImages, group: ProcessGroup, clock: Clock, report: Report
) -> TrainingResult:
    """A multinomial logistic regression on embeddings of a payload's images.

    The only random choice is soft labels that are drawn: once for each image, by the run's seed.

    Raises:
        RequestError: options that a linear student does not take; the output holds another run. ResourceError: too many images
            and classes. Others as `embed_payload`.
    """
    if group.size > 1 or run.recipe or run.options.log:
        what = "torchrun" if group.size > 1 else "--recipe" if run.recipe else "--log"
        raise RequestError(f"student {LINEAR}: is fitted at once, in one process; leave out {what}")
    check_targets(len(run.payload), len(run.payload.classes))
    options = run.encoder or run.student
    with clock("read"):
        embedded = embed_payload(
            run.payload, images, run.encoder.name if run.encoder is not None else None, options, device=group.device,
            home=run.home, report=report,
        )  # fmt: skip
    count = len(embedded.labels)
    identity = {**run.identity(images), "encoder": embedded.encoder.config.settings(), "embeddings": embedded.source}
    if run.finished(identity) is not None and run.out is not None:
        trained = load_linear_student(run.out, weights=options.weights, device=group.device)
        known = len(run.own) if run.own is not None else 0
        return TrainingResult(trained, count, 1, finished_before=True, embeddings=embedded.source, own=known)
    examples = Examples(embedded, run, device=group.device)
    if run.own is not None:
        with clock("read"):
            pixels, own_labels = run.own.load(embedded.encoder.view, report)
            examples = Examples(embedded, run, embedded.encoder.encode(pixels), own_labels, device=group.device)
    with clock("train"):
        tracker = Tracker("train: fit", 1, report)
        tracker.advance(0)
        head = examples.fit()
        tracker.advance()
        calibration = _calibrate(examples, run, report)
        trained = LinearStudent(embedded.encoder, head, run.payload.classes, {**identity, "images": count}, calibration)
    own = len(examples.own_labels)
    remarks = tuple(filter(None, [embedded.encoder.size_note]))
    return TrainingResult(
        trained, count, 1, finished_before=False, embeddings=embedded.source, own=own, remarks=remarks
    )


class Examples:
    """What a linear student learns from: embeddings of a payload's images with their labels, hard or soft, and of the client's own
    pictures float32 [m, d] with labels int64 [m]."""

    def __init__(
        self,
        embedded: "EmbeddedPayload",
        run: TrainingRun,
        own: F32 | None = None,
        own_labels: I64 | None = None,
        *,
        device: str | None = "cpu",
    ) -> None:
        self.device = device
        soft, self.classes = run.soft_labels, len(run.payload.classes)
        self.labels, self.mean = embedded.labels, embedded.mean
        self.targets = embedded.labels if soft is None else soft.targets(embedded.labels, run.seed)
        self.sent, self.encoder = embedded.vectors, embedded.encoder
        self.own = np.zeros((0, embedded.vectors.shape[1]), np.float32) if own is None else own
        self.own_labels = np.zeros(0, np.int64) if own_labels is None else own_labels

    def fit(
        self,
        *,
        sent: I64 | None = None,
        own: I64 | None = None,
        steps: int = 300,
    ) -> Head:
        """A head fitted to the payload's images at rows `sent` and the own pictures at rows `own`; None for all."""
        vectors, labels, targets = self.sent, self.labels, self.targets
        if sent is not None:
            vectors, labels, targets = vectors[sent], labels[sent], targets[sent]
        mine, own_labels = (self.own, self.own_labels) if own is None else (self.own[own], self.own_labels[own])
        counts: F64 | None = None
        if len(own_labels):
            counts = importance(labels, own_labels, self.classes)
            added = own_labels if targets.ndim == 1 else np.eye(self.classes)[own_labels]
            vectors, targets = np.concatenate([vectors, mine]), np.concatenate([targets, added])
        return fit_head(
            vectors, targets, classes=self.classes, mean=self.mean, penalty=STUDENT_PENALTY, steps=steps, importance=counts,
            device=self.device,
        )  # fmt: skip


def _calibrate(examples: Examples, run: TrainingRun, report: Report) -> Calibration | None:
    """What the student's logits mean: measured on the client's own pictures where there are enough, else as the payload says for this
    encoder, else measured on the payload's images, held out in parts. None with too many classes for that."""
    Tracker("train: calibrate", None, report).say("the student is fitted again without some of its images")
    if len(examples.own_labels) >= ENOUGH:
        logits = held_out_logits(
            lambda rows: examples.fit(own=rows, steps=_STEPS).logits, examples.own, examples.own_labels,
            examples.classes,
        )  # fmt: skip
        return fit_calibration(logits, examples.own_labels, source=OWN_PICTURES, spreads=True)
    noted = calibration_of(run.payload.notes, examples.classes)
    whole = run.payload.segments is None or run.payload.segments[0] == run.payload.segments[1]
    if noted is not None and noted.encoder == examples.encoder.config.short_id() and whole:
        return noted
    rows = np.arange(0, len(examples.labels), -(-len(examples.labels) // _CALIBRATED))
    if len(rows) < MIN_IMAGES or len(rows) * examples.classes > LARGE:
        return None
    logits = held_out_logits(
        lambda some: examples.fit(sent=rows[some], steps=_STEPS).logits, examples.sent[rows],
        examples.labels[rows], examples.classes,
    )  # fmt: skip
    return fit_calibration(logits, examples.labels[rows], source=LABELLED_SET, spreads=True)


def check_targets(images: int, classes: int) -> None:
    """Refuse a table of so many images and classes, before any work: a few bytes of a payload can name many of both.

    Raises:
        ResourceError: it takes more than MAX_TARGETS numbers.
    """
    if images * classes > MAX_TARGETS:
        raise ResourceError(
            f"student {LINEAR}: {images} images of {classes} classes are a table of {images * classes} numbers; expected at most "
            f"{MAX_TARGETS}. Train a network with --expand 0: it takes a batch at a time"
        )


@dataclass(frozen=True, slots=True)
class EmbeddedPayload:
    """Vectors float32 [k, d] and labels [k] of a payload's images, the mean to centre on, and the encoder; `source` names
    the index or encoder that they are from."""

    vectors: F32
    labels: I64
    mean: F32
    encoder: Encoder
    source: str


def embed_payload(
    payload: Payload,
    images: PayloadImages,
    name: str | None,
    options: NetworkSpec,
    *,
    device: str | None,
    home: Path,
    report: Report,
) -> EmbeddedPayload:
    """Embeddings of a payload's images: from an index of these images, called `name`, or None for the only one that fits; else
    by the encoder called `name`, loaded with `options`.

    Raises:
        UnknownName: neither an index nor an encoder. RequestError: none is named, and no index fits or several do.
        ReferenceMismatch: the index is of other images. DataError: none of the images can be read.
    """

    def fits(opened: Index) -> bool:
        return bool(opened.info["content_id"] == images.manifest.content_id.hex())

    names = indexes(home)
    if name is None or name in names:
        named = [open_index(name, home=home)] if name else []
        fitting = list(filter(fits, named) if name else indexes_that(fits, home))
        index = only_index(fitting, f"student {LINEAR}")
        if index is None:
            what = f"index '{name}' is of other images" if name else "no index here is of these images"
            raise RequestError(
                f"student {LINEAR}: {what}. Name an encoder instead (--encoder timm:... --weights FILE), or index the reference"
            )
        positions, labels = with_embedding(index, payload)
        encoder = index.encoder(options.weights, device)
        return EmbeddedPayload(index.vectors(positions).astype(np.float32), labels, index.mean, encoder, index.name)
    if name != "gradients" and not name.startswith(("timm:", "open_clip:")):
        raise UnknownName("index or encoder", name, [*names, "gradients", "timm:ARCH", "open_clip:ARCH/TAG"])
    spec = EncoderSpec(**shared_fields(options, NetworkSpec) | {"name": name})
    encoder = load_encoder(spec, device=device)
    if encoder.size_note:
        Tracker("load", None, report).say(encoder.size_note)
    vectors, labels = _embed(payload, images, encoder, report)
    return EmbeddedPayload(vectors, labels, vectors.mean(axis=0), encoder, name)


def only_index(fitting: Sequence[Index], purpose: str) -> Index | None:
    """The only one of several indexes; None where there is none. Raises RequestError: there are more."""
    if len(fitting) > 1:
        names = ", ".join(f"{index.name} ({index.info['encoder']['name']})" for index in fitting)
        raise RequestError(f"{purpose}: several indexes here are of these images: {names}. Name one with --encoder")
    return next(iter(fitting), None)


def with_embedding(index: Index, payload: Payload) -> tuple[I64, I64]:
    """Positions and labels of the payload's images that the index could read."""
    if not int(index.info["unreadable"]):
        return payload.positions, payload.labels
    kept = np.concatenate([np.intersect1d(positions, payload.positions) for positions, _ in index.scan()])
    if not len(kept):
        raise DataError(f"index '{index.name}': none of the payload's {len(payload)} images has an embedding")
    return kept, payload.labels[np.searchsorted(payload.positions, kept)]


def _embed(payload: Payload, images: PayloadImages, encoder: Encoder, report: Report) -> tuple[F32, I64]:
    tracker = Tracker("embed", len(payload), report)
    vectors, labels = [], []
    for start in range(0, len(payload), _BATCH):
        pixels, kept = [], []
        for position, label in zip(payload.positions[start : start + _BATCH], payload.labels[start:], strict=False):
            try:
                pixels.append(encoder.view.of(decode(images.read(int(position)))))
                kept.append(label)
            except Unreadable:
                continue
        if pixels:
            vectors.append(encoder.encode(np.stack(pixels)))
            labels += kept
        tracker.advance(min(_BATCH, len(payload) - start))
    images.refuse_lost()
    if not labels:
        raise DataError(f"{images.location}: none of the {len(payload)} images can be read")
    return np.concatenate(vectors), np.asarray(labels, np.int64)
