"""Encoders: images to L2-normalised embeddings. An index records everything that decides an embedding, so that no other
encoder can be used with it later. See docs/encoders.md."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from blake3 import blake3

from plada.common.arrays import F32, U8
from plada.common.failures import device_failed, first_line, out_of_memory
from plada.common.summary import shared_fields
from plada.encoders import gradients, openclip, timm_encoder
from plada.encoders.batch_norm import fold_batch_norms
from plada.encoders.known import DEFAULT_ENCODER, KNOWN_ENCODERS
from plada.encoders.spec import EncoderSpec, encoder_spec
from plada.encoders.tower import RANDOM, Settings, Tower
from plada.errors import DataError, ReferenceMismatch, RequestError, ResourceError, UnknownName
from plada.networks.model_args import PREPARATION, refused_argument
from plada.networks.network import keep_memory, pick_device, size_note, to_device, to_floats
from plada.sources.decode import View

if TYPE_CHECKING:
    import torch

Encode = Callable[[U8], F32]
EncodeText = Callable[[list[str]], F32]

DEFAULT_HINT = f"--encoder {DEFAULT_ENCODER} --pretrained (or --weights FILE, once downloaded; see docs/encoders.md)"
PRECISIONS = ("fp32", "fp16", "bf16")
LIBRARIES: Mapping[str, Callable[[EncoderSpec, Settings | None], Tower]] = {
    "timm": timm_encoder.build,
    "open_clip": openclip.build,
}
# Cosine that a fixed picture's embedding must keep. Other hardware differs in the sixth digit; in bf16, with its 8 bits, two
# ways of adding up differ in the third. Other padding gave 0.44.
_SELF_CHECK = {"fp32": 0.999, "fp16": 0.999, "bf16": 0.98}


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """All that decides an embedding, as it is written into index.json.

    `weights` is where the file was (a hint), `digest` its SHA-256, or that of the tensors where weights are random; both are
    empty where there are none. `tag` is "random" for random weights. `architecture` identifies the
    configuration of a local-dir. Fields with a default are newer than format 1.
    """

    name: str
    dimension: int
    view: Mapping[str, Any]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    weights: str = ""
    digest: str = ""
    model_args: Mapping[str, Any]
    tag: str = ""
    precision: str = "fp32"
    quick_gelu: bool = False
    architecture: str = ""

    def identity(self) -> dict[str, Any]:
        """The part that must agree between two indexes of the same encoder: all but places and the precision, which is
        compared by the self-check."""
        values = {name: value for name, value in asdict(self).items() if name not in ("weights", "precision")}
        return {**values, "name": openclip.LOCAL if self.name.startswith(openclip.LOCAL) else self.name}

    def short_id(self) -> str:
        """Four bytes of a hash of the identity, hex: for payloads, in which each byte counts."""
        return blake3(json.dumps(self.identity(), sort_keys=True, default=list).encode()).hexdigest(4)

    def settings(self) -> dict[str, Any]:
        """The identity and the precision: what decides an embedding to its last digit."""
        return {**self.identity(), "precision": self.precision}


@dataclass(frozen=True, slots=True)
class Encoder:
    """`encode` takes uint8 [n, size, size, 3] as `view` makes them and gives float32 [n, dimension] of length one.

    `encode_text` takes n lines and gives float32 [n, dimension] of length one, too; it is None where the encoder has no text
    tower that works here, and `text_note` says why. `where` is the device that both run on. `size_note` is what is to be said
    of images far smaller than the weights want.
    """

    config: EncoderConfig
    view: View
    encode: Encode
    encode_text: EncodeText | None = None
    where: str = "cpu"
    text_note: str = ""
    size_note: str = ""

    def self_check(self) -> list[float]:
        """Embedding of one fixed picture; kept in the index and compared whenever the encoder is loaded again."""
        size = self.view.size
        ramp = np.arange(size, dtype=np.int64)
        picture = (ramp[:, None, None] * 7 + ramp[None, :, None] * 13 + np.arange(3) * 59) * 255 // (20 * size + 118)
        return [float(value) for value in self.encode(picture.astype(np.uint8)[None])[0]]


def load_encoder(encoder: str | EncoderSpec, *, device: str | None = None) -> Encoder:
    """Load an encoder, by its spec or by its name alone.

    Args:
        encoder: Which encoder, and how it starts.
        device: torch's name of where it runs; None for a GPU if there is one.

    Returns:
        The encoder, in evaluation mode.

    Raises:
        UnknownName: There is no such encoder or tag.
        RequestError: Options contradict each other or do not fit, no weights are given, nothing says how the weights
            want their images, or there is no network for a download.
        DataError: The weights are of another architecture.
        MissingExtra: A library that it needs is not installed.
    """
    return _load(encoder_spec(encoder), None, device)


def _load(spec: EncoderSpec, recorded: Settings | None, device: str | None) -> Encoder:
    if spec.precision is not None and spec.precision not in PRECISIONS:
        raise RequestError(f"encoder {spec.name}: precision '{spec.precision}': expected {', '.join(PRECISIONS)}")
    if spec.image_size is not None and spec.image_size < 1:
        raise RequestError(f"encoder {spec.name}: --image-size {spec.image_size}: expected 1 or more pixels")
    if spec.name == "gradients":
        return _load_gradients(spec)
    library, colon, _ = spec.name.partition(":")
    if not colon or library not in LIBRARIES:
        known = [
            "gradients",
            *KNOWN_ENCODERS,
            "timm:ARCH",
            "timm:ARCH.TAG",
            "open_clip:ARCH/TAG",
            "open_clip:local-dir:PATH",
        ]
        hint = f"timm:ARCH is any timm network, open_clip:ARCH any of open_clip's. For photographs: {DEFAULT_HINT}"
        raise UnknownName("encoder", spec.name, known, hint=hint)
    spec = replace(spec, model_args=_plain(spec.model_args, spec.name))
    return _assemble(LIBRARIES[library](spec, recorded), spec, device)


def _load_gradients(spec: EncoderSpec) -> Encoder:
    if spec.weights or spec.pretrained or spec.tag or spec.model_args or spec.image_size or spec.compiled:
        raise RequestError("encoder gradients has no weights and no options")
    if spec.precision not in (None, "fp32"):
        raise RequestError(f"encoder gradients computes in fp32, not in {spec.precision}. Leave out --precision")
    view = View(size=gradients.SIZE, mode="squash")
    config = EncoderConfig(name=spec.name, dimension=gradients.DIMENSION, view=asdict(view), model_args={})
    return Encoder(config, view, gradients.embed, text_note="gradients have no text tower")


def _assemble(tower: Tower, spec: EncoderSpec, device: str | None) -> Encoder:
    import torch

    where, view, settings = pick_device(device), tower.view(), tower.settings
    chosen = spec.precision or ("fp16" if where.type == "cuda" else "fp32")
    kind = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[chosen]
    to_device(tower.module.eval(), where)
    if where.type == "cpu":
        keep_memory()
        fold_batch_norms(tower.module, tower.features, view.size)
    features = torch.compile(tower.features) if spec.compiled else tower.features
    text_features = tower.text
    mean, std = (torch.tensor(part, device=where).view(1, 3, 1, 1) for part in (settings.mean, settings.std))

    def unit(rows: "torch.Tensor") -> F32:
        return np.asarray(torch.nn.functional.normalize(rows.float().flatten(1), dim=1).cpu())

    def encode(pixels: U8) -> F32:
        if not len(pixels):
            return np.zeros((0, dimension), np.float32)
        with torch.inference_mode():
            # In place: the floats are fresh, and each further copy of a batch costs a CPU a percent.
            batch = to_floats(pixels, where).sub_(mean).div_(std).contiguous(memory_format=torch.channels_last)
            with torch.autocast(where.type, kind, enabled=chosen != "fp32"):
                rows = features(batch)
            return unit(rows)

    def encode_text(lines: list[str]) -> F32:
        assert text_features is not None
        if not lines:
            return np.zeros((0, dimension), np.float32)
        with torch.inference_mode():
            with torch.autocast(where.type, kind, enabled=chosen != "fp32"):
                rows = text_features(lines, where)
            return unit(rows)

    dimension = _dimension(encode, view, spec, str(where))
    config = EncoderConfig(
        **shared_fields(settings, EncoderConfig),
        **shared_fields(tower, EncoderConfig) | {"weights": str(tower.weights.absolute()) if tower.weights else ""},
        dimension=dimension,
        view=asdict(view),
        model_args=dict(spec.model_args),
        precision=chosen,
    )
    text = encode_text if text_features is not None else None
    note = size_note(f"encoder {tower.name}", view.size, tower.wanted_size)
    return Encoder(config, view, encode, text, str(where), tower.text_note, note)


def _dimension(encode: Encode, view: View, spec: EncoderSpec, where: str) -> int:
    """Found by embedding a black picture, which also shows early that the network runs here at all."""
    name = spec.name
    try:
        return int(encode(np.zeros((1, view.size, view.size, 3), np.uint8)).shape[1])
    except Exception as err:
        line = first_line(err)
        if spec.compiled and where == "cpu":
            raise RequestError(
                f"encoder {name}: torch.compile fails here ({line}). On a CPU it needs a C++ compiler (g++, or $CXX). "
                "Install one, or leave out --compile"
            ) from err
        if device_failed(err):
            raise ResourceError(
                f"encoder {name}: device {where} does not run it ({line}). `plada doctor` says what is installed; give another --device"
            ) from err
        if out_of_memory(err):
            raise ResourceError(
                f"encoder {name}: no memory for it on this device ({line}). Give another --device"
            ) from err
        if spec.image_size is None:  # the size is that of the weights, and not to blame
            raise RequestError(
                f"encoder {name}: it cannot embed a picture here ({line}). Check --model-arg, or the version of its library"
            ) from err
        raise RequestError(
            f"encoder {name}: it does not take pictures of {view.size} pixels ({line}). Give another --image-size"
        ) from err


def reload_encoder(
    saved: Mapping[str, Any], *, weights: str | Path | None = None, device: str | None = None
) -> Encoder:
    """The encoder of an index, from what index.json says of it; `weights` where the file (or local-dir) is if it has
    moved. Raises ReferenceMismatch: the weights, a setting, or the embeddings it gives are not those of the index; both
    are said. RequestError: the weights file is gone."""
    config = config_from_json(saved)
    spec, recorded = _recorded_spec(config, weights)
    encoder = _load(_on_device(spec, config, device), recorded, device)
    own = encoder.config.precision
    if own != config.precision and not self_check_agrees(saved, encoder.self_check(), own):
        encoder = _load(spec, recorded, device)
    encoder = replace(encoder, view=View(**config.view))
    if config.digest and encoder.config.digest != config.digest:
        raise ReferenceMismatch(
            f"encoder {config.name}: the index was made with weights {config.digest[:12]}, these are "
            f"{encoder.config.digest[:12]}. Give the right file with --weights",
            wanted=config.digest,
            found=encoder.config.digest,
        )
    for field in ("mean", "std", "quick_gelu", "tag", "architecture", "dimension"):
        was, now = getattr(config, field), getattr(encoder.config, field)
        if was != now:
            raise ReferenceMismatch(
                f"encoder {config.name}: the index was made with {field} {was}, now it has {now}. Another version of a "
                "library, or of its configuration? Restore it, or index again",
                wanted=str(was),
                found=str(now),
            )
    wanted, found = np.asarray(saved["self_check"]), np.asarray(encoder.self_check())
    if not self_check_agrees(saved, found.tolist(), encoder.config.precision):
        alike = (
            f"cosine {float(wanted @ found):.4f}" if wanted.shape == found.shape else f"{wanted.shape}, {found.shape}"
        )
        raise ReferenceMismatch(
            f"encoder {config.name}: it no longer gives the embeddings of the index (a fixed picture differs: {alike}, "
            f"expected {_SELF_CHECK.get(config.precision, 0.999)} or more). Another version of a library? Index again"
        )
    return encoder


def self_check_agrees(saved: Mapping[str, Any], found: Sequence[float], precision: str) -> bool:
    """Whether the fixed picture's embedding `found`, in `precision`, is the one that index.json keeps, as `saved` of it."""
    one, other = np.asarray(saved["self_check"]), np.asarray(found)
    # Each precision rounds in its own way, so the coarser of the two decides.
    least = min(_SELF_CHECK.get(kind, 0.999) for kind in (str(saved.get("precision", "fp32")), precision))
    return one.shape == other.shape and bool(float(one @ other) >= least)


