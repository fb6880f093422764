"""What the libraries of networks have in common: the preprocessing that belongs to weights, and the network that comes of
an EncoderSpec, not yet on any device."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plada.encoders.spec import EncoderSpec
from plada.errors import RequestError, UnknownName
from plada.sources.decode import View

if TYPE_CHECKING:
    import torch
    from torch import nn

RANDOM = "random"  # the tag that asks for random weights
RANDOM_SEED = 20_240_229  # of those weights: every process makes the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How weights want their images: normalised by `mean` and `std` after a View of `size`, `mode`, `crop`,
    `interpolation`; `quick_gelu` is the activation that they were trained with (open_clip only)."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    mode: str
    crop: float
    size: int
    quick_gelu: bool = False

    def decisive(self, *, sized: bool) -> "Settings":
        """What decides an embedding: when the side of the images is given, crop and size no longer do."""
        return replace(self, crop=1.0, size=0) if sized else self


@dataclass(frozen=True, slots=True, kw_only=True)
class Tower:
    """A network with its weights. `features` maps normalised floats [n, 3, size, size] to [n, d], `text` token-limited
    lines to [n, d] on a device, or None with the reason in `text_note`; neither is normalised."""

    name: str
    tag: str
    module: "nn.Module"
    settings: Settings
    features: "Callable[[torch.Tensor], torch.Tensor]"
    text: "Callable[[list[str], torch.device], torch.Tensor] | None" = None
    text_note: str = ""
    weights: Path | None = None
    digest: str = ""
    architecture: str = ""
    wanted_size: int = 0  # side of the images that the weights were trained on

    def view(self) -> View:
        """The view of an image that the settings ask for. Raises RequestError: preprocessing that plada does not do
        (padding, for one)."""
        settings = self.settings
        if settings.mode not in ("crop", "squash") or (settings.mode == "squash" and settings.crop != 1):
            raise RequestError(
                f"encoder {self.name}: its images are prepared by '{settings.mode}' with crop {settings.crop}, which "
                "plada does not do; it crops, or squashes whole images. Choose another encoder"
            )
        return View(size=settings.size, mode=settings.mode, crop=settings.crop, interpolation=settings.interpolation)


def one_tag(spec: EncoderSpec, in_name: str) -> str:
    """The tag, given in the name or by itself; empty where there is none. Raises RequestError: two different ones."""
    if in_name and spec.tag and in_name != spec.tag:
        raise RequestError(
            f"encoder {spec.name}: its name says tag '{in_name}', --tag says '{spec.tag}'. Give one of them"
        )
    return in_name or spec.tag or ""


def check_weights_given(spec: EncoderSpec, tag: str, *, download: str, named: str) -> None:
    """Refuse to go on without weights; random ones (`named`) have to be asked for, downloads (`download`) too. Raises
    RequestError: no weights, or two kinds of them."""
    given = [word for word, there in (("--weights", spec.weights), ("--pretrained", spec.pretrained)) if there]
    if tag == RANDOM and given:
        raise RequestError(
            f"encoder {spec.name}: tag '{RANDOM}' asks for random weights; leave out {' and '.join(given)}"
        )
    if tag != RANDOM and not given:
        way = f"or --pretrained to download {download}" if download else "there is nothing known to download"
        raise RequestError(
            f"encoder {spec.name}: give --weights FILE (safetensors), {way}. Random weights are never used by accident; "
            f"{named} asks for them"
        )
    if len(given) == 2:
        raise RequestError(f"encoder {spec.name}: give --weights or --pretrained, not both")


def choose_settings(
    spec: EncoderSpec,
    tag: str,
    tags: Mapping[str, Settings],
    default: Settings,
    explicit: Mapping[str, Any],
    words: Mapping[str, str],
    recorded: Settings | None,
) -> Settings:
    """The preprocessing of the weights: their tag's, or what the user says, and never a guess.

    `tags` are those of the architecture. `default` serves random weights, and gives the size where nothing else does.
    `explicit` are fields of Settings that the user gave, `words` maps those fields to the user's names for them. Without a
    tag all tags that agree with `explicit` must want the same, or `explicit` must be complete. `recorded` is what an index
    recorded: it is used where nothing else decides.

    Raises:
        UnknownName: no such tag. RequestError: two contradict each other, or nothing says what the weights want.
    """
    sized = spec.image_size is not None
    if tag == RANDOM:
        chosen = default
    elif tag:
        if tag not in tags:
            raise UnknownName(f"tag of {spec.name}", tag, tags, hint=f"'{RANDOM}' asks for random weights")
        chosen = tags[tag]
        for field, value in explicit.items():
            if getattr(chosen, field) != value and not (sized and field == "crop"):
                raise RequestError(
                    f"encoder {spec.name}: tag '{tag}' has {words[field]} {getattr(chosen, field)}, --model-arg "
                    f"{words[field]} says {value}. Leave out one of them"
                )
    else:
        chosen = _without_tag(spec, tags, default, explicit, words, recorded, sized=sized)
    chosen = replace(chosen, **explicit)
    if spec.image_size is not None:
        chosen = replace(chosen, size=spec.image_size, crop=float(explicit.get("crop", 1.0)))
    return chosen


def _without_tag(
    spec: EncoderSpec,
    tags: Mapping[str, Settings],
    default: Settings,
    explicit: Mapping[str, Any],
    words: Mapping[str, str],
    recorded: Settings | None,
    *,
    sized: bool,
) -> Settings:
    agreeing = [
        settings
        for settings in tags.values()
        if all(getattr(settings, field) == value or (sized and field == "crop") for field, value in explicit.items())
    ]
    if len({settings.decisive(sized=sized) for settings in agreeing}) == 1:
        return agreeing[0]
    needed = [field for field in words if field != "crop" or not sized]
    missing = [field for field in needed if field not in explicit]
    if not missing and (sized or len({settings.size for settings in tags.values()} | {default.size}) == 1):
        return default
    if recorded is not None:
        return recorded
    listed = ", ".join(sorted(tags)) or "none"
    settings = " ".join(f"--model-arg {words[field]}=..." for field in needed)
    raise RequestError(
        f"encoder {spec.name}: a weights file does not contain the preprocessing, and the tags of this "
        f"architecture differ in it. Say with --tag which one it stands for ({listed}), or say all of: "
        f"{settings}{'' if sized else ' --image-size PIXELS'}"
    )


def check_patches(spec: EncoderSpec, size: int, patch: int) -> None:
    """Refuse a side of images that is not a multiple of the side of a patch. Raises RequestError: it is none; the two
    nearest are named."""
    if size % patch:
        raise RequestError(
            f"encoder {spec.name}: --image-size {size} is not a multiple of its patches of {patch} pixels. "
            f"Give {size // patch * patch or patch} or {(size // patch + 1) * patch}"
        )


def wrong_size(spec: EncoderSpec, native: int, size: int) -> RequestError:
    """What to say of a network that cannot take another size than its own."""
    return RequestError(f"encoder {spec.name}: it sees {native} pixels, not {size}. Leave out --image-size")


def pickled_weights(spec: EncoderSpec, tag: str, place: Any) -> RequestError:
    """What to say of weights that are published in no format that is opened here."""
    return RequestError(
        f"encoder {spec.name}: the weights of tag '{tag}' are published only as a pickle ({place}), which plada does not "
        "open. Convert them where you trust them (docs/encoders.md) and give --weights FILE"
    )


def split_arguments(
    spec: EncoderSpec, words: Mapping[str, str], values: Mapping[str, Mapping[Any, str]] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(arguments of the network, fields of Settings) out of --model-arg, checked; `values` translates words of values.
    Raises RequestError: a value that cannot be."""
    arguments, explicit = dict(spec.model_args), {}
    for field, word in words.items():
        if word not in arguments:
            continue
        value = arguments.pop(word)
        explicit[field] = _checked(spec.name, field, word, value, (values or {}).get(field))
    return arguments, explicit


def _checked(name: str, field: str, word: str, value: Any, known: Mapping[Any, str] | None) -> Any:
    if field in ("mean", "std"):
        numbers = value if isinstance(value, (list, tuple)) else [value]
        if len(numbers) != 3 or not all(isinstance(number, (int, float)) for number in numbers):
            raise RequestError(f"encoder {name}: {word}={value}: expected three numbers, such as {word}=[0.5,0.5,0.5]")
        return tuple(float(number) for number in numbers)
    if field == "crop":
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
            raise RequestError(f"encoder {name}: {word}={value}: expected a number above 0, at most 1")
        return float(value)
    if field == "quick_gelu":
        if not isinstance(value, bool):
            raise RequestError(f"encoder {name}: {word}={value}: expected true or false")
        return value
    if known is not None and value not in known:
        raise RequestError(f"encoder {name}: {word}={value}: expected {' or '.join(map(str, known))}")
    return known[value] if known is not None else value
