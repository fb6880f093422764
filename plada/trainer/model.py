"""Trained models of any kind: loaded from their files, asked about pictures, and tested on targets."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from plada.common.arrays import F32, F64, U8
from plada.common.machine import cores
from plada.common.packages import require
from plada.common.progress import Report, silent
from plada.common.statistics import softmax
from plada.errors import DataError, RequestError, Unreadable
from plada.sources.decode import View
from plada.trainer.adaptation import Adaptation, AdaptedModel, adapt_model
from plada.trainer.evaluation import Evaluation, evaluate_split
from plada.trainer.evaluation_images import open_test, with_classes
from plada.trainer.linear_student import load_linear_student
from plada.trainer.model_file import check_model, read_card
from plada.trainer.network_student import load_network_student
from plada.trainer.pictures import Picture, is_one, pictures_of
from plada.trainer.run import LINEAR, TrainedStudent

_BATCH = 64
_SHOWN, _LONGEST = 5, 80  # names of classes, and letters, of what is shown of a model


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


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says of one picture.

    Attributes:
        image: Path or URL of the picture; `image 3` for the fourth of those that have none.
        best: The best classes with their probabilities, best first; empty where the picture cannot be read.
        problem: Why it cannot be read.
    """

    image: str
    best: tuple[tuple[str, float], ...]
    problem: str = ""

    @property
    def label(self) -> str | None:
        """The most probable class; None where the picture cannot be read."""
        return self.best[0][0] if self.best else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        classes = [{"class": name, "probability": round(value, 6)} for name, value in self.best]
        return {"image": self.image, "classes": classes, **({"problem": self.problem} if self.problem else {})}


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Model:
    """A trained model, which predicts pictures of every kind; `plada.load_model` and `plada.train` give one.

    Attributes:
        student: The network, or the linear head with its encoder.
        name: Where it was loaded from, or the name of its network.

    Examples:
        >>> import numpy as np
        >>> import plada
        >>> model = plada.load_model("model.safetensors")
        >>> prediction = model.predict("photo.png")
        >>> prediction.label in model.classes
        True
        >>> [each.label for each in model.stream(["photo.png"])] == [prediction.label]
        True
        >>> model.probabilities(["photo.png"]).shape == (1, len(model.classes))
        True
        >>> model.logits(np.zeros((2, model.view.size, model.view.size, 3), np.uint8)).shape
        (2, 10)
        >>> model.adapt("pool").adaptation is None
        False
        >>> model.save("copy.safetensors")
    """

    student: TrainedStudent
    name: str

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.student.classes

    @property
    def view(self) -> View:
        """How the network wants its images."""
        return self.student.view

    def __repr__(self) -> str:
        names = ", ".join(self.classes[:_SHOWN]) + (", ..." if len(self.classes) > _SHOWN else "")
        return f"<Model {self.name[-_LONGEST:]}: {len(self.classes)} classes ({names[:_LONGEST]}), {self.view.size} px>"

    def predict(self, images: Any, *, top: int = 3) -> Any:
        """Classify pictures.

        Args:
            images: A picture: its path or URL, a PIL image, or an array uint8 [h, w, 3] or [h, w]; of a tensor also [3, h, w]. Or
                several: a folder, a wildcard, an array [n, h, w, 3], or a list of any of these.
            top: Number of classes for each picture.

        Returns:
            A `Prediction` for one picture, a list of them for several. A picture that cannot be decoded says so.

        Raises:
            RequestError: A file is missing, there is no picture, an array is none, or `top` is below 1.
            DataError: The model's answers are not finite.
        """
        found = list(self.stream(images, top=top))
        return found[0] if is_one(images) and len(found) == 1 else found

    def stream(self, images: Any, *, top: int = 3) -> Iterator[Prediction]:
        """Classify pictures one after another, however many there are: a batch is held at a time.

        Args:
            images: As for `predict`; a generator is asked for a batch when it is needed.
            top: Number of classes for each picture.

        Returns:
            An iterator over the predictions, in order.

        Raises:
            RequestError: As `predict`, some of it only when the picture is reached.
            DataError: The model's answers are not finite.
        """
        if top < 1:
            raise RequestError(f"top = {top}: expected 1 or more classes")
        return self._predictions(images, top)

    def probabilities(self, images: Any) -> F64:
        """Give the probability of every class.

        Args:
            images: As for `predict`.

        Returns:
            float64 [pictures, classes], also for one picture.

        Raises:
            DataError: A picture cannot be decoded; it is named. The model's answers are not finite.
            RequestError: As `predict`.
        """
        parts = []
        for batch, shares in self._shares(images):
            bad = next(((picture, problem) for picture, problem in batch if problem), None)
            if bad is not None:
                raise DataError(
                    f"{bad[0].name}: cannot be read ({bad[1]}). Leave it out, or take `predict`, which goes on"
                )
            parts.append(shares)
        return np.concatenate(parts)

    @property
    def adaptation(self) -> Adaptation | None:
        """What the pictures that it was adapted to say of the classes; None for a model as it was trained."""
        return self.student.adaptation if isinstance(self.student, AdaptedModel) else None

    def adapt(self, pool: str | Path, *, report: Report = silent) -> "Model":
        """Correct the class prior by unlabelled pictures, where their classes are surely more or less frequent than expected.

        Args:
            pool: A folder of pictures whose classes are about as frequent as in those that will be asked about.
            report: Called with progress.

        Returns:
            Another model, whose `adaptation` says what was found; its answers are those of this one where nothing pays.

        Raises:
            RequestError: There is no such folder, or no picture in it.
            DataError: None of them can be read, or the model's answers are not finite.
        """
        return Model(adapt_model(self.student, pool, report=report), self.name)

    def logits(self, pixels: U8) -> F32:
        """Give the network's raw answers.

        Args:
            pixels: uint8 [n, size, size, 3], as `view` makes them.

        Returns:
            float32 [n, classes].
        """
        return self.student.logits(pixels)

    def save(self, path: str | Path) -> None:
        """Write the model as a safetensors file, which `plada.load_model` reads.

        Args:
            path: The file, replaced if it is there.

        Raises:
            ResourceError: The disk is full or not writable.
        """
        self.student.save(Path(path))

    def _predictions(self, images: Any, top: int) -> Iterator[Prediction]:
        for batch, shares in self._shares(images):
            rows = iter(shares)
            for picture, problem in batch:
                best: tuple[tuple[str, float], ...] = ()
                if not problem:
                    share = next(rows)
                    order = np.argsort(-share, kind="stable")[:top]
                    best = tuple((self.classes[label], float(share[label])) for label in order)
                yield Prediction(picture.name, best, problem)

    def _shares(self, images: Any) -> Iterator[tuple[list[tuple[Picture, str]], F64]]:
        """Of each batch its pictures with what is wrong with them, and probabilities [readable, classes]."""
        pictures, some = pictures_of(images), False
        with ThreadPoolExecutor(cores()) as pool:
            while batch := list(islice(pictures, _BATCH)):
                some = True
                loaded = list(pool.map(self._pixels, batch))
                pixels = [each for each, _ in loaded if each is not None]
                logits = self.logits(np.stack(pixels)) if pixels else np.zeros((0, len(self.classes)), np.float32)
                if not np.isfinite(logits).all():
                    raise DataError(f"{self.name}: its answers are not finite numbers. Train it again")
                problems = [problem for _, problem in loaded]
                yield list(zip(batch, problems, strict=True)), softmax(logits.astype(np.float64))
        if not some:
            raise RequestError("predict: no picture was named. Name files, folders, wildcards or URLs")

    def _pixels(self, picture: Picture) -> tuple[U8 | None, str]:
        try:
            return self.view.of(picture.load()), ""
        except Unreadable as err:
            return None, str(err)


def load_model(path: str | Path, *, weights: str | Path | None = None, device: str | None = None) -> Model:
    """Load a model that `train` wrote.

    Args:
        path: The file.
        weights: Where the encoder of a linear student is now, if it has moved.
        device: torch's name of where it runs; None stands for a GPU if there is one.

    Returns:
        The model.

    Raises:
        RequestError: There is no such file.
        DataError: It is not such a model, or damaged.
        ReferenceMismatch: The encoder of a linear student is not the same any more.

    Examples:
        >>> import plada
        >>> model = plada.load_model("student")
        >>> len(model.classes)
        10
    """
    linear = read_card(Path(path))["network"] == LINEAR
    check_model(Path(path))
    require("torch", extra="client", purpose="a model")
    if linear:
        return Model(load_linear_student(Path(path), weights=weights, device=device), str(path))
    return Model(load_network_student(Path(path), device), str(path))


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
    if adapt is not None:
        model = model.adapt(adapt, report=report)
    evaluation = evaluate_split(model.logits, model.view, task.test, model.classes, report=report)
    return ModelEvaluation(str(path), task.name, evaluation, task.note, model.adaptation)
