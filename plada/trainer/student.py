"""A student: what a client trains, tests and keeps."""

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from plada.common.files import whole_file
from plada.common.progress import Report, silent
from plada.common.version import __version__
from plada.errors import DataError, RequestError
from plada.networks.loop import predict
from plada.networks.network import Network, build_network, mismatch, read_safetensors, view_of
from plada.networks.recipe import Recipe
from plada.payload.payload import Payload
from plada.sources.targets.target import Split
from plada.trainer.evaluation import Evaluation, evaluate_split

if TYPE_CHECKING:
    import torch

_CARD = "plada"  # name of the card among a safetensors file's metadata
_LARGEST_HEADER = 100 << 20  # bytes; safetensors' own limit


@dataclass(frozen=True, slots=True)
class Student:
    """A trained network with the names of its classes, the recipe it was trained by, and the run that made it (see
    plada.api.train)."""

    network: Network
    classes: tuple[str, ...]
    recipe: Recipe
    run: Mapping[str, Any] = field(default_factory=dict)
    model_args: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write weights as safetensors; the card tells how to build the network and read its answers.

        timm loads the file as well: timm.create_model(NETWORK, num_classes=..., checkpoint_path=PATH).
        """
        own = {name: getattr(self.network, name) for name in ("size", "crop", "interpolation", "mean", "std")}
        card = {
            "network": self.network.name,
            **own,
            "model_args": dict(self.model_args),
            "classes": self.classes,
            "recipe": asdict(self.recipe),
            "run": dict(self.run),
        }
        save_model(path, self.network.module.state_dict(), card)


def save_model(path: Path, state: "Mapping[str, torch.Tensor]", card: Mapping[str, Any]) -> None:
    """Write tensors as safetensors, with a card that names the versions they were made by; whole or not at all."""
    import safetensors.torch

    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    text = json.dumps({**card, "versions": versions()}, sort_keys=True)
    with whole_file(path) as part:
        # One entry alone: safetensors writes several in a random order.
        safetensors.torch.save_file(stored, part, metadata={_CARD: text})


def read_card(path: Path) -> dict[str, Any]:
    """The card of a model that plada wrote; only the file's header is read.

    Raises:
        RequestError: no such file. DataError: not a model of plada's.
    """
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = file.read(size) if size <= _LARGEST_HEADER else b""
        card = json.loads(json.loads(header)["__metadata__"][_CARD])
        if not {"classes", "network"} <= card.keys():
            raise KeyError("network")
    except OSError as err:
        raise RequestError(f"{path}: cannot be read ({err.strerror}). Name a model that `plada train` wrote") from err
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise DataError(f"{path}: not a model that `plada train` wrote (no card in it)") from err
    return dict(card)


def load_student(path: Path) -> Student:
    """A network student as it was saved, on the CPU.

    Raises:
        RequestError: no such file. DataError: damaged, or its network is not what the card says.
    """
    card = read_card(path)
    state = read_safetensors(path)
    network = build_network(card["network"], classes=len(card["classes"]), model_args=card.get("model_args"))
    if wrong := mismatch(network.module.state_dict(), state):
        raise DataError(f"{path}: its tensors are not those of {card['network']} ({wrong}). Train it again")
    network.module.load_state_dict(state)
    own = {name: card[name] for name in ("size", "crop", "interpolation")}
    network = replace(network, **own, mean=tuple(card["mean"]), std=tuple(card["std"]))
    recipe = Recipe().changed(card["recipe"])
    return Student(network, tuple(card["classes"]), recipe, card.get("run", {}), card.get("model_args", {}))


def versions() -> dict[str, str]:
    """What a model was made with."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"plada": __version__, "python": platform.python_version()}
    for name in ("torch", "timm", "numpy", "pillow"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def payload_digest(payload: Payload) -> str:
    """BLAKE3 over what a payload says (positions, labels, classes, reference), hex; however it was coded."""
    names = json.dumps([payload.classes, payload.reference, payload.key_id.hex(), payload.content_id.hex()])
    whole = blake3(names.encode())
    whole.update(payload.positions.astype("<i8").tobytes())
    whole.update(payload.labels.astype("<i8").tobytes())
    return whole.hexdigest(16)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSummary:
    """What `plada train` did; the fields of its --json summary. `accuracy` is on the target's test images, `evaluation`
    says more of it. `added` images were not in the payload (`widen`). `left_out` images could not be decoded; `changed` are the keys of those missing or changed that were
    skipped; `emptied` classes had images and have none left. `finished_before`: the model was there already."""

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
    target_note: str  # as the note of plada.sources.targets.target.Target
    model: str | None
    finished_before: bool
    processes: int
    payload: str
    reference: str
    same_content: bool
    seconds: Mapping[str, float]
    segments: tuple[int, int] | None = None  # (whole, in all) of a progressive payload
    serial: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        tested = self.evaluation.to_dict() if self.evaluation is not None else None
        return {**asdict(replace(self, evaluation=None)), "evaluation": tested}


def evaluate(
    network: Network, split: Split, *, stage: str, device: str | None = None, report: Report = silent
) -> float:
    """Accuracy on a split whose classes are the network's, in the same order; unreadable images do not count.

    Raises:
        DataError: none can be read.
    """

    def logits_of(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return predict(network, pixels, device=device)

    return evaluate_split(logits_of, view_of(network), split, stage=stage, report=report).accuracy


def check_classes(
    own: tuple[str, ...], target_classes: tuple[str, ...], target: str, whose: str = "the payload's"
) -> None:
    """Refuse to test on a target of other classes, which would give a number without meaning.

    Raises:
        DataError: names or order differ.
    """
    if own != target_classes:
        raise DataError(
            f"target {target}: its {len(target_classes)} classes ({_some(target_classes)}) are not {whose} "
            f"{len(own)} ({_some(own)}), in this order. Test on the target that it is for"
        )


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
