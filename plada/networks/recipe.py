"""How a network is trained: a flat set of plain options, so that a payload can recommend some of them in a few bytes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any

from plada.errors import RequestError, UnknownName
from plada.networks.network import SMALL_CNN
from plada.sources.decode import MAX_SIDE


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Optimiser (AdamW, warm-up, cosine), and augmentation of each batch; a neutral value switches a part off."""

    image_size: int = 0  # side of the square the network sees; 0: the network's own
    epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 1e-3
    body_rate: float = 1.0  # learning rate of a trained body, as a share of the head's
    weight_decay: float = 0.01
    label_smoothing: float = 0.05
    warmup: float = 0.1  # share of the steps
    mixup: float = 0.0  # both parameters of the Beta distribution that shares of blended pairs are drawn from; 0: off
    cutmix: float = 0.0  # the same for pairs that are patched together
    ema: float = 0.0  # decay per step of averaged weights, which then are the result
    mirror: bool = True  # left-right, for half of the images
    rotate: float = 10.0  # degrees either way
    scale: float = 1.25  # drawn (log-uniform) from 1/scale to scale
    stretch: float = 0.1  # exponent of a change of aspect, either way
    shear: float = 0.0  # horizontal shift per unit of height, either way
    translate: float = 0.1  # of the side, either way
    supersample: int = 1  # images are warped at this many times their size, then averaged down: no blur from warping

    def __post_init__(self) -> None:
        for name, (low, high, words) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise RequestError(f"recipe option {name}={_shown(value)}: expected {words or f'{low:g} to {high:g}'}")
        side = self.image_size * self.supersample
        if side > MAX_SIDE:
            raise RequestError(
                f"recipe options image_size={self.image_size}, supersample={self.supersample}: expected a product of at most "
                f"{MAX_SIDE}"
            )
        if self.batch_size * side**2 > _MAX_PIXELS:
            raise RequestError(
                f"recipe options batch_size={self.batch_size}, image_size={self.image_size}, supersample={self.supersample}: a "
                f"batch of {self.batch_size * side**2} pixels; expected at most {_MAX_PIXELS}"
            )

    def changed(self, options: Mapping[str, Any]) -> "Recipe":
        """This recipe with some options replaced; None leaves an option as it is. Raises UnknownName: no such option.
        RequestError: a value of the wrong type or out of range."""
        known: dict[str, Any] = {field.name: field.type for field in fields(self)}
        values: dict[str, Any] = {}
        for name, value in options.items():
            if name not in known:
                raise UnknownName("recipe option", name, known)
            if value is None:
                continue
            whole = known[name] in (int, bool)
            if isinstance(value, bool) != (known[name] is bool) or not isinstance(
                value, int if whole else (int, float)
            ):
                raise RequestError(f"recipe option {name}={_shown(value)}: expected {known[name].__name__}")
            try:
                values[name] = known[name](value)
            except OverflowError as err:  # a whole number of hundreds of digits
                raise RequestError(f"recipe option {name}={_shown(value)}: expected a smaller number") from err
        return replace(self, **values)


def _shown(value: Any) -> str:
    """A value for a message, however long it is."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write numbers of thousands of digits
        text = "a number of thousands of digits"
    return text if len(text) <= 40 else f"{text[:40]}..."


_MAX_PIXELS = 1 << 28  # of a batch before it is averaged down: 3 GiB as floats
_BELOW_ONE, _BELOW_TEN = math.nextafter(1, 0), math.nextafter(10, 0)
_RANGES: Mapping[str, tuple[float, float, str]] = MappingProxyType(
    {  # (least, most, words where these two do not say it): payloads recommend options, so all are bounded
        "image_size": (0, MAX_SIDE, ""),
        "epochs": (1, 10_000, ""),
        "batch_size": (1, 65_536, ""),
        "learning_rate": (math.ulp(0.0), _BELOW_TEN, "above 0, below 10"),
        "body_rate": (0, 1, ""),
        "weight_decay": (0, _BELOW_TEN, "0 or more, below 10"),
        "label_smoothing": (0, _BELOW_ONE, "0 or more, below 1"),
        "warmup": (0, _BELOW_ONE, "0 or more, below 1"),
        "mixup": (0, 10, ""),
        "cutmix": (0, 10, ""),
        "ema": (0, _BELOW_ONE, "0 or more, below 1"),
        "rotate": (0, 180, ""),
        "scale": (1, 4, ""),
        "stretch": (0, 2, ""),
        "shear": (0, 2, ""),
        "translate": (0, 1, ""),
        "supersample": (1, 8, ""),
    }
)

FROM_NOTHING = Recipe()
# Chosen on caltech20's validation images (docs/log.md): a body at the head's rate loses what it knew.
TRAINED_BODY = Recipe(learning_rate=3e-3, body_rate=0.03)
# Chosen on the digits' validation split (docs/log.md). Small pictures lose most when warping blurs them.
SMALL_PICTURES = Recipe(
    epochs=30, learning_rate=3e-3, warmup=0.2, rotate=15.0, scale=1.2, stretch=0.2, shear=0.25, translate=0.08,
    supersample=2,
)  # fmt: skip


def default_recipe(network: str, *, trained: bool) -> Recipe:
    """The starting point for a network: small_cnn learns small pictures from nothing; others learn photographs, from
    nothing or from a body that was `trained` before."""
    if network == SMALL_CNN:
        return SMALL_PICTURES
    return TRAINED_BODY if trained else FROM_NOTHING
