"""The student `linear`: a linear head on embeddings that the client has, or makes. Here because encoders and indexes are of the
server's half, which the trainer may not import.

On the client's own index training takes seconds and no image is read. With an encoder alone the payload's images are
embedded.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plada.common.progress import Report, Tracker
from plada.encoders.encoder import Encoder, load_encoder, reload_encoder
from plada.encoders.spec import EncoderSpec
from plada.errors import DataError, RequestError, UnknownName, Unreadable
from plada.networks.linear_head import STUDENT_PENALTY, Head, fit_head
from plada.networks.network import read_safetensors
from plada.payload.payload import Payload
from plada.payload.soft import SoftLabels
from plada.retrieval.index import Index, indexes, indexes_that, open_index
from plada.sources.decode import decode
from plada.trainer.payload_images import Chosen
from plada.trainer.student import save_model

LINEAR = "linear"
_BATCH = 64


@dataclass(frozen=True, slots=True)
class LinearStudent:
    """A head on an encoder's embeddings, with the names of its classes and the run that made it."""

    encoder: Encoder
    head: Head
    classes: tuple[str, ...]
    run: Mapping[str, Any]

    def logits(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Logits float32 [n, classes] of pixels uint8 [n, size, size, 3] as the encoder's view makes them."""
        return self.head.logits(self.encoder.encode(pixels))

    def save(self, path: Path) -> None:
        """Write head and card as safetensors; the encoder is named in the card, not stored."""
        import torch

        state = {name: torch.from_numpy(np.array(getattr(self.head, name))) for name in ("mean", "weight", "bias")}
        encoder = {**asdict(self.encoder.config), "self_check": self.encoder.self_check()}
        card = {"network": LINEAR, "classes": self.classes, "run": dict(self.run), "encoder": encoder}
        save_model(path, state, card)


def load_linear(path: Path, card: Mapping[str, Any], weights: str | Path | None, device: str | None) -> LinearStudent:
    """A linear student as it was saved; `weights` is where its encoder's file is now, if it has moved.

    Raises:
        DataError: damaged. ReferenceMismatch: the encoder is not the same any more. RequestError: its weights are gone.
    """

    state = read_safetensors(path)
    if set(state) != {"mean", "weight", "bias"}:
        raise DataError(f"{path}: not a linear student (it holds {', '.join(sorted(state))})")
    head = Head(**{name: tensor.numpy() for name, tensor in state.items()})
    encoder = reload_encoder(card["encoder"], weights=weights, device=device)
    return LinearStudent(encoder, head, tuple(card["classes"]), card.get("run", {}))


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors float32 [k, d] and labels [k] of the payload's images, the mean to centre on, and the encoder; `name` says
    what they are from."""

    vectors: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    mean: npt.NDArray[np.float32]
    encoder: Encoder
    name: str


def embed_chosen(
    payload: Payload,
    chosen: Chosen,
    encoder: str | None,
    *,
    weights: str | Path | None,
    pretrained: bool,
    model_args: Mapping[str, Any] | None,
    image_size: int | None,
    device: str | None,
    home: Path,
    report: Report,
) -> Embeddings:
    """Embeddings of a payload's images: from an index of these images (`encoder` names it, or None for the first that fits),
    else by the encoder that `encoder` names.

    Raises:
        UnknownName: neither an index nor an encoder. RequestError: none is named and no index fits.
        ReferenceMismatch: the index is of other images. DataError: none of the images can be read.
    """

    def fits(opened: Index) -> bool:
        return bool(opened.info["content_id"] == chosen.manifest.content_id.hex())

    names = indexes(home)
    if encoder is None or encoder in names:
        named = [open_index(encoder, home=home)] if encoder else []
        index = next(filter(fits, named) if encoder else indexes_that(fits, home), None)
        if index is None:
            what = f"index '{encoder}' is of other images" if encoder else "no index here is of these images"
            raise RequestError(
                f"student {LINEAR}: {what}. Name an encoder instead (--encoder timm:... --weights FILE), or index the reference"
            )
        positions, labels = with_embedding(index, payload)
        return Embeddings(
            index.vectors(positions).astype(np.float32), labels, index.mean, index.encoder(weights, device), index.name
        )
    if encoder != "gradients" and not encoder.startswith(("timm:", "open_clip:")):
        raise UnknownName("index or encoder", encoder, [*names, "gradients", "timm:ARCH", "open_clip:ARCH/TAG"])
    spec = EncoderSpec(
        name=encoder, weights=weights, pretrained=pretrained, model_args=model_args or {}, image_size=image_size
    )
    loaded = load_encoder(spec, device=device)
    vectors, labels = _embed(payload, chosen, loaded, report)
    return Embeddings(vectors, labels, vectors.mean(axis=0), loaded, encoder)


def fit_linear(
    found: Embeddings,
    classes: tuple[str, ...],
    run: Mapping[str, Any],
    soft: SoftLabels | None = None,
    seed: int = 0,
) -> LinearStudent:
    """A multinomial logistic regression on the embeddings. No random choice is made, but for `soft` labels that are drawn:
    once for each image, by `seed`."""

    wanted = found.labels if soft is None else soft.targets(found.labels, seed)
    head = fit_head(found.vectors, wanted, classes=len(classes), mean=found.mean, penalty=STUDENT_PENALTY)
    return LinearStudent(found.encoder, head, classes, run)


def with_embedding(index: Any, payload: Payload) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Positions and labels of the payload's images that the index could read."""
    if not int(index.info["unreadable"]):
        return payload.positions, payload.labels
    kept = np.concatenate([np.intersect1d(positions, payload.positions) for positions, _ in index.scan()])
    if not len(kept):
        raise DataError(f"index '{index.name}': none of the payload's {len(payload)} images has an embedding")
    return kept, payload.labels[np.searchsorted(payload.positions, kept)]


def _embed(
    payload: Payload, chosen: Chosen, encoder: Encoder, report: Report
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    tracker = Tracker("embed", len(payload), report)
    vectors, labels = [], []
    for start in range(0, len(payload), _BATCH):
        pixels, kept = [], []
        for position, label in zip(payload.positions[start : start + _BATCH], payload.labels[start:], strict=False):
            try:
                pixels.append(encoder.view.of(decode(chosen.read(int(position)))))
                kept.append(label)
            except Unreadable:
                continue
        if pixels:
            vectors.append(encoder.encode(np.stack(pixels)))
            labels += kept
        tracker.advance(min(_BATCH, len(payload) - start))
    chosen.settle()
    if not labels:
        raise DataError(f"{chosen.location}: none of the {len(payload)} images can be read")
    return np.concatenate(vectors), np.asarray(labels, np.int64)
