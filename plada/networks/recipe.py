"""How a network is trained: a flat set of plain options, so that a payload can recommend some of them in a few bytes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from plada.errors import RequestError, UnknownName
from plada.networks.network import SMALL_CNN


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
        sound = (
            self.epochs >= 1,
            self.batch_size >= 1,
            0 < self.learning_rate < 10,
            0 <= self.body_rate <= 1,
            0 <= self.weight_decay < 10,
            0 <= self.label_smoothing < 1,
            0 <= self.warmup < 1,
            0 <= self.ema < 1,
            0 <= self.mixup <= 10,
            0 <= self.cutmix <= 10,
            0 <= self.rotate <= 180,
            1 <= self.scale <= 4,
            0 <= self.stretch <= 2,
            0 <= self.shear <= 2,
            0 <= self.translate <= 1,
            1 <= self.supersample <= 8,
            0 <= self.image_size <= 4096,
        )
        if not all(sound):
            raise RequestError(f"an option of the recipe is out of range: {asdict(self)}")

    def changed(self, options: Mapping[str, Any]) -> "Recipe":
        """This recipe with some options replaced; None leaves an option as it is.

        Raises:
            UnknownName: no such option. RequestError: a value of the wrong type or out of range.
        """
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
                raise RequestError(f"recipe option {name}={value!r}: expected {known[name].__name__}")
            values[name] = known[name](value)
        return replace(self, **values)


FROM_NOTHING = Recipe()
# Chosen on caltech20's validation images (docs/log.md): a body at the head's rate loses what it knew.
TRAINED_BODY = Recipe(learning_rate=3e-3, body_rate=0.03)
# Chosen on the digits' validation split (docs/log.md). Small pictures lose most when warping blurs them.
SMALL_PICTURES = Recipe(
    epochs=30,
    learning_rate=3e-3,
    warmup=0.2,
    rotate=15.0,
    scale=1.2,
    stretch=0.2,
    shear=0.25,
    translate=0.08,
    supersample=2,
)


def default_recipe(network: str, *, trained: bool) -> Recipe:
    """The starting point for a network: small_cnn learns small pictures from nothing; others learn photographs, from
    nothing or from a body that was `trained` before."""
    if network == SMALL_CNN:
        return SMALL_PICTURES
    return TRAINED_BODY if trained else FROM_NOTHING
