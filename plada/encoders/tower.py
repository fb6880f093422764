"""What the libraries of networks have in common: how an encoder is asked for, what preprocessing belongs to weights,
and the network that comes of it, not yet on any device."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

    def told(self, *, sized: bool) -> "Settings":
        """What of it decides an embedding when the side of the images is asked for: crop and size no longer do."""
        return replace(self, crop=1.0, size=0) if sized else self


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """An encoder as it is asked for. `recorded` is how an index recorded it: used where nothing else says."""

    name: str
    weights: Path | None
    pretrained: bool
    tag: str
    model_args: Mapping[str, Any]
    image_size: int | None
    recorded: Settings | None = None


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

    def view(self) -> View:
        """The view of an image that the settings ask for.

        Raises:
            RequestError: preprocessing that plada does not do (padding, for one).
        """
        settings = self.settings
        if settings.mode not in ("crop", "squash") or (settings.mode == "squash" and settings.crop != 1):
            raise RequestError(
                f"encoder {self.name}: its images are prepared by '{settings.mode}' with crop {settings.crop}, which "
                "plada does not do; it crops, or squashes whole images. Choose another encoder"
            )
        return View(size=settings.size, mode=settings.mode, crop=settings.crop, interpolation=settings.interpolation)


def one_tag(name: str, in_name: str, option: str) -> str:
    """The tag, given in the name or as an option.

    Raises:
        RequestError: two different ones.
    """
    if in_name and option and in_name != option:
        raise RequestError(f"encoder {name}: its name says tag '{in_name}', --tag says '{option}'. Give one of them")
    return in_name or option


def check_source(ask: Ask, tag: str, *, download: str, named: str) -> None:
    """Refuse to go on without weights; random ones (`named`) have to be asked for, downloads (`download`) too.

    Raises:
        RequestError: no weights, or two kinds of them.
    """
    given = [word for word, there in (("--weights", ask.weights), ("--pretrained", ask.pretrained)) if there]
    if tag == RANDOM and given:
        raise RequestError(
            f"encoder {ask.name}: tag '{RANDOM}' asks for random weights; leave out {' and '.join(given)}"
        )
    if tag != RANDOM and not given:
        way = f"or --pretrained to download {download}" if download else "there is nothing known to download"
        raise RequestError(
            f"encoder {ask.name}: give --weights FILE (safetensors), {way}. Random weights are never used by accident; "
            f"{named} asks for them"
        )
    if len(given) == 2:
        raise RequestError(f"encoder {ask.name}: give --weights or --pretrained, not both")


def choose_settings(
    ask: Ask,
    tag: str,
    tags: Mapping[str, Settings],
    default: Settings,
    explicit: Mapping[str, Any],
    words: Mapping[str, str],
) -> Settings:
    """The preprocessing of the weights asked for: their tag's, or what the user says, and never a guess.

    `tags` are those of the architecture, `default` serves random weights and gives the size where nothing else does,
    `explicit` are fields of Settings that the user gave, `words` maps those fields to the user's names for them. Without a tag all tags that
    agree with `explicit` must want the same, or `explicit` must be complete.

    Raises:
        UnknownName: no such tag. RequestError: two contradict each other, or nothing says what the weights want.
    """
    sized = ask.image_size is not None
    if tag == RANDOM:
        chosen = default
    elif tag:
        if tag not in tags:
            raise UnknownName(f"tag of {ask.name}", tag, tags, hint=f"'{RANDOM}' asks for random weights")
        chosen = tags[tag]
        for field, value in explicit.items():
            if getattr(chosen, field) != value and not (sized and field == "crop"):
                raise RequestError(
                    f"encoder {ask.name}: tag '{tag}' has {words[field]} {getattr(chosen, field)}, --model-arg "
                    f"{words[field]} says {value}. Leave out one of them"
                )
    else:
        chosen = _without_tag(ask, tags, default, explicit, words, sized=sized)
    chosen = replace(chosen, **explicit)
    if ask.image_size is not None:
        chosen = replace(chosen, size=ask.image_size, crop=float(explicit.get("crop", 1.0)))
    return chosen


def _without_tag(
    ask: Ask,
    tags: Mapping[str, Settings],
    default: Settings,
    explicit: Mapping[str, Any],
    words: Mapping[str, str],
    *,
    sized: bool,
) -> Settings:
    agreeing = [
        settings
        for settings in tags.values()
        if all(getattr(settings, field) == value or (sized and field == "crop") for field, value in explicit.items())
    ]
    if len({settings.told(sized=sized) for settings in agreeing}) == 1:
        return agreeing[0]
    needed = [field for field in words if field != "crop" or not sized]
    missing = [field for field in needed if field not in explicit]
    if not missing and (sized or len({settings.size for settings in tags.values()} | {default.size}) == 1):
        return default
    if ask.recorded is not None:
        return ask.recorded
    listed = ", ".join(sorted(tags)) or "none"
    settings = " ".join(f"--model-arg {words[field]}=..." for field in needed)
    raise RequestError(
        f"encoder {ask.name}: a weights file alone does not say how its images are prepared, and the tags of this "
        f"architecture leave it open. Say with --tag which one it stands for ({listed}), or say all of: "
        f"{settings}{'' if sized else ' --image-size PIXELS'}"
    )


def split_arguments(
    ask: Ask, words: Mapping[str, str], values: Mapping[str, Mapping[Any, str]] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(arguments of the network, fields of Settings) out of --model-arg, checked; `values` translates words of values.

    Raises:
        RequestError: a value that cannot be.
    """
    arguments, explicit = dict(ask.model_args), {}
    for field, word in words.items():
        if word not in arguments:
            continue
        value = arguments.pop(word)
        explicit[field] = _checked(ask.name, field, word, value, (values or {}).get(field))
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
