"""`plada train` as a Python call."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plada.common.files import home_directory
from plada.common.outputs import check_outputs, locked
from plada.common.packages import require
from plada.common.progress import Clock, Report, silent, with_heartbeat
from plada.common.units import check_seed
from plada.errors import DataError, RequestError
from plada.networks.logs import check_log
from plada.networks.network import NetworkSpec, as_spec
from plada.networks.process_group import join_process_group
from plada.networks.threads import check_threads, torch_threads
from plada.payload.payload import Payload
from plada.reports.plots import MAX_SIDE, confusion_picture
from plada.trainer.evaluation import evaluate_split
from plada.trainer.evaluation_images import open_test, with_classes
from plada.trainer.expand import AUTO, Expansion
from plada.trainer.expand import expand as expand_payload
from plada.trainer.linear_student import encoder_spec, train_linear
from plada.trainer.model import Model
from plada.trainer.network_student import train_network
from plada.trainer.own_pictures import open_own
from plada.trainer.payload_context import PayloadContext
from plada.trainer.payload_file import ReadOptions
from plada.trainer.payload_images import ReferenceCopy, as_copy, open_in_turn, take_payload
from plada.trainer.run import LINEAR, RunOptions, TrainingRun, TrainingSummary, payload_digest


@with_heartbeat
def train(
    payload: Payload | str | Path,
    *,
    reference: str | Path | ReferenceCopy | None = None,
    student: str | NetworkSpec = "resnet18",
    encoder: str | NetworkSpec | None = None,
    recipe: Mapping[str, Any] | None = None,
    expand: int | str = 0,
    target: str | Path | None = None,
    confusion: str | Path | None = None,
    own: str | Path | None = None,
    out: str | Path | None = None,
    run: RunOptions | None = None,
    seed: int = 0,
    read: ReadOptions | None = None,
    device: str | None = None,
    home: str | Path | None = None,
    report: Report = silent,
) -> TrainingSummary:
    """Train a student on the images and labels of a payload, and test it if a target is named.

    With `out` a checkpoint is written beside the model now and then. The same call resumes from it, and does not train again
    where the model is finished. Started by torchrun, all processes train one model; the first one writes, tests and reports.

    Args:
        payload: A payload, the path or URL of one, or the name of a task that was pulled.
        reference: The client's copy of the reference: a registered name, a path, or a `ReferenceCopy`. None stands for a
            collection known here that fits.
        student: `small_cnn`, any timm network, or `linear`; by name, or as a `NetworkSpec` with the weights to start from.
        encoder: For a linear student: an index here or an encoder; options of an encoder stand in its `NetworkSpec` or in
            the student's. None stands for the only index of these images. For `expand`: the index that names more images.
        recipe: Training options by name. They win over the payload's, which win over the network's defaults.
        expand: For networks: train on so many more images of each class, which a linear student of the payload is surest of; it stands on
            an index or a pack of the reference. "auto" adds three times as many images as were sent, where such an index or pack is here
            and most of the payload's own images are named right when they are held back.
        target: Test the student on this target's test images, by the names of its classes; a registered name, or a place, which may hold
            test/CLASS alone.
        confusion: PNG file for the target's confusion matrix.
        own: A folder of your own pictures, own/CLASS/*, a few of each class (some may have none): the head is fitted again with these
            among the payload's images.
        out: The model to write, a safetensors file; None keeps nothing.
        run: Restart, checkpoints and log.
        seed: Decides every random choice.
        read: How the payload is read, as for `read_payload`.
        device: torch's name of a device; None stands for a GPU if there is one.
        home: Where indexes and manifests are kept.
        report: Called with progress.

    Returns:
        The trained model (`.model`, a `Model`) and where it was written, counts of images, the accuracy and evaluation on the target.

    Raises:
        PayloadError: The payload is bad, or not signed as required.
        ReferenceMismatch: It labels other images, or some are missing or changed.
        UnknownName: There is no such student, encoder or target.
        RequestError: Options contradict each other; `out` holds another run; the loss is not finite; `own` has no picture.
        DataError: `own` has a class that is not the payload's, or none of its pictures can be read.
        KeyboardInterrupt: Stopped; with `out`, after a checkpoint.

    Examples:
        >>> import plada
        >>> result = plada.train("digits.plada", student="linear", target="digits", out="student")
        >>> result.accuracy > 0.8
        True
    """
    check_outputs(out, *([confusion] if target is not None else []))
    check_seed(seed)
    clock, root = Clock(), home_directory(home)
    network, copy, options = as_spec(student), as_copy(reference), read or ReadOptions()
    linear = network.name == LINEAR

    sent = take_payload(
        payload, PayloadContext(home=root, reference=copy.location, pack=options.pack, manifest=copy.manifest), options
    )
    if not len(sent):
        raise DataError(f"{payload if not isinstance(payload, Payload) else 'payload'}: holds no label to train on")
    require("torch", extra="client", purpose="training")  # before a million images are hashed
    _check(network, encoder, expand, target, confusion)

    source = encoder_spec(network, encoder)
    more: Expansion | None = None
    if expand != 0:
        per_class = None if isinstance(expand, str) else expand
        more = expand_payload(
            sent, per_class, home=root, index=source.name if source is not None else None, pack=options.pack,
            same_keys=copy.same_keys, device=device,
        )  # fmt: skip
    labels = more.labels if more is not None else sent
    plan = TrainingRun(
        payload=sent, labels=labels, expansion=more, own=open_own(own, sent.classes) if own is not None else None, student=network, encoder=source, recipe=dict(recipe or {}), seed=seed,
        out=Path(out) if out is not None else None, options=run or RunOptions(), home=root,
    )  # fmt: skip
    check_log(plan.options.log_path)

    check_threads(plan.options.threads)

    with (
        join_process_group(device) as group,
        locked(plan.out if group.first else None),
        torch_threads(plan.options.threads) as threads,
    ):
        report = report if group.first else silent
        with clock("load"):
            task = open_test(target, root, held_out=True) if target is not None else None
            if task is not None:
                task = with_classes(sent.classes, task)
            images = open_in_turn(group, labels, copy, home=root, report=report)
        result = (train_linear if linear else train_network)(plan, images, group, clock, report)
        if group.first:
            result.save(plan.out)
        evaluation = None
        if task is not None and task.test is not None and group.first:
            trained = result.student
            with clock("test"):
                evaluation = evaluate_split(trained.logits, trained.view, task.test, task.classes, report=report)
            if confusion is not None:
                names = [each.name for each in evaluation.classes]
                title = f"{network.name} on {task.name}"
                confusion_picture(names, evaluation.binned_confusion(MAX_SIDE), Path(confusion), title=title)
    return TrainingSummary(
        student=network.name,
        images=result.images,
        added=len(labels) - len(sent),
        left_out=len(labels) - result.images - len(images.lost),
        changed=images.lost_keys(),
        emptied=images.emptied(labels),
        classes=len(sent.classes),
        epochs=result.epochs,
        seed=seed,
        target=task.name if task is not None else None,
        accuracy=evaluation.accuracy if evaluation is not None else None,
        evaluation=evaluation,
        target_note=task.note if task is not None else "",
        model=Model(result.student, str(out) if out is not None else network.name),
        path=str(out) if out is not None else None,
        finished_before=result.finished_before,
        processes=group.size,
        payload=payload_digest(sent),
        reference=images.location,
        same_content=images.manifest.content_id[:8] == sent.content_id[:8],
        segments=sent.segments,
        serial=sent.serial,
        embeddings=result.embeddings,
        own=result.own,
        own_note=plan.own.note if plan.own is not None else "",
        calibration=result.student.calibration.source if result.student.calibration is not None else None,
        held=more.held if more is not None else None,
        recommended={} if linear else {name: value for name, value in sent.recipe.items() if name not in plan.recipe},
        threads=threads,
        remarks=result.remarks,
        seconds=clock.seconds,
    )


def _check(
    student: NetworkSpec,
    encoder: str | NetworkSpec | None,
    expand: int | str,
    target: str | Path | None,
    confusion: str | Path | None,
) -> None:
    """Refuse options that contradict each other."""
    if confusion is not None and target is None:
        raise RequestError("--confusion shows what a target's classes are taken for: name a --target, too")
    if isinstance(expand, str) and expand != AUTO:
        raise RequestError(f"--expand {expand}: expected a number of images of each class, or {AUTO}")
    if student.name == LINEAR and expand != 0:
        raise RequestError(f"--expand: a student {LINEAR} learns nothing from what one like it has named; leave it out")
    if encoder is not None and student.name != LINEAR and expand == 0:
        raise RequestError(
            f"--encoder is for --student {LINEAR}, or --expand; {student.name} sees the images themselves"
        )
