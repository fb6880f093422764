"""How far a teacher can be believed: an interval around its accuracy, and the temperature that makes its odds honest."""

import math

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
_Z95 = 1.959963984540054  # of the normal distribution, two-sided
_COLDEST, _HOTTEST = 0.05, 20.0  # temperatures that are looked at
_GOLDEN = (math.sqrt(5) - 1) / 2
_STEPS = 40  # of golden sections: log T to 1e-7 of its range
LEAST_IMAGES = 10  # validation images below which a temperature would be noise


def interval(right: int, images: int, z: float = _Z95) -> tuple[float, float] | None:
    """Wilson's 95 % interval of an accuracy of `right` out of `images`; None for no image. It stays inside 0..1 and is
    sound for the few dozen images that a validation split may have, where the textbook one is not."""
    if not images:
        return None
    share, spread = right / images, z * z / images
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / images + spread / (4 * images))
    # The ends are exact where nothing, or everything, was right; rounding would miss them by a bit.
    return middle - half if right else 0.0, middle + half if right < images else 1.0


def above_chance(right: int, images: int, classes: int, z: float = _Z95) -> bool:
    """Whether an accuracy is above 1/classes beyond doubt (the lower end of its interval is)."""
    found = interval(right, images, z)
    return found is not None and found[0] > 1 / classes


def log_likelihood(logits: F32, labels: npt.NDArray[np.int64], temperature: float = 1.0) -> float:
    """Mean log probability, in nats, of `labels` int64 [n] under softmax(logits / temperature), logits float32 [n, c]."""
    scaled = logits.astype(np.float64) / temperature
    peak = scaled.max(axis=1)
    total = peak + np.log(np.exp(scaled - peak[:, None]).sum(axis=1))
    return float((scaled[np.arange(len(labels)), labels] - total).mean())


def fit_temperature(logits: F32, labels: npt.NDArray[np.int64]) -> float:
    """The temperature under which `labels` int64 [n] are likeliest (Guo et al. 2017); 1 for fewer than LEAST_IMAGES.

    One number changes no label and no order within an image, but it does change energies of images against each other,
    and teachers can only vote when their odds mean the same.
    """
    if len(labels) < LEAST_IMAGES:
        return 1.0
    low, high = math.log(_COLDEST), math.log(_HOTTEST)
    for _ in range(_STEPS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if log_likelihood(logits, labels, math.exp(left)) >= log_likelihood(logits, labels, math.exp(right)):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)
