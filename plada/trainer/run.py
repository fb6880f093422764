"""A training run: what is trained on what, whether its result is there already, and what comes of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from blake3 import blake3

from plada.common.arrays import F32, U8
from plada.errors import DataError, RequestError
from plada.networks.checkpoint import Checkpointer, check_same_run
from plada.networks.network import NetworkSpec
from plada.networks.process_group import ProcessGroup
from plada.payload.calibration import Calibration
from plada.payload.payload import Payload
from plada.payload.soft_labels import SoftLabels, soft_labels_of
from plada.sources.decode import View
from plada.trainer.evaluation import Evaluation
from plada.trainer.model_file import check_model, read_card
from plada.trainer.own_pictures import OwnPictures
from plada.trainer.payload_images import PayloadImages

if TYPE_CHECKING:
    from plada.trainer.expand import Expansion
    from plada.trainer.model import Model

LINEAR = "linear"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a training run resumes, and what it writes beside the model.

    Attributes:
        restart: Begin anew, whatever model or checkpoint is there.
        checkpoint_seconds: Time between two checkpoints; 0 writes one after every step.
        log: Where loss and learning rate go: a .csv file, or a folder for TensorBoard (needs the extra `logs`).
        threads: Of torch, and as many readers of images; None stands for OMP_NUM_THREADS, else for the processors that other
            work leaves free. A network's last digits depend on it.

    Examples:
        >>> import plada
        >>> run = plada.RunOptions(restart=True, threads=1)
        >>> plada.train("digits.plada", student="linear", out="anew.safetensors", run=run).epochs > 0
        True
    """

    restart: bool = False
    checkpoint_seconds: float = 60.0
    log: str | Path | None = None
    threads: int | None = None

    @property
    def log_path(self) -> Path | None:
        """`log` as a path."""
        return Path(self.log) if self.log is not None else None


class TrainedStudent(Protocol):
    """A trained model of any kind: its class names, how it wants its images, its logits, and what these mean (`calibration`)."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def view(self) -> View: ...

    @property
    def calibration(self) -> Calibration | None: ...

    def logits(self, pixels: U8) -> F32:
        """Logits float32 [n, classes] of pixels uint8 [n, size, size, 3] as `view` makes them."""
        ...

    def save(self, path: Path) -> None:
        """Write the model as safetensors, with a card that says how to read it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRun:
    """What is trained, on which labels, and where it goes.

    `labels` is the payload that is trained on: `payload` as it was sent, or with more images, then those of `expansion`; `own` are pictures of the
    client's, for the head. The options of an
    encoder are those of `encoder`.
    """

    payload: Payload
    labels: Payload
    expansion: "Expansion | None" = None
    own: OwnPictures | None = None
    student: NetworkSpec
    encoder: NetworkSpec | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    out: Path | None = None
    options: RunOptions = RunOptions()
    home: Path

    @property
    def soft_labels(self) -> SoftLabels | None:
        """The soft labels that the payload carries."""
        return soft_labels_of(self.payload.notes, len(self.payload.classes))

    def identity(self, images: PayloadImages) -> dict[str, Any]:
        """What makes two runs the same one, in plain values; each kind of student adds its own."""
        return {
            "student": self.student.name,
            "payload": payload_digest(self.payload),
            **({"expanded": self._expanded()} if self.labels is not self.payload else {}),
            **({"own": self.own.digest()} if self.own is not None else {}),
            "key_id": images.manifest.key_id.hex(),
            "content_id": images.manifest.content_id.hex(),
        }

    def _expanded(self) -> str:
        """Digest of the images that were added, and of what they are trained on."""
        answers = self.expansion.answers if self.expansion is not None else None
        whole = blake3(payload_digest(self.labels).encode())
        if answers is not None:
            whole.update(answers.rows.astype("<f2").tobytes())
        return whole.hexdigest(16)

    def finished(self, identity: Mapping[str, Any]) -> dict[str, Any] | None:
        """The card's identity of the finished model at `out`, if it is of this run; None where there is no model.
        Raises RequestError: another run's model, or something else, is there."""
        if self.out is None or self.options.restart or not self.out.exists():
            return None
        try:
            there = dict(read_card(self.out).get("run", {}))
            check_model(self.out)
        except DataError as err:
            raise RequestError(f"{err}. Name another --out, or replace it with --restart") from err
        # How many images can be read is known only after they were read.
        check_same_run(self.out, {**identity, "images": there.get("images")}, there)
        return there

    def checkpointer(self, identity: Mapping[str, Any], group: ProcessGroup) -> Checkpointer | None:
        """What writes checkpoints beside the model; None where no model is written."""
        if self.out is None:
            return None
        path = self.out.with_name(f"{self.out.name}.checkpoint")
        checkpointer = Checkpointer(
            path, identity, seconds=self.options.checkpoint_seconds, group=group, threads=self.options.threads
        )
        if self.options.restart:
            checkpointer.discard()
            if group.first:  # so that the run, if it is stopped, resumes without --restart
                self.out.unlink(missing_ok=True)
        return checkpointer


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """A trained student, the images and epochs that it was trained on, and whether the model was `finished_before`. `embeddings` is
    the index or encoder that a linear student stands on; `own` counts the client's own pictures that its head has learned."""

    student: TrainedStudent
    images: int
    epochs: int
    finished_before: bool
    checkpointer: Checkpointer | None = None
    embeddings: str | None = None
    own: int = 0
    remarks: tuple[str, ...] = ()

    def save(self, out: Path | None) -> None:
        """Write the model, unless it is there already, and remove the checkpoint."""
        if out is not None and not self.finished_before:
            self.student.save(out)
        if self.checkpointer is not None:
            self.checkpointer.discard()


