"""The temperature under which a teacher's probabilities fit what it is right about."""

import math

import numpy as np

from plada.common.arrays import F32, I64

_COLDEST, _HOTTEST = 0.05, 20.0  # temperatures that are looked at
_GOLDEN = (math.sqrt(5) - 1) / 2
_STEPS = 40  # of golden sections: log T to 1e-7 of its range
_NUMBERS = 1 << 20  # logits that are looked at together
MAX_LOGITS = 1 << 25  # that a temperature is found on
MIN_IMAGES = 10  # validation images below which a temperature would be noise


def log_likelihood(logits: F32, labels: I64, temperature: float = 1.0) -> float:
    """Mean log probability, in nats, of `labels` int64 [n] under softmax(logits / temperature), logits float32 [n, c]."""
    found = np.empty(len(labels))
    step = max(1, _NUMBERS // logits.shape[1])
    for start in range(0, len(labels), step):
        scaled = logits[start : start + step].astype(np.float64) / temperature
        peak = scaled.max(axis=1)
        total = peak + np.log(np.exp(scaled - peak[:, None]).sum(axis=1))
        found[start : start + step] = scaled[np.arange(len(scaled)), labels[start : start + step]] - total
    return float(found.mean())


def fit_temperature(logits: F32, labels: I64) -> float:
    """The temperature under which `labels` int64 [n] are likeliest (Guo et al. 2017); 1 for fewer than MIN_IMAGES.

    It changes no label and no order within an image, but it changes the energies of images against each other. Teachers
    can only vote when their probabilities mean the same. Of more than MAX_LOGITS logits every second, third ... image is looked
    at.
    """
    if len(labels) < MIN_IMAGES:
        return 1.0
    step = -(-logits.size // MAX_LOGITS)
    logits, labels = logits[::step], labels[::step]
    low, high = math.log(_COLDEST), math.log(_HOTTEST)
    for _ in range(_STEPS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if log_likelihood(logits, labels, math.exp(left)) >= log_likelihood(logits, labels, math.exp(right)):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)
