"""`plada evaluate` as a Python call."""

from pathlib import Path

from plada.common.files import home_directory
from plada.common.progress import Report, silent, with_heartbeat
from plada.reports.plots import MAX_SIDE, confusion_picture
from plada.trainer.model import ModelEvaluation, evaluate_model


@with_heartbeat
def evaluate(
    model: str | Path,
    *,
    target: str | Path,
    confusion: str | Path | None = None,
    weights: str | Path | None = None,
    held_out: bool = False,
    adapt: str | Path | None = None,
    device: str | None = None,
    home: str | Path | None = None,
    report: Report = silent,
) -> ModelEvaluation:
    """Test a trained model on the test images of a target.

    Args:
        model: A model that `train` wrote.
        target: A registered name, or a folder with test/CLASS, or with CLASS alone. Its classes are the model's, or some of
            them, by name.
        confusion: PNG file for the confusion matrix.
        held_out: Of a folder of CLASS alone, test on the fifth that `select` and `train` hold out; else on all images.
        adapt: A folder of your own unlabelled pictures, whose classes are about as frequent as in use: they correct the class
            prior, where that is surely another one (docs/clients.md). Pictures of the test may be among them.
        weights: Where the encoder of a linear student is now, if it has moved.
        device: torch's name of a device; None stands for a GPU if there is one.
        home: Where registered targets are kept.
        report: Called with progress.

    Returns:
        Accuracy with its 95 % interval, the result of each class, the confusion matrix, calibration, and what `adapt` found.

    Raises:
        RequestError: There is no such model, the target has no test images, or `adapt` is no folder with a picture.
        DataError: The file is no model or damaged, the target has a class that is not the model's, or no picture of `adapt`
            can be read.
        ReferenceMismatch: The encoder of a linear student is not the same any more.

    Examples:
        >>> import plada
        >>> result = plada.evaluate("student", target="digits")
        >>> result.evaluation.accuracy > 0.8
        True
    """
    result = evaluate_model(
        model,
        target,
        weights=weights,
        device=device,
        held_out=held_out,
        adapt=adapt,
        home=home_directory(home),
        report=report,
    )
    if confusion is not None:
        names = [each.name for each in result.evaluation.classes]
        title = f"{Path(model).name} on {result.target}"
        confusion_picture(names, result.evaluation.binned_confusion(MAX_SIDE), Path(confusion), title=title)
    return result
