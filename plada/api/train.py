"""`plada train` and `plada export`: what a client does with a payload."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from plada.common.files import home_directory
from plada.common.packages import require
from plada.common.progress import Clock, Report, silent
from plada.errors import DataError, RequestError
from plada.networks.checkpoint import Keeper, refuse_another_run
from plada.networks.data import Images, labelled_images
from plada.networks.logs import no_log, open_log
from plada.networks.loop import fit
from plada.networks.network import build_network, file_digest, seed_everything, view_of
from plada.networks.ranks import Ranks, joined
from plada.networks.recipe import default_recipe
from plada.payload.payload import Payload
from plada.payload.signature import check_serial
from plada.payload.soft import soft_labels_of
from plada.reports.plots import confusion_picture
from plada.sources.decode import View
from plada.sources.registry import open_target
from plada.sources.targets.target import Split, Target
from plada.trainer.evaluation import Evaluation, evaluate_split
from plada.trainer.expand import widen
from plada.trainer.linear_student import LinearStudent, embed_chosen, fit_linear, load_linear
from plada.trainer.model import model_of
from plada.trainer.payload_file import PayloadContext, ReadOptions, open_payload
from plada.trainer.payload_images import Chosen, open_chosen
from plada.trainer.student import Student, TrainingSummary, check_classes, load_student, payload_digest, read_card

LINEAR = "linear"


def train(
    payload: Payload | str | Path,
    *,
    reference: str | Path | None = None,
    student: str = "resnet18",
    encoder: str | None = None,
    weights: str | Path | None = None,
    pretrained: bool = False,
    model_args: Mapping[str, Any] | None = None,
    image_size: int | None = None,
    recipe: Mapping[str, Any] | None = None,
    widen: int | None = None,
    target: str | Path | None = None,
    confusion: str | Path | None = None,
    out: str | Path | None = None,
    restart: bool = False,
    checkpoint_seconds: float = 60.0,
    log: str | Path | None = None,
    seed: int = 0,
    same_keys: bool = False,
    skip_changed: bool = False,
    pack: str | Path | None = None,
    partial: bool = False,
    update: Sequence[str | Path] = (),
    require_signature: str | Path | None = None,
    min_serial: int = 0,
    device: str | None = None,
    home: str | Path | None = None,
    report: Report = silent,
) -> TrainingSummary:
    """Train a student on the images and labels of a payload, and test it on `target` if one is named.

    `reference` is the client's own copy (a name or a path); without one, a collection known here that fits. `student` is
    `small_cnn` or any timm network, from nothing unless `weights` (safetensors) or `pretrained` is given; or `linear`, a
    head on the client's index or on what `encoder` names. Options in `recipe` win over the payload's, which win over the
    network's defaults. `widen` is for networks: so many more images of each class, which a linear student of the payload
    names on an index of the reference (`encoder`, or the first that fits), are trained on besides (plada.trainer.expand).

    The model goes to `out` if given, and every `checkpoint_seconds` a checkpoint beside it: the same call goes on from
    there, and one that was finished is not trained again. `restart` begins anew, whatever is there. `log` is a .csv file,
    or a folder for TensorBoard. `confusion` is a PNG of what the target's classes are taken for. `skip_changed` leaves out
    images that are missing or changed since the manifest was made. `pack`, `partial`, `update`, `require_signature` and
    `min_serial` are as for `read_payload`.

    Started by torchrun, all its processes train one model; the first one writes, tests and reports.

    Raises:
        PayloadError: the payload is bad, or not signed as required. ReferenceMismatch: it labels other images, or some are missing or changed.
        UnknownName: no such student. RequestError: `out` holds another run; the loss is no longer finite.
        KeyboardInterrupt: stopped; with `out`, after a checkpoint.
    """

    clock, root = Clock(), home_directory(home)
    around = PayloadContext(home=root, reference=reference, pack=pack)
    read = _read(payload, around, partial, update, require_signature, min_serial)
    if not len(read):
        raise DataError(f"{payload if not isinstance(payload, Payload) else 'payload'}: holds no label to train on")
    require("torch", extra="client", purpose="training")  # said before a million images are hashed
    _refuse_combinations(student, encoder, widen, tested=target is not None, pictured=confusion is not None)
    more = _widened(read, widen, root, encoder, same_keys)
    asked = Asked(
        read, more, student, encoder, _path(weights), pretrained, dict(model_args or {}), image_size, dict(recipe or {}),
        seed, _path(out), restart, checkpoint_seconds, _path(log), root,
    )  # fmt: skip
    with joined(device) as ranks:
        told = report if ranks.first else silent
        with clock("load"):
            task = open_target(target, root) if target is not None else None
            if task is not None:
                check_classes(read.classes, task.classes, task.name)
            chosen = _opened_in_turn(ranks, asked, reference, same_keys, skip_changed, told)
        made = (_train_linear if student == LINEAR else _train_network)(asked, chosen, ranks, told, clock)
        if asked.out is not None and ranks.first and not made.before:
            made.trained.save(asked.out)
        if made.keeper is not None:
            made.keeper.discard()
        evaluation = None
        if task is not None and task.test is not None and ranks.first:
            with clock("test"):
                evaluation = _tested(made, task, task.test, ranks, told)
            _draw(evaluation, confusion, f"{student} on {task.name}")
    return TrainingSummary(
        student=student,
        images=made.images,
        added=len(asked.labelled) - len(read),
        left_out=len(asked.labelled) - made.images - len(chosen.lost),
        changed=chosen.lost_keys(),
        emptied=_emptied(asked.labelled, chosen),
        classes=len(read.classes),
        epochs=made.epochs,
        seed=seed,
        target=task.name if task is not None else None,
        accuracy=evaluation.accuracy if evaluation is not None else None,
        evaluation=evaluation,
        target_note=task.note if task is not None else "",
        model=str(out) if out is not None else None,
        finished_before=made.before,
        processes=ranks.size,
        payload=payload_digest(read),
        reference=chosen.location,
        same_content=chosen.manifest.content_id[:8] == read.content_id[:8],
        segments=read.segments,
        serial=read.serial,
        seconds=clock.seconds,
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """What `train` was asked for. `widened`: the payload with more images than were sent, None where it is left as it is."""

    payload: Payload
    widened: Payload | None
    student: str
    encoder: str | None
    weights: Path | None
    pretrained: bool
    model_args: dict[str, Any]
    image_size: int | None
    recipe: dict[str, Any]
    seed: int
    out: Path | None
    restart: bool
    checkpoint_seconds: float
    log: Path | None
    home: Path

    @property
    def labelled(self) -> Payload:
        """All that is trained on."""
        return self.widened or self.payload


@dataclass(frozen=True, slots=True)
class Made:
    """A trained student, images it was trained on, and whether all of it was there `before`."""

    trained: Student | LinearStudent
    images: int
    epochs: int
    before: bool
    keeper: Keeper | None = None


def _refuse_combinations(student: str, encoder: str | None, widen: int | None, *, tested: bool, pictured: bool) -> None:
    if pictured and not tested:
        raise RequestError("--confusion shows what a target's classes are taken for: name a --target, too")
    if encoder is not None and student != LINEAR and widen is None:
        raise RequestError(f"--encoder is for --student {LINEAR}, or --widen; {student} sees the images themselves")
    if widen is not None and student == LINEAR:
        raise RequestError(f"--widen: a student {LINEAR} learns nothing from what one like it has named; leave it out")


def _widened(payload: Payload, per_class: int | None, home: Path, index: str | None, same_keys: bool) -> Payload | None:

    return None if per_class is None else widen(payload, per_class, home=home, index=index, same_keys=same_keys)


def _tested(made: Made, task: Target, split: Split, ranks: Ranks, report: Report) -> Evaluation:
    """A trained student on a target's test images; its classes are the target's, in order."""

    model = model_of(made.trained, ranks.device)
    return evaluate_split(model.logits, model.view, split, task.classes, report=report)


def _draw(evaluation: Evaluation, path: str | Path | None, title: str) -> None:

    if path is not None:
        confusion_picture([each.name for each in evaluation.classes], evaluation.confusion, Path(path), title=title)


def _train_network(asked: Asked, chosen: Chosen, ranks: Ranks, report: Report, clock: Clock) -> Made:

    payload, trained_before = asked.payload, bool(asked.weights or asked.pretrained)
    recipe = default_recipe(asked.student, trained=trained_before).changed(recommended(payload)).changed(asked.recipe)
    with clock("load"):
        seed_everything(asked.seed)
        network = build_network(
            asked.student,
            classes=len(payload.classes),
            weights=asked.weights,
            pretrained=asked.pretrained,
            model_args=asked.model_args,
            image_size=asked.image_size or recipe.image_size or None,
        )
        run = {
            **_run_of(asked, chosen),
            "weights": file_digest(asked.weights) if asked.weights else "timm's" if asked.pretrained else "none",
            "model_args": asked.model_args,
            "image_size": network.size,
            "recipe": asdict(recipe),
            "seed": asked.seed,
        }
        if (finished := _finished(asked, run)) is not None and asked.out is not None:
            return Made(load_student(asked.out), int(finished["images"]), recipe.epochs, before=True)
    with clock("read"):
        labelled = _images(asked, chosen, view_of(network, supersample=recipe.supersample), report)
    run["images"] = len(labelled)
    keeper = _keeper(asked, run, ranks)
    with clock("train"):
        fit(
            network,
            labelled,
            recipe=recipe,
            seed=asked.seed,
            device=ranks.device,
            report=report,
            keeper=keeper,
            log=open_log(asked.log) if asked.log is not None and ranks.first else no_log,
            ranks=ranks,
            soft=soft_labels_of(payload.notes, len(payload.classes)),
        )
    student = Student(network, payload.classes, recipe, run, asked.model_args)
    return Made(student, labelled.used(), recipe.epochs, before=False, keeper=keeper)


def _images(asked: Asked, chosen: Chosen, view: View, report: Report) -> Images:

    wanted, cache = asked.labelled, asked.home / "cache"
    try:
        labelled = labelled_images(
            chosen.read, wanted.positions, wanted.labels, view, where=chosen.location, report=report, cache=cache
        )
    except DataError:
        chosen.settle()  # if that is why, it says more
        raise
    chosen.settle()
    return labelled


def _keeper(asked: Asked, run: Mapping[str, Any], ranks: Ranks) -> Keeper | None:
    """What writes checkpoints beside the model; None where no model is written."""

    if asked.out is None:
        return None
    path = asked.out.with_name(f"{asked.out.name}.checkpoint")
    keeper = Keeper(path, run, seconds=asked.checkpoint_seconds, ranks=ranks)
    if asked.restart:
        keeper.discard()
        if ranks.first:  # so that the run, if it is stopped, goes on without --restart
            asked.out.unlink(missing_ok=True)
    return keeper


def _train_linear(asked: Asked, chosen: Chosen, ranks: Ranks, report: Report, clock: Clock) -> Made:

    if ranks.size > 1 or asked.recipe or asked.log:
        what = "torchrun" if ranks.size > 1 else "--recipe" if asked.recipe else "--log"
        raise RequestError(f"student {LINEAR}: is fitted at once, in one process; leave out {what}")
    with clock("read"):
        found = embed_chosen(
            asked.payload,
            chosen,
            asked.encoder,
            weights=asked.weights,
            pretrained=asked.pretrained,
            model_args=asked.model_args,
            image_size=asked.image_size,
            device=ranks.device,
            home=asked.home,
            report=report,
        )
    soft = soft_labels_of(asked.payload.notes, len(asked.payload.classes))
    run = {**_run_of(asked, chosen), "encoder": found.encoder.config.identity(), "embeddings": found.name}
    if _finished(asked, run) is not None and asked.out is not None:
        trained = load_linear(asked.out, read_card(asked.out), asked.weights, ranks.device)
        return Made(trained, len(found.labels), 1, before=True)
    with clock("train"):
        return Made(
            fit_linear(found, asked.payload.classes, {**run, "images": len(found.labels)}, soft, asked.seed),
            len(found.labels),
            1,
            before=False,
        )


def recommended(payload: Payload) -> Mapping[str, Any]:
    """The training options that a payload recommends."""
    advice = payload.notes.get("recipe", {})
    return advice if isinstance(advice, dict) else {}


def _run_of(asked: Asked, chosen: Chosen) -> dict[str, Any]:
    """What makes two runs the same one; plain values."""

    more = {"widened": payload_digest(asked.widened)} if asked.widened is not None else {}
    return {
        "student": asked.student,
        "payload": payload_digest(asked.payload),
        **more,
        "key_id": chosen.manifest.key_id.hex(),
        "content_id": chosen.manifest.content_id.hex(),
    }


def _finished(asked: Asked, run: Mapping[str, Any]) -> dict[str, Any] | None:
    """The run of a finished model that is there already, if it is this one.

    Raises:
        RequestError: there is something else.
    """

    if asked.out is None or asked.restart or not asked.out.exists():
        return None
    try:
        there = dict(read_card(asked.out).get("run", {}))
    except DataError as err:
        raise RequestError(f"{err}. Name another --out, or replace it with --restart") from err
    # How many images could be read is known only when they have been.
    refuse_another_run(asked.out, {**run, "images": there.get("images")}, there)
    return there


def _opened_in_turn(
    ranks: Ranks,
    asked: Asked,
    reference: str | Path | None,
    same_keys: bool,
    skip_changed: bool,
    report: Report,
) -> Chosen:
    """The first process makes the manifest where there is none; the others find it."""

    def opened() -> Chosen:
        return open_chosen(
            asked.labelled, reference, home=asked.home, same_keys=same_keys, skip_changed=skip_changed, report=report
        )

    mine = opened() if ranks.first else None
    ranks.agree(0)
    return mine or opened()


def _read(
    payload: Payload | str | Path,
    around: PayloadContext,
    partial: bool,
    update: Sequence[str | Path],
    require_signature: str | Path | None,
    min_serial: int,
) -> Payload:
    """The payload, read if it is not yet; one that was read by the caller can be asked no more who signed it."""
    if not isinstance(payload, Payload):
        return open_payload(
            payload,
            around,
            ReadOptions(partial=partial, update=update, require_signature=require_signature, min_serial=min_serial),
        ).payload
    if require_signature is not None or update:
        raise RequestError("a payload that was read already: give its path, or these options to read_payload")
    check_serial(payload.serial, min_serial, "payload")
    return payload


def _emptied(payload: Payload, chosen: Chosen) -> tuple[str, ...]:
    """Classes all of whose images were lost."""
    if not chosen.lost:
        return ()
    left = ~np.isin(payload.positions, np.asarray(list(chosen.lost), np.int64))
    before, after = (
        np.bincount(rows, minlength=len(payload.classes)) for rows in (payload.labels, payload.labels[left])
    )
    return tuple(payload.classes[label] for label in np.flatnonzero((before > 0) & (after == 0)))


def _path(place: str | Path | None) -> Path | None:
    return Path(place) if place is not None else None
