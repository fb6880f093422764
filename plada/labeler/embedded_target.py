"""A target's images as the index's encoder sees them."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from plada.common.arrays import F32, I64
from plada.common.progress import Report, Tracker
from plada.encoders.encoder import Encoder
from plada.errors import DataError
from plada.labeler.embedding_cache import identity_of, load_embeddings, save_embeddings, split_digest
from plada.sources.decode import load_pixels
from plada.sources.targets.target import Split, Target

_NAMED = 3  # unreadable images whose keys are kept


@dataclass(frozen=True, slots=True)
class EmbeddedSplit:
    """Readable images of a split: vectors float32 [n, d], labels int64 [n]. `left_out` images could not be read; `readable`
    bool [images of the split] says which could, None where nobody asked; `lost` are keys of the first that could not."""

    vectors: F32
    labels: I64
    left_out: int
    readable: npt.NDArray[np.bool_] | None = None
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EmbeddedTarget:
    """The target's splits; `test` is None where the target has none. `known` are train images, then validation images: all that the
    server may learn from. The vectors of these three are one array: of a million images they take gigabytes."""

    train: EmbeddedSplit
    validation: EmbeddedSplit
    test: EmbeddedSplit | None = None
    known: EmbeddedSplit = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        first, second = self.train, self.validation
        if len(first.labels) and len(second.labels):
            vectors = np.concatenate([first.vectors, second.vectors])
        else:
            vectors = first.vectors if len(first.labels) else second.vectors
        labels, left_out = np.concatenate([first.labels, second.labels]), first.left_out + second.left_out
        place = object.__setattr__
        place(self, "known", EmbeddedSplit(vectors, labels, left_out))
        place(self, "train", replace(first, vectors=vectors[: len(first.labels)]))
        place(self, "validation", replace(second, vectors=vectors[len(first.labels) :]))


def embed_target(encoder: Encoder, target: Target, *, report: Report, cache: Path | None = None) -> EmbeddedTarget:
    """Embeddings of all splits of a target; see embed_split.

    Raises:
        DataError: no image of a split can be read.
    """
    return EmbeddedTarget(
        embed_split(encoder, target.train, stage="train images", report=report, cache=cache),
        embed_split(encoder, target.validation, stage="validation images", report=report, cache=cache),
        embed_split(encoder, target.test, stage="test images", report=report, cache=cache) if target.test else None,
    )


def embed_split(
    encoder: Encoder, split: Split, *, stage: str, report: Report, batch_size: int = 64, cache: Path | None = None
) -> EmbeddedSplit:
    """Embeddings of a target's images by the index's encoder; taken from the folder `cache`, or kept there, if given.

    Raises:
        DataError: no image of the split can be read.
    """
    digest, path = "", None
    if cache is not None and len(split):
        digest = split_digest(split, identity_of(encoder.config))
        path = cache / f"{digest[:32]}.npz"
        say = Tracker(stage, len(split), report).say
        kept = load_embeddings(path, digest, images=len(split), dimension=encoder.config.dimension, say=say)
        if kept is not None:
            return _embedded(split, *kept)
    parts: list[F32] = [np.zeros((0, encoder.config.dimension), np.float32)]
    flags: list[npt.NDArray[np.bool_]] = [np.zeros(0, np.bool_)]
    tracker = Tracker(stage, len(split), report)
    for start in range(0, len(split), batch_size):
        rows = split.positions[start : start + batch_size]
        pixels, seen = load_pixels(split.collection.read, rows, encoder.view, stage=stage)
        flags.append(seen)
        if seen.any():
            parts.append(encoder.encode(pixels[seen]))
        tracker.advance(len(seen))
    vectors, readable = np.concatenate(parts), np.concatenate(flags)
    if len(split) and not readable.any():
        raise DataError(f"{split.collection.location}: none of {len(split)} images can be read")
    if path is not None:
        save_embeddings(path, digest, vectors, readable)
    return _embedded(split, vectors, readable)


def _embedded(split: Split, vectors: F32, readable: npt.NDArray[np.bool_]) -> EmbeddedSplit:
    lost = np.flatnonzero(~readable)
    first = tuple(str(split.collection.keys[int(split.positions[row])]) for row in lost[:_NAMED])
    return EmbeddedSplit(vectors, split.labels[readable], len(lost), readable, first)


def check_every_class(target: Target, train: EmbeddedSplit) -> None:
    """Refuse a target that no teacher can learn whole.

    Raises:
        DataError: a class without a readable training image.
    """
    if not len(train.labels):
        raise DataError(
            f"target {target.name}: has no training images, and this teacher learns from them. Take --teacher zeroshot, or "
            "a target with images"
        )
    missing = np.flatnonzero(np.bincount(train.labels, minlength=len(target.classes)) == 0)
    if len(missing):
        raise DataError(
            f"target {target.name}: class '{target.classes[missing[0]]}' has no readable training image. "
            "Add one, or leave the class out"
        )
