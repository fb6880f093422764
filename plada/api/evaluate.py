"""`plada evaluate` as a Python call: what a trained model is worth on a target."""

from pathlib import Path

from plada.common.files import home_directory
from plada.common.progress import Report, silent
from plada.reports.plots import confusion_picture
from plada.trainer.model import ModelEvaluation, evaluate_model


def evaluate(
    model: str | Path,
    *,
    target: str | Path,
    confusion: str | Path | None = None,
    weights: str | Path | None = None,
    device: str | None = None,
    home: str | Path | None = None,
    report: Report = silent,
) -> ModelEvaluation:
    """A model on the test images of a target of the same classes: accuracy with its interval, each class, what is taken for
    what (`confusion`: as a PNG, too), and calibration.

    Raises:
        RequestError: a target without test images. DataError: of other classes. Others as `load_model` raises.
    """
    found = evaluate_model(model, target, weights=weights, device=device, home=home_directory(home), report=report)
    if confusion is not None:
        names = tuple(each.name for each in found.evaluation.classes)
        title = f"{Path(model).name} on {found.target}"
        confusion_picture(names, found.evaluation.confusion, Path(confusion), title=title)
    return found
