"""A student: what a client trains, tests and keeps."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plada.errors import DataError
from plada.files import whole_file
from plada.networks import Network
from plada.payload.payload import Payload
from plada.progress import Report, silent
from plada.sources.decode import View, load_pixels
from plada.sources.reference import Reference
from plada.sources.targets import Split
from plada.trainer.loop import predict
from plada.trainer.recipe import Recipe


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
    model: str | None
    reference: str
    same_content: bool
    seconds: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def view_of(network: Network, *, supersample: int = 1) -> View:
    """How a network wants its images; for training, `supersample` times as large as it sees them."""
    return View(size=network.size * supersample, crop=network.crop, interpolation=network.interpolation)


def labelled_pixels(
    reference: Reference, payload: Payload, view: View, *, report: Report = silent
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The images that a payload names and their labels: pixels uint8 [k, size, size, 3], labels int64 [k].

    Every image is hashed again as it is read. Unreadable ones are left out.

    Raises:
        ReferenceMismatch: an image has changed. DataError: none can be read.
    """
    pixels, readable = load_pixels(reference.read, payload.positions, view, stage="read", report=report)
    if not readable.any():
        raise DataError(
            f"{reference.collection.location}: none of the {len(payload)} images of the payload can be read"
        )
    return pixels[readable], payload.labels[readable]


def split_pixels(
    split: Split, view: View, *, stage: str, report: Report = silent
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], int]:
    """Readable images of a target's split: (pixels uint8 [n, size, size, 3], labels int64 [n], images left out).

    Raises:
        DataError: none can be read.
    """
    pixels, readable = load_pixels(split.collection.read, split.positions, view, stage=stage, report=report)
    if not readable.any():
        raise DataError(f"{split.collection.location}: none of {len(split)} images can be read")
    return pixels[readable], split.labels[readable], int((~readable).sum())


def evaluate(student: Student, split: Split, *, device: str | None = None, report: Report = silent) -> float:
    """Accuracy on a split whose classes are the student's, in the student's order."""
    pixels, labels, _ = split_pixels(split, view_of(student.network), stage="test", report=report)
    return float((predict(student.network, pixels, device=device).argmax(axis=1) == labels).mean())


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
