"""`plada predict` as a Python call."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from plada.common.arrays import F64, U8
from plada.common.progress import Report, Tracker, silent, with_heartbeat
from plada.common.statistics import softmax
from plada.errors import DataError, RequestError, Unreadable
from plada.sources.collection import is_image_name
from plada.sources.decode import View, decode
from plada.trainer.adaptation import Adaptation, adapt_model
from plada.trainer.model import load_model

_BATCH = 64
_STREAMS = (("/", "dev"), ("/", "proc"))  # where a shell names the pipes that it opened itself


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says of one picture.

    Attributes:
        image: Path of the picture.
        best: The best classes with their probabilities, best first; empty where the picture cannot be read.
        problem: Why it cannot be read.
    """

    image: str
    best: tuple[tuple[str, float], ...]
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        classes = [{"class": name, "probability": round(value, 6)} for name, value in self.best]
        return {"image": self.image, "classes": classes, **({"problem": self.problem} if self.problem else {})}


class Predictions(list[Prediction]):
    """What a model says of several pictures, in order; `adaptation` is what the pictures of `adapt` say of the classes, None without."""

    adaptation: Adaptation | None = None


@with_heartbeat
def predict(
    images: str | Path | Iterable[str | Path],
    *,
    model: str | Path,
    top: int = 3,
    adapt: str | Path | None = None,
    weights: str | Path | None = None,
    device: str | None = None,
    report: Report = silent,
) -> Predictions:
    """Classify pictures with a trained model.

    Args:
        images: Picture files, or folders of them.
        model: A model that `train` wrote.
        top: Number of classes for each picture.
        adapt: A folder of your own unlabelled pictures, whose classes are about as frequent as in `images`: they correct the class
            prior, where that is surely another one (docs/clients.md). It may hold `images` themselves.
        weights: Where the encoder of a linear student is now, if it has moved.
        device: torch's name of a device; None stands for a GPU if there is one.
        report: Called with progress.

    Returns:
        The `top` most probable classes of each picture, in the order given, a list. A picture that cannot be decoded says so. Its
        `adaptation` has the estimated shares of the classes.

    Raises:
        RequestError: A file is missing, there is no picture, also in `adapt`, or `top` is below 1.
        DataError: The file is no model, or damaged, or its answers are not finite, or no picture of `adapt` can be read.
        ReferenceMismatch: The encoder of a linear student is not the same any more.
    """
    if top < 1:
        raise RequestError(f"top = {top}: expected 1 or more classes")
    paths = _files([images] if isinstance(images, (str, Path)) else images)
    loaded, predictions = load_model(model, weights=weights, device=device), Predictions()
    if adapt is not None:
        adapted = adapt_model(loaded, adapt, report=report)
        loaded, predictions.adaptation = adapted, adapted.adaptation
    tracker = Tracker("predict", len(paths), report)
    for start in range(0, len(paths), _BATCH):
        batch = [(path, *_pixels(path, loaded.view)) for path in paths[start : start + _BATCH]]
        pixels = [image for _, image, _ in batch if image is not None]
        logits = loaded.logits(np.stack(pixels)) if pixels else np.zeros((0, 0), np.float32)
        if not np.isfinite(logits).all():
            raise DataError(f"{model}: its answers are not finite numbers. Train it again")
        shares: Iterator[F64] = iter(softmax(logits.astype(np.float64)) if pixels else ())
        for path, image, problem in batch:
            best: tuple[tuple[str, float], ...] = ()
            if image is not None:
                share = next(shares)
                order = np.argsort(-share, kind="stable")[:top]
                best = tuple((loaded.classes[label], float(share[label])) for label in order)
            predictions.append(Prediction(str(path), best, problem))
        tracker.advance(len(batch))
    return predictions


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


def _pixels(path: Path, view: View) -> tuple[U8 | None, str]:
    try:
        if path.is_fifo() and path.parts[:2] not in _STREAMS:
            return None, "a pipe, which may have no end; expected a file"
        return view.of(decode(path.read_bytes())), ""
    except Unreadable as err:
        return None, str(err)
    except OSError as err:
        return None, str(err.strerror)
