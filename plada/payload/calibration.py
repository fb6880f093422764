"""Calibration of a student: what its logits mean on pictures of the target, and how often each class is expected there.

A payload may carry the one of a linear student on the server's encoder, measured on the target's own images: a character a class in
the notes. Readers that do not know the note leave it alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from plada.common.arrays import F32, F64, I64
from plada.errors import PayloadCorrupt

NOTE = "calibration"
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"  # the numbers 0 to 63, a character each
MAX_ENCODER = 64  # letters of an encoder's id
_ZERO, _BIAS_STEP, _SHARE_STEP = 32, 0.1, 0.125  # of the natural logarithm
_COLDEST, _HOTTEST = 0.01, 1000.0
_MAX_IMAGES = 1 << 31
OWN_PICTURES, PAYLOAD, LABELLED_SET = "own pictures", "payload", "labelled set"  # what a calibration was measured on
SOURCES = (OWN_PICTURES, PAYLOAD, LABELLED_SET)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """Probabilities of classes are softmax(logits / temperature + bias), where each class has its share of the images.

    `bias` float64 [classes]; `shares` float64 [classes], above 0, add up to 1. `images` it was measured on. `encoder` is the id of
    the encoder that the student stands on, "" for any. `spread` float32 [n], with the class of each in `labels` int64 [n], are the
    standard deviations of the logits of images that the student has not learned from: pictures of another kind show by theirs.
    """

    temperature: float
    bias: F64
    shares: F64
    images: int
    source: str = PAYLOAD
    encoder: str = ""
    spread: F32 | None = None
    labels: I64 | None = None

    def note(self) -> dict[str, Any]:
        """The member NOTE of a payload's notes: [images, temperature, encoder, bias, shares]; a bias that is 0 everywhere and
        shares that are all alike are empty texts, and left out at the end."""
        steps = np.rint(self.bias / _BIAS_STEP).astype(np.int64)
        bias = _text(np.clip(steps + _ZERO, 0, len(ALPHABET) - 1)) if steps.any() else ""
        rarer = np.rint(np.log(self.shares.max() / self.shares) / _SHARE_STEP).astype(np.int64)
        shares = _text(np.minimum(rarer, len(ALPHABET) - 1)) if rarer.any() else ""
        parts = [self.images, float(f"{self.temperature:.3g}"), self.encoder, bias, shares]
        while parts[-1] == "":
            parts.pop()
        return {NOTE: parts}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a model's card."""
        plain = {
            "temperature": self.temperature,
            "bias": self.bias.tolist(),
            "shares": self.shares.tolist(),
            "images": self.images,
            "source": self.source,
        }
        if self.spread is not None and self.labels is not None:
            spread = [float(f"{value:.5g}") for value in self.spread.tolist()]
            plain |= {"spread": spread, "labels": self.labels.tolist()}
        return plain


def calibration_of(notes: Mapping[str, Any], classes: int) -> Calibration | None:
    """The calibration in the notes of a payload of `classes`, or None where there is none.

    Raises:
        PayloadCorrupt: not what Calibration.note makes.
    """
    if NOTE not in notes:
        return None
    note = notes[NOTE]
    parts: list[Any] = [*note, "", "", ""][:5] if isinstance(note, list) and 2 <= len(note) <= 5 else [None] * 5
    images, temperature, encoder, bias, shares = parts
    texts = (
        isinstance(encoder, str)
        and len(encoder) <= MAX_ENCODER
        and _is_text(bias, classes)
        and _is_text(shares, classes)
    )
    if not texts or not _is_count(images) or not _is_temperature(temperature):
        raise PayloadCorrupt(
            f"note {NOTE}: expected a number of images, a temperature, an encoder, and texts of {classes} characters. Ask for "
            "the payload again"
        )
    rarer = np.exp(-_SHARE_STEP * _numbers(shares)) if shares else np.ones(classes)
    return Calibration(
        temperature=float(temperature),
        bias=_BIAS_STEP * (_numbers(bias) - _ZERO) if bias else np.zeros(classes),
        shares=rarer / rarer.sum(),
        images=images,
        encoder=encoder,
    )


def calibration_of_card(card: Mapping[str, Any]) -> Calibration | None:
    """The calibration in a model's card, or None where there is none. Raises ValueError: not what Calibration.to_dict makes."""
    found, classes = card.get("calibration"), len(card["classes"])
    if found is None:
        return None
    good = (
        isinstance(found, dict)
        and _is_temperature(found.get("temperature"))
        and _is_count(found.get("images"))
        and found.get("source") in SOURCES
        and all(_are_numbers(found.get(name)) and len(found[name]) == classes for name in ("bias", "shares"))
        and all(share > 0 for share in found["shares"])
    )
    if not good:
        raise ValueError("calibration")
    spread, labels = found.get("spread"), found.get("labels")
    if spread is not None:
        whole = isinstance(labels, list) and all(type(label) is int and 0 <= label < classes for label in labels)
        if not whole or not _are_numbers(spread) or not len(spread) == len(labels) > 0:
            raise ValueError("calibration: spread")
    shares = np.array(found["shares"], np.float64)
    return Calibration(
        temperature=float(found["temperature"]),
        bias=np.array(found["bias"], np.float64),
        shares=shares / shares.sum(),
        images=found["images"],
        source=found["source"],
        spread=np.array(spread, np.float32) if spread is not None else None,
        labels=np.array(labels, np.int64) if spread is not None else None,
    )


def widest_note(classes: int, encoder: str, images: int, *, both: bool) -> dict[str, Any]:
    """A note that takes as many bytes as any on so many classes and images, with `both` texts or one: what a selection keeps free for
    the one that it will make."""
    drawn = np.random.default_rng(classes).integers(0, len(ALPHABET), (2, classes))
    return {NOTE: [images, 0.123, encoder, _text(drawn[0]), *([_text(drawn[1])] if both else [])]}


def needs_shares(shares: F64) -> bool:
    """Whether shares are so unlike that a note has them."""
    return bool(np.rint(np.log(shares.max() / shares) / _SHARE_STEP).any())


def _text(numbers: I64) -> str:
    return "".join(ALPHABET[number] for number in numbers.tolist())


def _numbers(text: str) -> F64:
    return np.array([ALPHABET.index(letter) for letter in text], np.float64)


def _is_text(text: Any, classes: int) -> bool:
    return isinstance(text, str) and len(text) in (0, classes) and set(text) <= set(ALPHABET)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 < value < _MAX_IMAGES


def _is_temperature(value: Any) -> bool:
    return type(value) in (int, float) and _COLDEST <= value <= _HOTTEST


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(
        type(value) in (int, float) and abs(value) < 1e6
        for value in values  # no NaN is less
    )
