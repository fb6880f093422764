"""Encoders `open_clip:ARCH/TAG` and `open_clip:local-dir:PATH`: the image tower, and the text tower where it has one that
works without a network."""

import hashlib
import importlib
import importlib.util
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plada.common.failures import first_line
from plada.common.packages import import_timm, require
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
from plada.errors import DataError, RequestError, UnknownName
from plada.networks.network import file_digest, is_architecture, mismatch, read_safetensors, seeded, tensors_digest

if TYPE_CHECKING:
    import torch

LOCAL = "open_clip:local-dir:"
_WORDS = {
    "mean": "mean",
    "std": "std",
    "interpolation": "interpolation",
    "mode": "resize_mode",
    "quick_gelu": "quick_gelu",
}
_MODES = {"shortest": "crop", "squash": "squash"}  # open_clip's words for what View does
_WAYS = {"bicubic": "bicubic", "bilinear": "bilinear"}
_CARD = "open_clip_config.json"
_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "model.safetensors")
_PICKLES = (".bin", ".pt", ".pth", ".npz")
_TOKENIZER_OPTIONS = {"clean", "strip_sep_token", "language"}
_NO_TEXT = {"context_length": 1, "vocab_size": 1, "width": 8, "heads": 1, "layers": 1}  # in place of a text tower


def import_open_clip() -> Any:
    """open_clip, with torchvision made loadable (see plada.common.packages.import_timm). Raises MissingExtra: it is
    missing or broken."""
    import_timm()
    with _quiet():
        require("open_clip", extra="clip", purpose="an open_clip encoder")
        return importlib.import_module("open_clip")


def build(spec: EncoderSpec, recorded: Settings | None = None) -> Tower:
    """The network of a spec, with its weights, at the size wanted; on the CPU. `recorded` as in choose_settings. Raises
    UnknownName: no such architecture or tag. RequestError: options that contradict each other or the network, weights
    that nothing says how to use, no network. DataError: weights of another architecture, or without a part of it."""
    file = spec.weights_file
    digest = file_digest(file) if file else ""
    open_clip = import_open_clip()
    if spec.name.startswith(LOCAL):
        return _local(open_clip, spec, Path(spec.name.removeprefix(LOCAL)))
    architecture, _, in_name = spec.name.removeprefix("open_clip:").partition("/")
    config = open_clip.get_model_config(architecture)
    if config is None:
        hint = "The form is open_clip:ARCH/TAG or open_clip:local-dir:PATH"
        raise UnknownName("open_clip architecture", spec.name, open_clip.list_models(), hint=hint)
    tag = one_tag(spec, in_name)
    cards = {
        name: open_clip.get_pretrained_cfg(architecture, name)
        for name in open_clip.list_pretrained_tags_by_model(architecture)
    }
    size, active = int(_square(spec, config["vision_cfg"])), bool(config.get("quick_gelu"))
    tags = {name: _settings(card, size, quick_gelu=bool(card.get("quick_gelu"))) for name, card in cards.items()}
    arguments, explicit = split_arguments(spec, _WORDS, {"mode": _MODES, "interpolation": _WAYS})
    _check_arguments(spec, arguments)
    if spec.pretrained and not tag:
        raise RequestError(
            f"encoder {spec.name}: which weights? Give --tag, one of {', '.join(sorted(tags)) or 'none'}"
        )
    example = tag or next(iter(tags), "TAG")
    check_weights_given(
        spec,
        tag,
        download=f"the weights of {architecture}/{example} from Hugging Face" if tags else "",
        named=f"open_clip:{architecture}/{RANDOM}",
    )
    settings = choose_settings(spec, tag, tags, _settings({}, size, quick_gelu=active), explicit, _WORDS, recorded)
    if active and not settings.quick_gelu:
        raise RequestError(
            f"encoder {spec.name}: the architecture {architecture} has QuickGELU, {f'tag {tag!r}' if tag else 'the setting'} "
            "says without. Choose the architecture without -quickgelu, or other weights"
        )
    weights = None if tag == RANDOM else file or _download(spec, cards[tag], tag)
    return _tower(
        open_clip, spec, f"open_clip:{architecture}/{tag}" if tag else f"open_clip:{architecture}", architecture,
        config, tag, settings, weights, digest=digest,
    )  # fmt: skip


