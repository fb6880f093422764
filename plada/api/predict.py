"""`plada predict` and `plada evaluate`: what a trained model says of pictures, and what it is worth on a target."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plada.common.files import home_directory
from plada.common.packages import require
from plada.common.progress import Report, Tracker, silent
from plada.errors import RequestError, Unreadable
from plada.networks.loop import predict as network_logits
from plada.reports.confusion import confusion_picture
from plada.sources.collection import is_image_name
from plada.sources.decode import View, decode
from plada.sources.registry import open_target
from plada.trainer.evaluation import Evaluation, evaluate_split, probabilities
from plada.trainer.linear_student import LinearStudent, load_linear
from plada.trainer.student import Student, check_classes, load_student, read_card, view_of

_BATCH = 64


@dataclass(frozen=True, slots=True)
class Model:
    """A trained model: class names, how it wants its images, and `logits` float32 [n, classes] of pixels uint8
    [n, size, size, 3]; `card` is what its file says."""

    classes: tuple[str, ...]
    view: View
    logits: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
    card: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says of one picture: the best classes with their probabilities, best first; `problem` where it cannot be
    read, and then no class."""

    image: str
    best: tuple[tuple[str, float], ...]
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        classes = [{"class": name, "probability": round(value, 6)} for name, value in self.best]
        return {"image": self.image, "classes": classes, **({"problem": self.problem} if self.problem else {})}


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


def predict(
    images: str | Path | Iterable[str | Path],
    *,
    model: str | Path,
    top: int = 3,
    weights: str | Path | None = None,
    device: str | None = None,
    report: Report = silent,
) -> list[Prediction]:
    """The `top` most probable classes of each picture file, in the order given; a folder stands for the images in it.

    Raises:
        RequestError: no such file, no picture, `top` below 1. Others as `load_model` raises. A picture that cannot be decoded
        is said in its prediction.
    """

    if top < 1:
        raise RequestError(f"top = {top}: expected 1 or more classes")
    paths = _files([images] if isinstance(images, (str, Path)) else images)
    loaded = load_model(model, weights=weights, device=device)
    tracker, found = Tracker("predict", len(paths), report), []
    for start in range(0, len(paths), _BATCH):
        batch = [(path, *_seen(path, loaded.view)) for path in paths[start : start + _BATCH]]
        pixels = [seen for _, seen, _ in batch if seen is not None]
        shares = iter(probabilities(loaded.logits(np.stack(pixels))) if pixels else np.zeros((0, 0)))
        for path, seen, problem in batch:
            best: tuple[tuple[str, float], ...] = ()
            if seen is not None:
                share = next(shares)
                order = np.argsort(-share, kind="stable")[:top]
                best = tuple((loaded.classes[label], float(share[label])) for label in order)
            found.append(Prediction(str(path), best, problem))
        tracker.advance(len(batch))
    return found


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

    task = open_target(target, home_directory(home))
    loaded = load_model(model, weights=weights, device=device)
    check_classes(loaded.classes, task.classes, task.name, whose="the model's")
    if task.test is None:
        raise RequestError(f"target {task.name}: has no test images. Add a folder test/CLASS/, or name another target")
    evaluation = evaluate_split(loaded.logits, loaded.view, task.test, loaded.classes, report=report)
    if confusion is not None:
        title = f"{Path(model).name} on {task.name}"
        confusion_picture(loaded.classes, evaluation.confusion, Path(confusion), title=title)
    return ModelEvaluation(str(model), task.name, evaluation, task.note)


def _files(images: Iterable[str | Path]) -> list[Path]:

    found: list[Path] = []
    for place in map(Path, images):
        if place.is_dir():
            found += sorted(path for path in place.rglob("*") if path.is_file() and is_image_name(path.name))
        elif place.exists():
            found.append(place)
        else:
            raise RequestError(f"{place}: no such picture")
    if not found:
        raise RequestError("predict: no picture was named, or the folder has none")
    return found


def _seen(path: Path, view: View) -> tuple[npt.NDArray[np.uint8] | None, str]:
    try:
        return view.of(decode(path.read_bytes())), ""
    except Unreadable as err:
        return None, str(err)
    except OSError as err:
        return None, str(err.strerror)
