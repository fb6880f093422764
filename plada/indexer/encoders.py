"""Encoders: images to L2-normalised embeddings. An index records its encoder so exactly that no other can stand in.

Names: `gradients` (built in, no weights) and `timm:ARCH` with `--weights FILE` or, on request, timm's own download.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plada.errors import DataError, ReferenceMismatch, RequestError, UnknownName
from plada.indexer import gradients
from plada.networks import build_network, file_digest, normalise, pick_device, to_device, to_floats
from plada.sources.decode import View

Encode = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
_SELF_CHECK = 0.999  # cosine that a fixed picture's embedding must keep; other hardware differs in the sixth digit


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """All that decides an embedding, as it is written into index.json.

    `weights` is where the file was (a hint), `digest` its SHA-256; both empty where there is none.
    """

    name: str
    dimension: int
    view: Mapping[str, Any]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    weights: str = ""
    digest: str = ""
    model_args: Mapping[str, Any]

    def identity(self) -> dict[str, Any]:
        """The part that must agree between two indexes of the same encoder: all but the place of the file."""
        return {name: value for name, value in asdict(self).items() if name != "weights"}


@dataclass(frozen=True, slots=True)
class Encoder:
    """`encode` takes uint8 [n, size, size, 3] as `view` makes them and gives float32 [n, dimension] of length one."""

    config: EncoderConfig
    view: View
    encode: Encode

    def self_check(self) -> list[float]:
        """Embedding of one fixed picture; kept in the index and compared whenever the encoder is loaded again."""
        size = self.view.size
        ramp = np.arange(size, dtype=np.int64)
        picture = (ramp[:, None, None] * 7 + ramp[None, :, None] * 13 + np.arange(3) * 59) * 255 // (20 * size + 118)
        return [float(value) for value in self.encode(picture.astype(np.uint8)[None])[0]]


def load_encoder(
    name: str,
    *,
    weights: str | Path | None = None,
    pretrained: bool = False,
    model_args: Mapping[str, Any] | None = None,
    image_size: int | None = None,
    device: str | None = None,
) -> Encoder:
    """An encoder by name; `image_size` is the side of the square it sees, `device` torch's name of where it runs.

    Raises:
        UnknownName: no such encoder.
        RequestError: options that do not fit; timm without weights.
        DataError: weights of another architecture.
    """
    arguments = dict(model_args or {})
    if name == "gradients":
        if weights or pretrained or arguments or image_size:
            raise RequestError("encoder gradients has no weights and no options")
        view = View(size=gradients.SIZE, mode="squash")
        config = EncoderConfig(name=name, dimension=gradients.DIMENSION, view=asdict(view), model_args={})
        return Encoder(config, view, gradients.embed)
    if not name.startswith("timm:"):
        hint = "timm:ARCH is any timm network, such as timm:mobilenetv2_100 with --weights FILE"
        raise UnknownName("encoder", name, ["gradients", "timm:ARCH"], hint=hint)
    if weights is None and not pretrained:
        raise RequestError(
            f"encoder {name}: give --weights FILE (safetensors), or --pretrained to let timm download the weights of "
            f"its tag; random weights are never used by accident"
        )
    return _timm_encoder(name, Path(weights) if weights else None, pretrained, arguments, image_size, device)


def _timm_encoder(
    name: str,
    weights: Path | None,
    pretrained: bool,
    arguments: dict[str, Any],
    image_size: int | None,
    device: str | None,
) -> Encoder:
    digest = file_digest(weights) if weights else ""
    network = build_network(
        name, classes=1, weights=weights, pretrained=pretrained, model_args=arguments, image_size=image_size
    )
    import torch

    where = pick_device(device)
    module: Any = to_device(network.module.eval(), where)

    def encode(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            batch = normalise(network, to_floats(pixels, where))
            with torch.autocast(where.type, torch.float16, enabled=where.type == "cuda"):
                features = module.forward_head(module.forward_features(batch), pre_logits=True)
            return np.asarray(torch.nn.functional.normalize(features.float().flatten(1), dim=1).cpu())

    view = View(size=network.size, crop=network.crop, interpolation=network.interpolation)
    dimension = encode(np.zeros((1, view.size, view.size, 3), np.uint8)).shape[1]
    config = EncoderConfig(
        name=name,
        dimension=dimension,
        view=asdict(view),
        mean=network.mean,
        std=network.std,
        weights=str(weights.absolute()) if weights else "",
        digest=digest,
        model_args=arguments,
    )
    return Encoder(config, view, encode)


def reload_encoder(
    saved: Mapping[str, Any], *, weights: str | Path | None = None, device: str | None = None
) -> Encoder:
    """The encoder of an index, from what index.json says of it; `weights` where the file lies now if it has moved.

    Raises:
        ReferenceMismatch: the weights or the embeddings they give are not those of the index.
        RequestError: the weights file is gone.
    """
    config = config_from_json(saved)
    arguments = dict(config.model_args)
    if config.name == "gradients":
        encoder = load_encoder(config.name)
    else:
        place = weights or config.weights or None
        encoder = load_encoder(
            config.name,
            weights=place,
            pretrained=place is None,
            model_args=arguments,
            image_size=config.view["size"],
            device=device,
        )
    view = View(**config.view)
    encoder = Encoder(encoder.config, view, encoder.encode)
    if encoder.config.digest != config.digest:
        raise ReferenceMismatch(
            f"encoder {config.name}: the index was made with weights {config.digest[:12]}, these are "
            f"{encoder.config.digest[:12]}. Give the right file with --weights",
            wanted=config.digest,
            found=encoder.config.digest,
        )
    wanted, found = np.asarray(saved["self_check"]), np.asarray(encoder.self_check())
    if wanted.shape != found.shape or float(wanted @ found) < _SELF_CHECK:
        raise ReferenceMismatch(
            f"encoder {config.name}: it no longer gives the embeddings of the index (a fixed picture differs). "
            "Another version of a library? Index again",
        )
    return encoder


def config_from_json(saved: Mapping[str, Any]) -> EncoderConfig:
    """Inverse of asdict(EncoderConfig) after a way through JSON.

    Raises:
        DataError: fields are missing.
    """
    try:
        return EncoderConfig(
            name=saved["name"],
            dimension=int(saved["dimension"]),
            view=dict(saved["view"]),
            mean=tuple(saved["mean"]),
            std=tuple(saved["std"]),
            weights=saved["weights"],
            digest=saved["digest"],
            model_args=dict(saved["model_args"]),
        )
    except (KeyError, TypeError, ValueError) as err:
        raise DataError(f"the encoder in index.json cannot be understood ({err}). Index again") from err