def _on_device(spec: EncoderSpec, config: EncoderConfig, device: str | None) -> EncoderSpec:
    """The spec in the precision that the device is fast in: fp16 takes 7 to 14 times as long as fp32 on a CPU."""
    if config.precision != "fp16" or spec.name == "gradients" or pick_device(device).type != "cpu":
        return spec
    return replace(spec, precision="fp32")


def _recorded_spec(config: EncoderConfig, weights: str | Path | None) -> tuple[EncoderSpec, Settings | None]:
    """The spec that loads a recorded encoder again, and the preprocessing that was recorded."""
    name, place = config.name, Path(weights).expanduser() if weights else None
    if name.startswith(openclip.LOCAL):
        if place is not None and place.is_dir():
            name, place = f"{openclip.LOCAL}{place.absolute()}", None
    elif place is None and config.weights and config.tag != RANDOM:
        place = Path(config.weights)
    view = View(**config.view)
    recorded = None
    if config.mean:
        recorded = Settings(**shared_fields(view, Settings), **shared_fields(config, Settings))
    spec = EncoderSpec(
        name=name,
        weights=place,
        pretrained=bool(config.mean) and place is None and config.tag != RANDOM and not name.startswith(openclip.LOCAL),
        tag=config.tag,
        model_args=config.model_args,
        image_size=view.size if config.mean else None,
        precision=config.precision,
    )
    return spec, recorded


