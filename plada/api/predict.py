"""`plada predict` as a Python call."""

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, overload

import pyarrow as pa
import pyarrow.parquet as pq

from plada.common.files import whole_file
from plada.common.outputs import check_outputs
from plada.common.progress import Report, Tracker, silent, with_heartbeat
from plada.common.summary import Summary
from plada.common.text import csv_cell
from plada.errors import RequestError
from plada.trainer.adaptation import Adaptation
from plada.trainer.model import Model, Prediction, load_model

_ROWS = 4096  # of a row group, which is held until it is written
FORMS = (".csv", ".parquet")


@dataclass(frozen=True, slots=True)
class PredictionFile(Summary):
    """What `predict` wrote to a file.

    Attributes:
        out: The file.
        images: Pictures in it.
        unreadable: Pictures among them that could not be read.
        example: The first of these, and the reason; empty where there is none.
        adaptation: What the pictures of `adapt` say of the classes; None without.
    """

    out: str
    images: int
    unreadable: int
    example: str = ""
    adaptation: Adaptation | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        said = self.adaptation.to_dict() if self.adaptation is not None else None
        return {**asdict(replace(self, adaptation=None)), "adaptation": said}


class Predictions(list[Prediction]):
    """What a model says of several pictures, in order; `adaptation` is what the pictures of `adapt` say of the classes, None without."""

    adaptation: Adaptation | None = None


@overload
def predict(
    images: Any,
    *,
    model: str | Path | Model,
    top: int = 3,
    adapt: str | Path | None = None,
    out: None = None,
    weights: str | Path | None = None,
    device: str | None = None,
    report: Report = silent,
) -> Predictions: ...


@overload
def predict(
    images: Any,
    *,
    model: str | Path | Model,
    top: int = 3,
    adapt: str | Path | None = None,
    out: str | Path,
    weights: str | Path | None = None,
    device: str | None = None,
    report: Report = silent,
) -> PredictionFile: ...


@with_heartbeat
def predict(
    images: Any,
    *,
    model: str | Path | Model,
    top: int = 3,
    adapt: str | Path | None = None,
    out: str | Path | None = None,
    weights: str | Path | None = None,
    device: str | None = None,
    report: Report = silent,
) -> Predictions | PredictionFile:
    """Classify pictures with a trained model.

    With `out` any number of pictures can be classified: a batch of them is held in memory at a time. `Model.stream` does the same
    without a file.

    Args:
        images: A picture, or several: paths, folders, wildcards, URLs, PIL images, arrays (`Model.predict`).
        model: A model that `train` wrote, or that is loaded.
        top: Number of classes for each picture.
        adapt: A folder of your own unlabelled pictures, whose classes are about as frequent as in `images`: they correct the class
            prior, where that is surely another one (docs/clients.md). It may hold `images` themselves.
        out: A .csv or .parquet file to write: image, class, probability, class_2, probability_2, ..., problem.
        weights: Where the encoder of a linear student is now, if it has moved.
        device: torch's name of a device; None stands for a GPU if there is one.
        report: Called with progress.

    Returns:
        The `top` most probable classes of each picture, in the order given; with `out`, how many were written. A picture that cannot
        be decoded says so. `adaptation` has the estimated shares of the classes.

    Raises:
        RequestError: A file is missing, there is no picture, also in `adapt`, `top` is below 1, or `out` has another ending.
        DataError: The file is no model, or damaged, or its answers are not finite, or no picture of `adapt` can be read.
        ReferenceMismatch: The encoder of a linear student is not the same any more.
        ResourceError: The disk is full or not writable.

    Examples:
        >>> import plada
        >>> first = next(iter(plada.predict("pictures", model="student", top=1)))
        >>> Path(first.image).name
        '0.png'
    """
    if out is not None and Path(out).suffix.lower() not in FORMS:
        raise RequestError(f"{out}: expected a file ending in {' or '.join(FORMS)}. Name another")
    check_outputs(out)
    loaded = model if isinstance(model, Model) else load_model(model, weights=weights, device=device)
    if adapt is not None:
        loaded = loaded.adapt(adapt, report=report)
    predictions = _counted(loaded.stream(images, top=top), Tracker("predict", None, report))
    if out is None:
        answers = Predictions(predictions)
        answers.adaptation = loaded.adaptation
        return answers
    count, unreadable, example = 0, 0, ""
    with _writer(Path(out), min(top, len(loaded.classes))) as write:
        for prediction in predictions:
            write(prediction)
            count += 1
            unreadable += bool(prediction.problem)
            if prediction.problem and not example:
                example = f"{prediction.image} ({prediction.problem})"
    return PredictionFile(str(out), count, unreadable, example, loaded.adaptation)


def _counted(predictions: Iterator[Prediction], tracker: Tracker) -> Iterator[Prediction]:
    for prediction in predictions:
        tracker.advance()
        yield prediction


def _columns(top: int) -> dict[str, Any]:
    """Names and types of the columns of a file."""
    best: dict[str, Any] = {}
    for number in range(1, top + 1):
        ending = f"_{number}" if number > 1 else ""
        best |= {f"class{ending}": pa.string(), f"probability{ending}": pa.float64()}
    return {"image": pa.string(), **best, "problem": pa.string()}


def _row(prediction: Prediction, top: int) -> list[Any]:
    best = [value for pair in prediction.best for value in pair]
    name = prediction.image.encode(errors="backslashreplace").decode()  # a file's name need not be text
    return [name, *best, *[None] * (2 * top - len(best)), prediction.problem or None]


@contextmanager
def _writer(path: Path, top: int) -> Iterator[Callable[[Prediction], None]]:
    """A function that writes a prediction to a file, which is whole at the end or not there."""
    columns = _columns(top)
    with whole_file(path) as part:
        if path.suffix.lower() == ".csv":
            with part.open("w", newline="", encoding="utf-8") as file:
                table = csv.writer(file)
                table.writerow(columns)

                def line(prediction: Prediction) -> None:
                    values = _row(prediction, top)
                    table.writerow([csv_cell(each) if isinstance(each, str) else each for each in values])

                yield line
            return
        schema, waiting = pa.schema(list(columns.items())), list[list[Any]]()
        with pq.ParquetWriter(part, schema, compression="zstd") as writer:

            def flush() -> None:
                columns = [
                    pa.array(column, kind)
                    for column, kind in zip(zip(*waiting, strict=True), schema.types, strict=True)
                ]
                writer.write_table(pa.table(columns, schema=schema))
                waiting.clear()

            def keep(prediction: Prediction) -> None:
                waiting.append(_row(prediction, top))
                if len(waiting) == _ROWS:
                    flush()

            yield keep
            if waiting:
                flush()
