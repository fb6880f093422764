"""The temperature under which a teacher's probabilities fit what it is right about, and the bias of a student by class."""

import math

import numpy as np

from plada.common.arrays import F32, F64, I64
from plada.common.statistics import chi_square_p, softmax
from plada.networks.solver import minimise
from plada.payload.calibration import PAYLOAD, Calibration

_COLDEST, _HOTTEST = 0.05, 20.0  # temperatures that are looked at
_GOLDEN = (math.sqrt(5) - 1) / 2
_STEPS = 40  # of golden sections: log T to 1e-7 of its range
_NUMBERS = 1 << 20  # logits that are looked at together
MAX_LOGITS = 1 << 25  # that a temperature is found on
MIN_IMAGES = 10  # validation images below which a temperature would be noise
BIAS_PENALTY = 1e-3  # on squared biases; chosen in benchmarks/adaptation.py
BIAS_LEVEL = 0.05  # of the test that a bias has to pass
_BIAS_STEPS = 200  # of the search for a bias
_SPREADS = 1000  # images whose logits' spread is kept


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


def fit_calibration(
    logits: F32,
    labels: I64,
    *,
    source: str = PAYLOAD,
    encoder: str = "",
    spreads: bool = False,
    penalty: float = BIAS_PENALTY,
) -> Calibration:
    """The calibration of a student by its logits float32 [n, c] of images with `labels` int64 [n], none of which it has learned from.

    Bias-corrected temperature scaling (Alexandari, Kundaje and Shrikumar 2020): temperature and bias minimise the mean of
    -log softmax(logits / temperature + bias) at the labels, plus `penalty` |bias|^2. The bias is kept where a likelihood-ratio test at
    BIAS_LEVEL says that there is one. Shares are those of `labels`, each class counted once more; without a bias the mean
    probabilities, as these authors advise.
    """
    classes = logits.shape[1]
    counts = np.bincount(labels, minlength=classes)
    temperature, bias = fit_temperature(logits, labels), np.zeros(classes)
    if len(labels) >= MIN_IMAGES and classes > 1:
        warmer, found = _fit_bias(logits, labels, temperature, penalty)
        gained = log_likelihood(_biased(logits, warmer, found), labels) - log_likelihood(logits, labels, temperature)
        if chi_square_p(2 * len(labels) * gained, classes - 1) < BIAS_LEVEL:
            temperature, bias = warmer, found
    if bias.any():
        shares = (counts + 1) / (counts.sum() + classes)
    else:  # what the student says on average: it may lean a little, unproved, and that is no shift
        shares = (_mean_odds(logits, temperature) * len(labels) + 1 / classes) / (len(labels) + 1)
    rows = np.arange(0, len(labels), -(-len(labels) // _SPREADS))
    return Calibration(
        temperature=temperature,
        bias=bias,
        shares=shares,
        images=len(labels),
        source=source,
        encoder=encoder,
        spread=logits[rows].std(axis=1) if spreads else None,
        labels=labels[rows] if spreads else None,
    )


def _mean_odds(logits: F32, temperature: float) -> F64:
    total = np.zeros(logits.shape[1])
    step = max(1, _NUMBERS // logits.shape[1])
    for start in range(0, len(logits), step):
        total += softmax(logits[start : start + step].astype(np.float64), temperature).sum(axis=0)
    return total / len(logits)


def _biased(logits: F32, temperature: float, bias: F64) -> F32:
    return np.asarray(logits / temperature + bias, np.float32)


def _fit_bias(logits: F32, labels: I64, temperature: float, penalty: float) -> tuple[float, F64]:
    """(temperature, bias float64 [c] whose mean is 0) that fit together, of a sample where there are more than MAX_LOGITS."""
    step = -(-logits.size // MAX_LOGITS)
    inputs, truth = logits[::step].astype(np.float64) / temperature, labels[::step]
    inputs -= inputs.max(axis=1, keepdims=True)
    rows, classes = np.arange(len(truth)), logits.shape[1]

    def value(parameters: F64) -> tuple[float, F64]:
        scale, bias = math.exp(float(np.clip(parameters[0, 0], -5, 5))), parameters[0, 1:]
        scaled = inputs * scale + bias
        scaled -= scaled.max(axis=1, keepdims=True)
        powers = np.exp(scaled)
        totals = powers.sum(axis=1, keepdims=True)
        loss = float((np.log(totals[:, 0]) - scaled[rows, truth]).mean()) + penalty * float(np.vdot(bias, bias))
        powers /= totals
        powers[rows, truth] -= 1
        powers /= len(truth)
        slope = np.concatenate([[scale * float(np.vdot(powers, inputs))], powers.sum(axis=0) + 2 * penalty * bias])
        return loss, slope[None]

    best = minimise(value, np.zeros((1, classes + 1)), _BIAS_STEPS)
    scale = math.exp(float(np.clip(best[0, 0], -5, 5)))
    return float(np.clip(temperature / scale, _COLDEST, _HOTTEST)), best[0, 1:] - best[0, 1:].mean()