def needs_weights(spec: EncoderSpec) -> bool:
    """Whether an encoder has weights that come from a file or a download."""
    random = spec.tag == RANDOM or spec.name.endswith((f"/{RANDOM}", f".{RANDOM}"))
    return spec.name != "gradients" and not random and not spec.name.startswith(openclip.LOCAL)


def recorded_encoder(config: EncoderConfig) -> EncoderSpec:
    """The spec that loads a recorded encoder as it was asked for first (on the same kind of device)."""
    if config.name == "gradients":
        return EncoderSpec(name=config.name)
    local = config.name.startswith(openclip.LOCAL)
    # A size that was asked for goes with a crop of 1 (or one asked for); with any other the size is the weights' own.
    sized = config.view["crop"] == 1 or "crop_pct" in config.model_args
    weights = Path(config.weights) if config.weights and config.tag != RANDOM else None
    return EncoderSpec(
        name=config.name,
        tag=config.tag if config.tag and (local or not _named_tag(config.name)) else None,
        weights=weights,
        pretrained=weights is None and config.tag != RANDOM,
        image_size=config.view["size"] if sized else None,
        model_args=config.model_args,
        precision=config.precision,
    )


def encoder_options(config: EncoderConfig) -> list[str]:
    """The words of a command line that load this very encoder (on the same kind of device)."""
    spec = recorded_encoder(config)
    words = ["--encoder", spec.name]
    if spec.tag:
        words += ["--tag", spec.tag]
    if spec.weights:
        words += ["--weights", str(spec.weights)]
    if spec.pretrained:
        words += ["--pretrained"]
    if spec.image_size:
        words += ["--image-size", str(spec.image_size)]
    for option, value in spec.model_args.items():
        words += ["--model-arg", f"{option}={_spelt(value)}"]
    return [*words, "--precision", spec.precision] if spec.precision else words


