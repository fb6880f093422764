"""A network as student: trained on a payload's images, saved, and loaded again."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from plada.common.arrays import F32, I64, U8
from plada.common.progress import Clock, Report, Tracker
from plada.errors import DataError, PayloadUnsupported, RequestError
from plada.labeler.calibration import fit_calibration
from plada.networks.classifier import classifier_of, features, replace_head
from plada.networks.data import LabelledImages, load_images
from plada.networks.linear_head import STUDENT_PENALTY, Head, fit_head
from plada.networks.logs import open_log
from plada.networks.loop import fit, predict
from plada.networks.model_args import refused_argument
from plada.networks.network import (
    Network,
    NetworkSpec,
    build_network,
    file_digest,
    mismatch,
    read_safetensors,
    seed_everything,
    size_note,
    start_note,
    view_of,
)
from plada.networks.process_group import ProcessGroup
from plada.networks.recipe import Recipe, default_recipe
from plada.networks.trial import try_batch
from plada.payload.calibration import OWN_PICTURES, Calibration
from plada.payload.payload import Payload
from plada.sources.decode import MAX_SIDE, View
from plada.trainer.model_file import read_calibration, read_card, save_model
from plada.trainer.own_pictures import ENOUGH, held_out_logits, importance
from plada.trainer.payload_images import PayloadImages
from plada.trainer.run import TrainingResult, TrainingRun

_BATCH = 256


@dataclass(frozen=True, slots=True)
class NetworkStudent:
    """A trained network with its class names, its recipe, the identity of the run that made it, and what its logits mean."""

    network: Network
    classes: tuple[str, ...]
    recipe: Recipe
    run: Mapping[str, Any] = field(default_factory=dict)
    model_args: Mapping[str, Any] = field(default_factory=dict)
    device: str | None = None
    calibration: Calibration | None = None

    @property
    def view(self) -> View:
        """How the network wants its images."""
        return view_of(self.network)

    def logits(self, pixels: U8) -> F32:
        """Logits float32 [n, classes] of pixels uint8 [n, size, size, 3] as `view` makes them."""
        return predict(self.network, pixels, device=self.device)

    def save(self, path: Path) -> None:
        """Write weights as safetensors; the card says how to build the network and read its answers.

        timm loads the file as well: timm.create_model(NETWORK, num_classes=..., checkpoint_path=PATH).
        """
        card = {
            "network": self.network.name,
            **{name: getattr(self.network, name) for name in ("size", "crop", "interpolation", "mean", "std")},
            "model_args": dict(self.model_args),
            "classes": self.classes,
            "recipe": asdict(self.recipe),
            "run": dict(self.run),
        }
        if self.calibration is not None:
            card["calibration"] = self.calibration.to_dict()
        save_model(path, self.network.module.state_dict(), card)


def load_network_student(path: Path, device: str | None = None) -> NetworkStudent:
    """A network student as it was saved. Raises RequestError: no such file. DataError: damaged, or its network is not
    what the card says."""
    card = read_card(path)
    if not _sound(card):
        raise DataError(f"{path}: its card does not contain the preprocessing, as plada writes it. Train it again")
    state = read_safetensors(path)
    arguments = card.get("model_args") or {}
    if reason := refused_argument(arguments):
        raise DataError(f"{path}: its card: {reason}. Use no model of that origin")
    network = build_network(NetworkSpec(name=card["network"], model_args=arguments), classes=len(card["classes"]))
    if wrong := mismatch(network.module.state_dict(), state):
        raise DataError(f"{path}: its tensors are not those of {card['network']} ({wrong}). Train it again")
    network.module.load_state_dict(state)
    own = {name: card[name] for name in ("size", "crop", "interpolation")}
    network = replace(network, **own, mean=tuple(card["mean"]), std=tuple(card["std"]))
    recipe = Recipe().changed(card["recipe"])
    calibration = read_calibration(path, card)
    return NetworkStudent(network, tuple(card["classes"]), recipe, card.get("run", {}), arguments, device, calibration)


def _sound(card: Mapping[str, Any]) -> bool:
    """Whether a card's preprocessing and recipe are of the right types, and within what there is."""
    size, crop, colours = card.get("size"), card.get("crop"), (card.get("mean"), card.get("std"))
    return (
        type(size) is int
        and 0 < size <= MAX_SIDE
        and isinstance(crop, (int, float))
        and 0 < crop <= 1
        and isinstance(card.get("interpolation"), str)
        and all(isinstance(three, list) and len(three) == 3 for three in colours)
        and all(isinstance(number, (int, float)) for three in colours for number in three or ())
        and isinstance(card.get("recipe"), dict)
    )


