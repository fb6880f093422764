"""A student: what a client trains, tests and keeps."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from plada.errors import DataError
from plada.files import whole_file
from plada.networks import Network
from plada.progress import Report, Tracker, silent
from plada.sources.decode import View, load_pixels
from plada.sources.targets import Split
from plada.trainer.loop import predict
from plada.trainer.recipe import Recipe

_BLOCK = 1024  # test images in memory at a time


@dataclass(frozen=True, slots=True)
class Student:
    """A trained network with the names of its classes and the recipe it was trained by."""

    network: Network
    classes: tuple[str, ...]
    recipe: Recipe

    def save(self, path: Path) -> None:
        """Write weights as safetensors; its metadata tell how to build the network and read its answers."""
        import safetensors.torch

        card = {
            "network": self.network.name,
            "size": self.network.size,
            "crop": self.network.crop,
            "interpolation": self.network.interpolation,
            "mean": self.network.mean,
            "std": self.network.std,
            "classes": self.classes,
            "recipe": asdict(self.recipe),
        }
        state = {name: tensor.cpu().contiguous() for name, tensor in self.network.module.state_dict().items()}
        with whole_file(path) as part:
            safetensors.torch.save_file(state, part, metadata={"plada": json.dumps(card, sort_keys=True)})


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSummary:
    """What `plada train` did; the fields of its --json summary. `accuracy` is on the target's test images."""

    student: str
    images: int
    classes: int
    epochs: int
    seed: int
    target: str | None
    accuracy: float | None
    target_note: str  # as the note of plada.sources.targets.Target
    model: str | None
    reference: str
    same_content: bool
    seconds: Mapping[str, float]
    segments: tuple[int, int] | None = None  # (whole, in all) of a progressive payload
    serial: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def view_of(network: Network, *, supersample: int = 1) -> View:
    """How a network wants its images; for training, `supersample` times as large as it sees them."""
    return View(size=network.size * supersample, crop=network.crop, interpolation=network.interpolation)


def evaluate(
    network: Network, split: Split, *, stage: str, device: str | None = None, report: Report = silent
) -> float:
    """Accuracy on a split whose classes are the network's, in the same order; unreadable images do not count.

    Raises:
        DataError: none can be read.
    """
    view, tracker = view_of(network), Tracker(stage, len(split), report)
    right = seen = 0
    for start in range(0, len(split), _BLOCK):
        rows = slice(start, start + _BLOCK)
        pixels, readable = load_pixels(split.collection.read, split.positions[rows], view, stage=stage)
        if readable.any():
            answers = predict(network, pixels[readable], device=device).argmax(axis=1)
            right += int((answers == split.labels[rows][readable]).sum())
            seen += len(answers)
        tracker.advance(len(readable))
    if not seen:
        raise DataError(f"{split.collection.location}: none of {len(split)} images can be read")
    return right / seen


def check_classes(payload_classes: tuple[str, ...], target_classes: tuple[str, ...], target: str) -> None:
    """Refuse to test on a target of other classes, which would give a number without meaning.

    Raises:
        DataError: names or order differ.
    """
    if payload_classes != target_classes:
        raise DataError(
            f"target {target}: its {len(target_classes)} classes ({_some(target_classes)}) are not the payload's "
            f"{len(payload_classes)} ({_some(payload_classes)}), in this order. Test on the target that the payload is for"
        )


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