def config_from_json(saved: Mapping[str, Any]) -> EncoderConfig:
    """Inverse of asdict(EncoderConfig) after a way through JSON; what older versions did not write gets its default.
    Raises DataError: fields are missing, or an argument does not shape a network."""
    try:
        if reason := refused_argument(saved["model_args"], besides=PREPARATION):
            raise DataError(f"encoder {saved['name']} in index.json: {reason}. Use no index of that origin")
        return EncoderConfig(
            name=str(saved["name"]),
            dimension=int(saved["dimension"]),
            view=asdict(View(**saved["view"])),
            mean=tuple(saved["mean"]),
            std=tuple(saved["std"]),
            weights=saved["weights"],
            digest=saved["digest"],
            model_args=dict(saved["model_args"]),
            tag=saved.get("tag", _named_tag(saved["name"])),
            precision=saved.get("precision", "fp32"),
            quick_gelu=bool(saved.get("quick_gelu", False)),
            architecture=saved.get("architecture", ""),
        )
    except (KeyError, TypeError, ValueError, AttributeError, RequestError) as err:
        raise DataError(f"the encoder in index.json cannot be understood ({err}). Index again") from err


def _named_tag(name: str) -> str:
    if name.startswith("timm:"):
        return name.partition(".")[2]
    return name.partition("/")[2] if name.startswith("open_clip:") and not name.startswith(openclip.LOCAL) else ""


def _plain(model_args: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The same values as they come back from JSON: tuples as lists."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(model_args)))
    except (TypeError, ValueError) as err:
        raise RequestError(f"encoder {name}: model arguments must be plain values ({err})") from err
    return plain


def _spelt(value: Any) -> str:
    """A value as NAME=VALUE is read: JSON, or text that is no JSON."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            return value
    return json.dumps(value)
