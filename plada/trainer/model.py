"""A trained model, whatever made it: what it says of pixels, and what it is worth on a target."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plada.common.packages import require
from plada.common.progress import Report, silent
from plada.errors import RequestError
from plada.networks.loop import predict as network_logits
from plada.networks.network import view_of
from plada.sources.decode import View
from plada.sources.registry import open_target
from plada.trainer.evaluation import Evaluation, evaluate_split
from plada.trainer.linear_student import LinearStudent, load_linear
from plada.trainer.student import Student, check_classes, load_student, read_card


@dataclass(frozen=True, slots=True)
class Model:
    """A trained model: class names, how it wants its images, and `logits` float32 [n, classes] of pixels uint8
    [n, size, size, 3]; `card` is what its file says."""

    classes: tuple[str, ...]
    view: View
    logits: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
    card: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ModelEvaluation:
    """What `plada evaluate` found: the model, the target, and the evaluation on its test images."""

    model: str
    target: str
    evaluation: Evaluation
    target_note: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; the accuracy once more at the top, where `train` has it."""
        return {
            "model": self.model,
            "target": self.target,
            "evaluation": self.evaluation.to_dict(),
            "target_note": self.target_note,
            "accuracy": self.evaluation.accuracy,
        }


def load_model(path: str | Path, *, weights: str | Path | None = None, device: str | None = None) -> Model:
    """A model that `plada train` wrote. `weights`: where the encoder of a linear student is now, if it has moved.

    Raises:
        RequestError: no such file. DataError: not such a model, or damaged. ReferenceMismatch: another encoder.
    """

    card = read_card(Path(path))
    require("torch", extra="client", purpose="a model")
    if card["network"] == "linear":
        return model_of(load_linear(Path(path), card, weights, device), device, card)
    return model_of(load_student(Path(path)), device, card)


def model_of(trained: Student | LinearStudent, device: str | None, card: Mapping[str, Any] | None = None) -> Model:
    """A student just trained, as a model."""

    if isinstance(trained, Student):
        network = trained.network
        return Model(
            trained.classes,
            view_of(network),
            lambda pixels: network_logits(network, pixels, device=device),
            card or {},
        )
    return Model(trained.classes, trained.encoder.view, trained.logits, card or {})


def evaluate_model(
    path: str | Path,
    target: str | Path,
    *,
    weights: str | Path | None = None,
    device: str | None = None,
    home: Path,
    report: Report = silent,
) -> ModelEvaluation:
    """A trained model on the test images of a target of the same classes.

    Raises:
        RequestError: a target without test images. DataError: of other classes. Others as `load_model` raises.
    """
    task = open_target(target, home)
    loaded = load_model(path, weights=weights, device=device)
    check_classes(loaded.classes, task.classes, task.name, whose="the model's")
    if task.test is None:
        raise RequestError(f"target {task.name}: has no test images. Add a folder test/CLASS/, or name another target")
    evaluation = evaluate_split(loaded.logits, loaded.view, task.test, loaded.classes, report=report)
    return ModelEvaluation(str(path), task.name, evaluation, task.note)
