"""A network as student: trained on a payload's images, saved, and loaded again."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from plada.common.arrays import F32, U8
from plada.common.progress import Clock, Report, Tracker
from plada.errors import DataError, PayloadUnsupported, RequestError
from plada.networks.data import LabelledImages, load_images
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
from plada.payload.payload import Payload
from plada.sources.decode import MAX_SIDE, View
from plada.trainer.model_file import read_card, save_model
from plada.trainer.payload_images import PayloadImages
from plada.trainer.run import TrainingResult, TrainingRun


@dataclass(frozen=True, slots=True)
class NetworkStudent:
    """A trained network with its class names, its recipe, and the identity of the run that made it."""

    network: Network
    classes: tuple[str, ...]
    recipe: Recipe
    run: Mapping[str, Any] = field(default_factory=dict)
    model_args: Mapping[str, Any] = field(default_factory=dict)
    device: str | None = None

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
        save_model(path, self.network.module.state_dict(), card)


def load_network_student(path: Path, device: str | None = None) -> NetworkStudent:
    """A network student as it was saved. Raises RequestError: no such file. DataError: damaged, or its network is not
    what the card says."""
    card = read_card(path)
    if not _sound(card):
        raise DataError(f"{path}: its card does not say how images are prepared, as plada writes it. Train it again")
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
    return NetworkStudent(network, tuple(card["classes"]), recipe, card.get("run", {}), arguments, device)


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
            return TrainingResult(trained, int(finished["images"]), recipe.epochs, finished_before=True)
        try_batch(network, recipe, len(run.labels), processes=group.size)
    notes = (start_note(student), size_note(student.name, network.size, network.wanted_size))
    remarks = tuple(note for note in notes if note)
    for remark in remarks:
        Tracker("load", None, report).say(remark)
    with clock("read"):
        labelled = _load(run, images, view_of(network, supersample=recipe.supersample), report)
    identity["images"] = len(labelled)
    checkpointer = run.checkpointer(identity, group)
    with clock("train"), open_log(run.options.log_path if group.first else None) as log:
        fit(
            network, labelled, recipe=recipe, seed=run.seed, device=group.device, report=report,
            checkpointer=checkpointer, log=log, group=group, soft=run.soft_labels,
        )  # fmt: skip
    trained = NetworkStudent(network, run.payload.classes, recipe, identity, dict(student.model_args), group.device)
    return TrainingResult(
        trained, labelled.readable(), recipe.epochs, finished_before=False, checkpointer=checkpointer, remarks=remarks
    )


def _recommended(recipe: Recipe, payload: Payload) -> Recipe:
    """A recipe changed by what a payload recommends. Raises PayloadUnsupported: an option that there is not, or out of
    its range."""
    try:
        return recipe.changed(payload.recipe)
    except RequestError as err:
        raise PayloadUnsupported(
            f"the payload's recipe: {err}. Ask the sender for one within these bounds; nothing was trained"
        ) from err


def _load(run: TrainingRun, images: PayloadImages, view: View, report: Report) -> LabelledImages:
    import torch

    labels, cache = run.labels, run.home / "cache"
    try:
        labelled = load_images(
            images.read,
            labels.positions,
            labels.labels,
            view,
            where=images.location,
            report=report,
            cache=cache,
            workers=torch.get_num_threads(),
        )
    except DataError:
        images.refuse_lost()  # where that is the reason, it says more
        raise
    images.refuse_lost()
    return labelled