def train_network(
    run: TrainingRun, images: PayloadImages, group: ProcessGroup, clock: Clock, report: Report
) -> TrainingResult:
    """A network trained on the images of a payload, from its last checkpoint if there is one.

    The recipe is the network's default, changed by what the payload recommends, and that by the run's own options.

    Raises:
        RequestError: the output holds another run; the loss is not finite. ReferenceMismatch: images are missing or changed.
        DataError: no image can be read. KeyboardInterrupt: stopped; with an output, after a checkpoint.
    """
    student = run.student
    recipe = default_recipe(student.name, trained=student.trained)
    recipe = _recommended(recipe, run.payload).changed(run.recipe)
    if len(run.labels) > len(
        run.payload
    ):  # as many steps as on the images that were sent, but each image once at least
        recipe = replace(recipe, epochs=max(1, round(recipe.epochs * len(run.payload) / len(run.labels))))
    with clock("load"):
        seed_everything(run.seed)
        network = build_network(student, classes=len(run.payload.classes), image_size=recipe.image_size)
        identity = {
            **run.identity(images),
            "weights": file_digest(Path(student.weights))
            if student.weights
            else "timm's"
            if student.pretrained
            else "none",
            "model_args": dict(student.model_args),
            "image_size": network.size,
            "recipe": asdict(recipe),
            "seed": run.seed,
        }
        if (finished := run.finished(identity)) is not None and run.out is not None:
            trained = load_network_student(run.out, group.device)
            known = len(run.own) if run.own is not None else 0
            return TrainingResult(trained, int(finished["images"]), recipe.epochs, finished_before=True, own=known)
        if run.own is not None:
            classifier_of(network)  # refused now, not after hours of training
        try_batch(network, recipe, len(run.labels), processes=group.size)
    more = run.expansion
    notes = (
        start_note(student),
        size_note(student.name, network.size, network.wanted_size),
        more.note(len(run.labels) - len(run.payload)) if more is not None else None,
    )
    remarks = tuple(note for note in notes if note)
    for remark in remarks:
        Tracker("load", None, report).say(remark)
    with clock("read"):
        labelled = _load(run, images, view_of(network, supersample=recipe.supersample), group, report)
    answers = more.answers if more is not None else None
    identity["images"] = len(labelled)
    checkpointer = run.checkpointer(identity, group)
    with clock("train"), open_log(run.options.log_path if group.first else None) as log:
        fit(
            network, labelled, recipe=recipe, seed=run.seed, device=group.device, report=report,
            checkpointer=checkpointer, log=log, group=group, soft=answers or run.soft_labels,
        )  # fmt: skip
    for lost in group.gather(images.lost):
        images.lost.update(lost)  # what other processes have read
    calibration, own = None, 0
    if run.own is not None and group.first:
        with clock("own"):
            calibration, own = learn_own(run, network, labelled, recipe.supersample, group.device, report)
    trained = NetworkStudent(
        network, run.payload.classes, recipe, identity, dict(student.model_args), group.device, calibration
    )
    images_seen = labelled.readable()
    return TrainingResult(
        trained, images_seen, recipe.epochs, finished_before=False, checkpointer=checkpointer, own=own, remarks=remarks
    )


def learn_own(
    run: TrainingRun, network: Network, labelled: LabelledImages, supersample: int, device: str | None, report: Report
) -> tuple[Calibration | None, int]:
    """Fit the last layer of a trained network again, with the client's own pictures among the payload's: (calibration, where there are
    enough of them to measure it; how many there are)."""
    assert run.own is not None
    classes = len(run.payload.classes)
    pixels, own_labels = run.own.load(view_of(network), report)
    own = features(network, pixels, device=device)
    parts: list[F32] = []
    labels: list[I64] = []
    rows = np.arange(len(labelled), dtype=np.int64)
    for batch, some in labelled.batches(np.array_split(rows, max(1, len(rows) // _BATCH))):
        if len(some):
            shown = batch if isinstance(batch, np.ndarray) else batch.cpu().numpy()
            parts.append(features(network, _reduced(shown, supersample), device=device))
            labels.append(some)
    sent, sent_labels = np.concatenate(parts), np.concatenate(labels)
    if run.expansion is not None and run.expansion.answers is not None:
        sent_labels = run.expansion.answers.names(sent_labels)

    def fit_rows(mine: I64) -> Head:
        together = np.concatenate([sent_labels, own_labels[mine]])
        return fit_head(
            np.concatenate([sent, own[mine]]), together, classes=classes, mean=sent.mean(axis=0), penalty=STUDENT_PENALTY,
            importance=importance(sent_labels, own_labels[mine], classes),
        )  # fmt: skip

    calibration = None
    if len(own_labels) >= ENOUGH:
        logits = held_out_logits(lambda mine: fit_rows(mine).logits, own, own_labels, classes)
        calibration = fit_calibration(logits, own_labels, source=OWN_PICTURES, spreads=True)
    replace_head(network, fit_rows(np.arange(len(own_labels))))
    return calibration, len(own_labels)


def _reduced(pixels: U8, times: int) -> U8:
    """Images as the network sees them, of images that are `times` as large."""
    if times == 1:
        return pixels
    count, size = len(pixels), pixels.shape[1] // times
    means = pixels.reshape(count, size, times, size, times, 3).mean(axis=(2, 4))
    return np.asarray(np.rint(means), np.uint8)


def _recommended(recipe: Recipe, payload: Payload) -> Recipe:
    """A recipe changed by what a payload recommends. Raises PayloadUnsupported: an option that there is not, or out of
    its range."""
    try:
        return recipe.changed(payload.recipe)
    except RequestError as err:
        raise PayloadUnsupported(
            f"the payload's recipe: {err}. Ask the sender for one within these bounds; nothing was trained"
        ) from err


def _load(run: TrainingRun, images: PayloadImages, view: View, group: ProcessGroup, report: Report) -> LabelledImages:
    import torch

    labels, cache = run.labels, run.home / "cache"
    targets = run.expansion.targets if run.expansion is not None else None
    targets = labels.labels if targets is None else targets
    there = ~np.isin(labels.positions, np.fromiter(images.lost, np.int64))  # as far as the listing tells
    try:
        if not there.any():
            raise DataError(f"{images.location}: none of the {len(labels)} images can be read")
        labelled = load_images(
            images.read,
            labels.positions[there],
            targets[there],
            view,
            where=images.location,
            report=report,
            cache=cache,
            group=group,
            workers=torch.get_num_threads(),
        )
    except DataError:
        images.refuse_lost()  # where that is the reason, it says more
        raise
    images.refuse_lost()
    return labelled