def payload_digest(payload: Payload) -> str:
    """BLAKE3 over what a payload says (positions, labels, classes, reference), hex; however it was coded."""
    names = json.dumps([payload.classes, payload.reference, payload.key_id.hex(), payload.content_id.hex()])
    whole = blake3(names.encode())
    whole.update(payload.positions.astype("<i8").tobytes())
    whole.update(payload.labels.astype("<i8").tobytes())
    return whole.hexdigest(16)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TrainingSummary:
    """What `plada.train` did.

    Attributes:
        student: Name of the student.
        images: Images that it was trained on.
        added: Images among them that the payload does not name (`expand`).
        held: Share of the payload's own images, held back, that the linear student behind `expand` names right; None where it was not asked.
        left_out: Images that could not be decoded.
        changed: Keys of images that are missing or changed, and were skipped.
        emptied: Classes that have lost all their images.
        classes: Number of classes.
        epochs: Passes over the images; 1 for a linear student.
        seed: The seed of everything random.
        target: Name of the target that it was tested on; None where it was not tested.
        accuracy: Share of the target's test images that it names right, 0 to 1.
        evaluation: More about the test.
        target_note: How the target was split.
        model: The trained model.
        path: Where it was written; None where it was not kept.
        finished_before: The model was there already, and nothing was trained.
        processes: Processes that trained together.
        payload: Digest of what the payload says, hex.
        reference: Location of the client's copy of the reference.
        same_content: Whether the copy has the bytes that the payload was made for.
        seconds: Time by stage.
        segments: (whole, in all) of a progressive payload.
        serial: Serial number of the payload; 0 for none.
        embeddings: The index or encoder that a linear student stands on; None for a network.
        recommended: The options of the recipe that came from the payload, not from the call or the network's defaults.
        own: Pictures of the client's own that its head was fitted to again.
        own_note: Which classes have no own picture.
        calibration: What `adapt` can count on: "own pictures", "payload" or "labelled set"; None for nothing.
        threads: Threads that torch computed on.
        remarks: What makes the student worse than it could be, with what to do.
    """

    student: str
    images: int
    added: int
    left_out: int
    changed: tuple[str, ...]
    emptied: tuple[str, ...]
    classes: int
    epochs: int
    seed: int
    target: str | None
    accuracy: float | None
    evaluation: Evaluation | None
    target_note: str
    model: "Model"
    path: str | None
    finished_before: bool
    processes: int
    payload: str
    reference: str
    same_content: bool
    seconds: Mapping[str, float]
    segments: tuple[int, int] | None = None
    serial: int = 0
    held: float | None = None
    embeddings: str | None = None
    recommended: Mapping[str, Any] = field(default_factory=dict)
    own: int = 0
    own_note: str = ""
    calibration: str | None = None
    threads: int = 1
    remarks: tuple[str, ...] = ()

    def __repr__(self) -> str:
        tested = f", {self.accuracy:.1%} right on {self.target}" if self.accuracy is not None else ""
        kept = f", in {self.path}" if self.path is not None else ""
        return f"<TrainingSummary {self.student}: {self.images} images, {self.classes} classes, {self.epochs} epochs{tested}{kept}>"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; `model` is where the model is."""
        plain = {each.name: getattr(self, each.name) for each in fields(self)}
        del plain["path"]
        tested = self.evaluation.to_dict() if self.evaluation is not None else None
        return {**plain, "model": self.path, "evaluation": tested}
