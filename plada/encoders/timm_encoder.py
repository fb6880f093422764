"""Encoders `timm:ARCH` and `timm:ARCH.TAG`: the pooled features of any timm network, before its classifier."""

from collections.abc import Mapping
from typing import Any

from plada.common.packages import import_timm
from plada.encoders.downloads import fetch
from plada.encoders.spec import EncoderSpec
from plada.encoders.tower import (
    RANDOM,
    RANDOM_SEED,
    Settings,
    Tower,
    check_patches,
    check_weights_given,
    choose_settings,
    one_tag,
    pickled_weights,
    split_arguments,
    wrong_size,
)
from plada.errors import RequestError, UnknownName
from plada.networks.network import (
    create_network,
    file_digest,
    is_architecture,
    load_weights,
    near_networks,
    seeded,
    tensors_digest,
)

_WORDS = {"mean": "mean", "std": "std", "interpolation": "interpolation", "mode": "crop_mode", "crop": "crop_pct"}
_MODES = {"center": "crop", "squash": "squash"}  # timm's words for what View does
_WAYS = {"bicubic": "bicubic", "bilinear": "bilinear", "lanczos": "lanczos", "nearest": "nearest"}


def build(spec: EncoderSpec, recorded: Settings | None = None) -> Tower:
    """The network of a spec, with its weights, at the size wanted; on the CPU. `recorded` as in choose_settings. Raises
    UnknownName: no such architecture or tag. RequestError: options that contradict each other or the network, weights
    that nothing says how to use, no network. DataError: weights of another architecture or another head."""
    file = spec.weights_file
    digest = file_digest(file) if file else ""
    timm = import_timm()
    architecture, _, in_name = spec.name.removeprefix("timm:").partition(".")
    if not is_architecture(timm, architecture):
        raise UnknownName("network", spec.name, near_networks(timm, architecture), hint="Any timm architecture will do")
    arguments, explicit = split_arguments(spec, _WORDS, {"mode": _MODES, "interpolation": _WAYS})
    _check_padding(spec, architecture, arguments)
    cards = _cards(timm, architecture)
    tag = one_tag(spec, in_name)
    default = timm.models.get_pretrained_cfg(architecture)
    if spec.pretrained and not tag:
        tag = default.tag or ""  # recorded: another version of timm may have another default
    named = f"timm:{architecture}.{RANDOM}"
    known = f"{architecture}.{tag or default.tag}"
    check_weights_given(spec, tag, download=f"the weights of {known} from Hugging Face", named=named)
    settings = choose_settings(
        spec, tag, {name: _settings(card) for name, card in cards.items() if name}, _settings(default), explicit,
        _WORDS, recorded,
    )  # fmt: skip
    card = cards.get(tag, default)
    name = f"{architecture}.{tag}" if tag in cards and tag else architecture
    if tag == RANDOM:
        with seeded(RANDOM_SEED):
            module = create_network(timm, architecture, arguments)
        digest = tensors_digest(module)
    else:
        weights = file or _download(spec, card, tag)
        digest = digest or file_digest(weights)
        heads = {card.num_classes} if tag else {known.num_classes for known in cards.values()}
        module = load_weights(timm, name, weights, arguments, heads=heads)
    _resize(spec, module, card, settings.size)
    return Tower(
        name=f"timm:{architecture}.{tag}" if tag else f"timm:{architecture}",
        tag=tag,
        module=module,
        settings=settings,
        features=lambda images: module.forward_head(module.forward_features(images), pre_logits=True).flatten(1),
        text_note="timm networks have no text tower",
        weights=file,
        digest=digest,
        wanted_size=0 if tag == RANDOM else int(card.input_size[-1]),
    )


def _cards(timm: Any, architecture: str) -> Mapping[str, Any]:
    """timm's records of an architecture's weights, by tag; the tag is empty where there are none of its own."""
    cards = {card.tag or "": card for card in timm.models.get_arch_pretrained_cfgs(architecture).values()}
    return {tag: card for tag, card in cards.items() if card.has_weights or len(cards) == 1}


def _settings(card: Any) -> Settings:
    return Settings(
        mean=tuple(map(float, card.mean)),
        std=tuple(map(float, card.std)),
        interpolation=card.interpolation,
        mode=_MODES.get(card.crop_mode, card.crop_mode),
        crop=float(card.crop_pct),
        size=int(card.input_size[-1]),
    )


def _check_padding(spec: EncoderSpec, architecture: str, arguments: Mapping[str, Any]) -> None:
    if architecture.startswith("tf_") and arguments.get("pad_type", "same") != "same":
        raise RequestError(
            f"encoder {spec.name}: networks named tf_ pad as TensorFlow does (pad_type 'same'), --model-arg pad_type says "
            f"'{arguments['pad_type']}'. Leave it out"
        )


def _download(spec: EncoderSpec, card: Any, tag: str) -> Any:
    if not card.hf_hub_id:
        raise pickled_weights(spec, tag, card.url or "nowhere")
    own = card.hf_hub_filename or "model.safetensors"
    names = [own if own.endswith(".safetensors") else f"{own.rpartition('.')[0]}.safetensors"]
    return fetch(card.hf_hub_id, names, encoder=spec.name, tag=tag)


def _resize(spec: EncoderSpec, module: Any, card: Any, size: int) -> None:
    """Make a network of a fixed size take another, its positions interpolated as timm does when it loads weights.
    Raises RequestError: it cannot."""
    native = int(card.input_size[-1])
    if card.input_size[-2] != native and spec.image_size is None:
        raise RequestError(
            f"encoder {spec.name}: it takes images of {card.input_size[-2:]} pixels, not squares. Choose another"
        )
    patch = getattr(getattr(module, "patch_embed", None), "patch_size", None)
    step = int(patch[0] if isinstance(patch, (tuple, list)) else patch) if patch else 1
    check_patches(spec, size, step)
    if not card.fixed_input_size or size == native:
        return
    try:
        module.set_input_size(img_size=(size, size))
    except (AttributeError, TypeError, AssertionError, ValueError, RuntimeError) as err:
        raise wrong_size(spec, native, size) from err