def _local(open_clip: Any, spec: EncoderSpec, folder: Path) -> Tower:
    """From a folder with open_clip_config.json and a safetensors file, as open_clip's own push to a hub writes it."""
    folder = folder.expanduser().absolute()
    path = folder / _CARD
    try:
        card = json.loads(path.read_text())
    except OSError as err:
        raise RequestError(
            f"{path}: cannot be read ({err.strerror}). A local-dir is a folder with this file in it"
        ) from err
    except ValueError as err:
        raise DataError(f"{path}: not JSON ({err}). Restore it") from err
    config, how = (
        (card.get(part) for part in ("model_cfg", "preprocess_cfg")) if isinstance(card, dict) else (None, None)
    )
    if not isinstance(config, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= config.keys():
        raise DataError(f"{path}: no model_cfg with embed_dim, vision_cfg and text_cfg in it. Restore it")
    _check_config(path, config)
    arguments, explicit = split_arguments(spec, _WORDS, {"mode": _MODES, "interpolation": _WAYS})
    _check_arguments(spec, arguments)
    if explicit:
        raise RequestError(
            f"encoder {spec.name}: its settings are those of {_CARD}. Leave out --model-arg {min(explicit)}"
        )
    if spec.tag not in (None, "", RANDOM) or spec.pretrained:
        raise RequestError(
            f"encoder {spec.name}: a local-dir has its weights beside {_CARD}. Leave out --tag, --pretrained"
        )
    if not isinstance(how, dict) or not {"mean", "std"} <= how.keys():
        raise DataError(
            f"{path}: no preprocess_cfg with mean and std in it, and open_clip would take those of another model. Add "
            "them, as the weights' model card says"
        )
    size = _square(spec, config["vision_cfg"])
    settings = _settings(how, int(how.get("size", size)) if spec.image_size is None else spec.image_size,
                         quick_gelu=bool(config.get("quick_gelu")))  # fmt: skip
    if spec.image_size is None and settings.size != size:
        raise DataError(f"{path}: preprocess_cfg says size {settings.size}, vision_cfg {size}. Correct one of them")
    weights = None if spec.tag == RANDOM else spec.weights_file or _find_weights(folder)
    name, digest = f"{LOCAL}{folder}", file_digest(weights) if weights else ""
    return _tower(
        open_clip, spec, name, f"local-dir:{folder}", config, spec.tag or "", settings, weights, digest=digest
    )


def _check_config(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse a local-dir whose file would make open_clip load something else than the safetensors beside it. Raises
    DataError: a network by address or folder, or an option of the tokenizer that could run code."""
    vision, words = config["vision_cfg"], config["text_cfg"]
    if not isinstance(vision, dict) or not isinstance(words, dict):
        raise DataError(f"{path}: vision_cfg and text_cfg are not both objects. Restore it")
    trunk = vision.get("timm_model_name")
    if trunk is not None and not (isinstance(trunk, str) and is_architecture(import_timm(), trunk)):
        raise DataError(f"{path}: timm_model_name '{trunk}' is not a timm architecture. Use no encoder of that origin")
    options = words.get("tokenizer_kwargs") or {}
    if not isinstance(options, dict) or (beyond := sorted(map(str, options.keys() - _TOKENIZER_OPTIONS))):
        listed = ", ".join(beyond) if isinstance(options, dict) else str(options)
        raise DataError(
            f"{path}: tokenizer_kwargs {listed}: expected {', '.join(sorted(_TOKENIZER_OPTIONS))} at most. Use no encoder of "
            "that origin"
        )


def _tower(
    open_clip: Any,
    spec: EncoderSpec,
    name: str,
    identifier: str,
    config: Mapping[str, Any],
    tag: str,
    settings: Settings,
    weights: Path | None,
    *,
    digest: str,
) -> Tower:
    state = read_safetensors(weights) if weights else None
    vision, words = config["vision_cfg"], config["text_cfg"]
    text_from_hub = "hf_model_name" in words
    by_timm = "timm_model_name" in vision
    native = _square(spec, vision)
    options: dict[str, Any] = {"quick_gelu": settings.quick_gelu}
    if text_from_hub:  # it would be downloaded even to embed images; a stand-in takes its place and is never asked
        options["text_cfg"] = _NO_TEXT
    if settings.size != native and not by_timm:
        options["force_image_size"] = settings.size
    patch = vision.get("patch_size")
    if isinstance(patch, int) and not by_timm:
        check_patches(spec, settings.size, patch)
    try:
        with _quiet(), seeded(RANDOM_SEED):
            module = open_clip.create_model(identifier, load_weights=False, pretrained_text=False, **options)
    except (TypeError, ValueError, KeyError, AttributeError, AssertionError, RuntimeError, OSError) as err:
        raise RequestError(f"encoder {spec.name}: open_clip cannot make it ({first_line(err)})") from err
    if state is not None and weights is not None:
        _fill(spec, module, state, weights, image_only=text_from_hub)
    if settings.size != native and by_timm:
        try:
            module.visual.set_input_size(settings.size)
        except (AttributeError, TypeError, AssertionError, ValueError, RuntimeError) as err:
            raise wrong_size(spec, native, settings.size) from err
    tokenizer, note = (None, _HUB_TEXT) if text_from_hub else _tokenizer(open_clip, identifier, words)
    canonical = json.dumps(config, sort_keys=True).encode()
    return Tower(
        name=name,
        tag=tag,
        module=module,
        settings=settings,
        features=module.encode_image,
        text=_text(spec.name, module, tokenizer) if tokenizer is not None else None,
        text_note=note,
        weights=weights if spec.weights or name.startswith(LOCAL) else None,
        digest=digest or (file_digest(weights) if weights else tensors_digest(module)),
        architecture=hashlib.sha256(canonical).hexdigest()[:16] if name.startswith(LOCAL) else "",
        wanted_size=0 if tag == RANDOM else native,
    )


_HUB_TEXT = "its text tower is a Hugging Face model, which plada does not download"


def _fill(spec: EncoderSpec, module: Any, state: "dict[str, torch.Tensor]", path: Path, *, image_only: bool) -> None:
    """Load weights with every tensor accounted for; those of the image tower alone where `image_only`. Raises
    DataError: something lacks, is too much or has another shape."""
    convert = importlib.import_module("open_clip.convert")
    model = importlib.import_module("open_clip.model")
    with _quiet():
        if next(iter(state), "").startswith("module."):
            state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
        state = convert.convert_state_dict(module, state)
        if "positional_embedding" in state and not hasattr(module, "positional_embedding"):
            state = model.convert_to_custom_text_state_dict(state)
        state.pop("text.transformer.embeddings.position_ids", None)  # a constant that old files have
        for name in ("logit_scale", "logit_bias"):  # one number, as a scalar or as a row of one
            own = getattr(module, name, None)
            if name in state and own is not None:
                state[name] = state[name].reshape(own.shape)
        if image_only:
            state = {name: tensor for name, tensor in state.items() if name.startswith("visual.")}
        if spec.image_size is not None:
            model.resize_pos_embed(state, module)
    own = {name: tensor for name, tensor in module.state_dict().items() if not image_only or name.startswith("visual.")}
    if found := mismatch(own, state):
        text = any(name.startswith(("text.", "transformer.", "token_embedding.")) for name in state)
        hint = (
            ""
            if text or image_only
            else " It has no text tower: give the whole model's weights, or use the tower through timm."
        )
        raise DataError(f"{path}: not the weights of {spec.name} ({found}).{hint} Check --encoder and --image-size")
    module.load_state_dict(state, strict=not image_only)


def _tokenizer(open_clip: Any, identifier: str, words: Mapping[str, Any]) -> tuple[Any, str]:
    """(tokenizer, "") or (None, why there is none on this machine); nothing is downloaded for it."""
    wanted = words.get("hf_tokenizer_name")
    if wanted and importlib.util.find_spec("transformers") is None:
        return None, f"its tokenizer {wanted} needs the package transformers, which is not installed"
    if not wanted and "siglip" in identifier.rpartition("/")[2].lower() and not identifier.startswith("local-dir:"):
        return None, "its tokenizer would be downloaded"
    try:
        with _quiet():
            local = {"local_files_only": True, "trust_remote_code": False} if wanted else {}
            return open_clip.get_tokenizer(identifier, **local), ""
    except Exception as err:  # of transformers, of files that lack: the images can be embedded all the same
        return None, f"its tokenizer {wanted or 'of open_clip'} is not on this machine ({first_line(err)})"


def _text(name: str, module: Any, tokenizer: Any) -> "Callable[[list[str], torch.device], torch.Tensor]":
    limit = int(tokenizer.context_length)

    def text(lines: list[str], where: "torch.device") -> "torch.Tensor":
        for line in lines:
            tokens = _tokens(tokenizer, line)
            if not line.strip() or tokens > limit:
                raise RequestError(
                    f"encoder {name}: the text '{line[:40]}{'...' if len(line) > 40 else ''}' has {tokens} tokens, "
                    f"expected words that make at most {limit}; open_clip would cut it without a word. Shorten it"
                    if line.strip()
                    else f"encoder {name}: the text is empty. Give words to look for"
                )
        features: torch.Tensor = module.encode_text(tokenizer(lines).to(where))
        return features

    return text


def _tokens(tokenizer: Any, line: str) -> int:
    """How many tokens a text has, start and end included, before anything is cut."""
    inner = getattr(tokenizer, "tokenizer", None)
    if inner is None:
        return len(tokenizer.encode(line)) + 2
    return len(inner(tokenizer.clean_fn(line)).input_ids)


def _settings(card: Mapping[str, Any], size: int, *, quick_gelu: bool) -> Settings:
    """Settings of a tag or a config; what it leaves out is open_clip's documented default."""
    constants = importlib.import_module("open_clip.constants")
    mode = card.get("resize_mode", "shortest")
    return Settings(
        mean=tuple(map(float, card.get("mean", constants.OPENAI_DATASET_MEAN))),
        std=tuple(map(float, card.get("std", constants.OPENAI_DATASET_STD))),
        interpolation=card.get("interpolation", "bicubic"),
        mode=_MODES.get(mode, mode),
        crop=1.0,
        size=size,
        quick_gelu=quick_gelu,
    )


def _check_arguments(spec: EncoderSpec, arguments: Mapping[str, Any]) -> None:
    if arguments:
        known = ", ".join(_WORDS.values())
        raise RequestError(
            f"encoder {spec.name}: --model-arg {min(arguments)} is not known; open_clip encoders take {known}"
        )


def _square(spec: EncoderSpec, vision: Mapping[str, Any]) -> int:
    size = vision.get("image_size", 224)
    sides = set(size) if isinstance(size, (list, tuple)) else {size}
    if len(sides) != 1:
        raise RequestError(f"encoder {spec.name}: it takes images of {size} pixels, not squares. Choose another")
    return int(sides.pop())


def _download(spec: EncoderSpec, card: Mapping[str, Any], tag: str) -> Path:
    repository, _, file = str(card.get("hf_hub", "")).rpartition("/")
    if not repository:
        raise pickled_weights(spec, tag, card.get("url"))
    names = [f"{file.rpartition('.')[0]}.safetensors"] if file else [_FILES[0]]
    return fetch(repository, names, encoder=spec.name, tag=tag)


def _find_weights(folder: Path) -> Path:
    """The one safetensors file of a local-dir, or the one of open_clip's own names. Raises RequestError: none
    (open_clip would go on with random weights), or several."""
    found = sorted(folder.glob("*.safetensors"))
    best = [folder / name for name in _FILES if folder / name in found][:1] or found
    if len(best) == 1:
        return best[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise RequestError(f"{folder}: several files of weights ({names}). Say which with --weights FILE")
    pickles = [path.name for path in sorted(folder.iterdir()) if path.suffix in _PICKLES]
    why = (
        f"{pickles[0]} is a pickle, which plada does not open; convert it (docs/encoders.md)"
        if pickles
        else f"expected {_FILES[0]} beside {_CARD}"
    )
    raise RequestError(f"{folder}: no weights in safetensors: {why}. Random weights need --tag {RANDOM}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep open_clip's log lines from configuring the root logger, which they would do as a side effect."""
    root, silent = logging.getLogger(), logging.NullHandler()
    root.addHandler(silent)
    try:
        yield
    finally:
        root.removeHandler(silent)
