"""`plada predict` and `plada evaluate`: what a trained model says of pictures, and what it is worth on a target."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plada.common.progress import Report, Tracker, silent
from plada.common.statistics import softmax
from plada.errors import RequestError, Unreadable
from plada.sources.collection import is_image_name
from plada.sources.decode import View, decode
from plada.trainer.model import load_model

_BATCH = 64


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
        shares = iter(softmax(loaded.logits(np.stack(pixels)).astype(np.float64)) if pixels else np.zeros((0, 0)))
        for path, seen, problem in batch:
            best: tuple[tuple[str, float], ...] = ()
            if seen is not None:
                share = next(shares)
                order = np.argsort(-share, kind="stable")[:top]
                best = tuple((loaded.classes[label], float(share[label])) for label in order)
            found.append(Prediction(str(path), best, problem))
        tracker.advance(len(batch))
    return found


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
