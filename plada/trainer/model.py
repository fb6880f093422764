"""Trained models of any kind: loaded from their files, and tested on targets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plada.common.packages import require
from plada.common.progress import Report, silent
from plada.errors import RequestError
from plada.trainer.adaptation import Adaptation, adapt_model
from plada.trainer.evaluation import Evaluation, evaluate_split
from plada.trainer.evaluation_images import open_test, with_classes
from plada.trainer.linear_student import load_linear_student
from plada.trainer.model_file import check_model, read_card
from plada.trainer.network_student import load_network_student
from plada.trainer.run import LINEAR, TrainedStudent


@dataclass(frozen=True, slots=True)
class ModelEvaluation:
    """What `plada.evaluate` measured.

    Attributes:
        model: Path of the model.
        target: Name of the target.
        evaluation: The evaluation on the target's test images.
        target_note: How the target was split.
        adaptation: What the pictures of `adapt` say of the classes; None without.
    """

    model: str
    target: str
    evaluation: Evaluation
    target_note: str
    adaptation: Adaptation | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; the accuracy also stands at the top, as in `TrainingSummary`."""
        return {
            "model": self.model,
            "target": self.target,
            "evaluation": self.evaluation.to_dict(),
            "target_note": self.target_note,
            "accuracy": self.evaluation.accuracy,
            "adaptation": self.adaptation.to_dict() if self.adaptation is not None else None,
        }


def load_model(path: str | Path, *, weights: str | Path | None = None, device: str | None = None) -> TrainedStudent:
    """A model that `plada train` wrote. `weights`: where the encoder of a linear student is now, if it has moved.
    Raises RequestError: no such file. DataError: not such a model, or damaged. ReferenceMismatch: another encoder."""
    linear = read_card(Path(path))["network"] == LINEAR
    check_model(Path(path))
    require("torch", extra="client", purpose="a model")
    if linear:
        return load_linear_student(Path(path), weights=weights, device=device)
    return load_network_student(Path(path), device)


def evaluate_model(
    path: str | Path,
    target: str | Path,
    *,
    weights: str | Path | None = None,
    device: str | None = None,
    held_out: bool = True,
    adapt: str | Path | None = None,
    home: Path,
    report: Report = silent,
) -> ModelEvaluation:
    """A trained model on the test images of a target, whose classes are found by name. `held_out` is as for `open_test`, `adapt` a
    folder of pictures that correct the class prior. Raises
    RequestError: a target without test images. DataError: with a class that is not the model's. Others as `load_model` raises."""
    task = open_test(target, home, held_out=held_out)
    model = load_model(path, weights=weights, device=device)
    task = with_classes(model.classes, task, whose="the model's")
    if task.test is None:
        raise RequestError(f"target {task.name}: has no test images. Add a folder test/CLASS/, or name another target")
    adaptation = None
    if adapt is not None:
        adapted = adapt_model(model, adapt, report=report)
        model, adaptation = adapted, adapted.adaptation
    evaluation = evaluate_split(model.logits, model.view, task.test, model.classes, report=report)
    return ModelEvaluation(str(path), task.name, evaluation, task.note, adaptation)
