"""A client's own unlabelled pictures correct the class prior of its model: `plada predict --adapt FOLDER`.

Classes that are frequent in the pictures get more of the doubtful ones. The model's calibration says what its logits mean on such
pictures; EM finds the shares that make the pictures likeliest (Saerens, Latinne and Decaestecker 2002), after bias-corrected
temperature scaling (Alexandari, Kundaje and Shrikumar 2020). Two tests turn it off: pictures of another kind than those that the
calibration was measured on, and shares that are not surely other than expected.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from plada.common.arrays import F32, F64, U8
from plada.common.progress import Report, Tracker, silent
from plada.common.statistics import chi_square_p, kolmogorov_p
from plada.errors import DataError, RequestError
from plada.payload.calibration import Calibration
from plada.sources.decode import View, load_pixels
from plada.sources.formats.folder import open_folder
from plada.trainer.run import TrainedStudent

LEVEL = 0.05  # of both tests
PRIOR_IMAGES = 3  # pictures of each class that the expected shares count as; chosen in benchmarks/adaptation.py
_STEPS, _SETTLED = 500, 1e-7  # of EM
_BLOCK = 1024  # pictures in memory at a time
_MAX_LOGITS = 1 << 25  # that shares are estimated on: 256 MB
_NO_CALIBRATION = (
    "the model has no calibration: it is a network, or had too few images or too many classes for one. Forty or more pictures "
    "with labels give it one (plada train --own)"
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Adaptation:
    """What a folder of unlabelled pictures says of the classes there, and what a model does about it.

    Attributes:
        pool: The folder.
        images: Pictures in it that were looked at.
        unreadable: Pictures that cannot be read.
        classes: Names of the classes.
        shares: Estimated share of each class in the folder, float64 [c]; as expected where there is no estimate.
        expected: Share of each class that the model was calibrated for, float64 [c].
        p: Probability of shares so far from the expected ones by chance alone; None without an estimate.
        source: What the model was calibrated on: "own pictures", "payload", "labelled set"; None without a calibration.
        calibrated: Whether temperature and bias of the calibration are applied.
        used: Whether the estimated shares are applied, too.
        note: Why they are not; empty where they are.
    """

    pool: str
    images: int
    unreadable: int
    classes: tuple[str, ...]
    shares: F64
    expected: F64
    p: float | None
    source: str | None
    calibrated: bool
    used: bool
    note: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON: shares by the names of their classes."""
        values = {name: getattr(self, name) for name in self.__slots__}
        for name in ("shares", "expected"):
            values[name] = {
                each: round(float(value), 6) for each, value in zip(self.classes, values[name], strict=True)
            }
        del values["classes"]
        return values


@dataclass(frozen=True, slots=True)
class AdaptedModel:
    """A model whose logits are corrected: divided by the temperature, `offset` float64 [c] added."""

    model: TrainedStudent
    temperature: float
    offset: F64
    adaptation: Adaptation

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.model.classes

    @property
    def view(self) -> View:
        """How the model wants its images."""
        return self.model.view

    @property
    def calibration(self) -> Calibration | None:
        """What the model's logits mean before they are corrected."""
        return self.model.calibration

    def logits(self, pixels: U8) -> F32:
        """Logits float32 [n, classes] of pixels uint8 [n, size, size, 3] as `view` makes them."""
        return np.asarray(self.model.logits(pixels) / self.temperature + self.offset, np.float32)

    def save(self, path: Path) -> None:
        """Write the model as it was before: a correction is for one folder."""
        self.model.save(path)


def adapt_model(model: TrainedStudent, pool: str | Path, *, report: Report = silent) -> AdaptedModel:
    """`model` corrected by the pictures in the folder `pool`, or as it was, with the reason in its `adaptation`.

    Raises:
        RequestError: there is no such folder, or no picture in it. DataError: none of them can be read; answers that are not finite.
    """
    logits, unreadable = _pool_logits(model, Path(pool), report)
    classes, calibration = len(model.classes), model.calibration
    if calibration is None:
        even = np.full(classes, 1 / classes)
        adaptation = Adaptation(
            pool=str(pool), images=len(logits), unreadable=unreadable, classes=model.classes, shares=even, expected=even, p=None,
            source=None, calibrated=False, used=False, note=_NO_CALIBRATION,
        )  # fmt: skip
        return AdaptedModel(model, 1.0, np.zeros(classes), adaptation)
    correction = correct(logits, calibration)
    adaptation = Adaptation(
        pool=str(pool), images=len(logits), unreadable=unreadable, classes=model.classes, shares=correction.shares,
        expected=calibration.shares, p=correction.p, source=calibration.source, calibrated=correction.calibrated,
        used=correction.used, note=correction.note,
    )  # fmt: skip
    return AdaptedModel(model, correction.temperature, correction.offset, adaptation)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Correction:
    """What is done to logits: they are divided by `temperature`, and `offset` float64 [c] is added. The rest is as in Adaptation."""

    temperature: float
    offset: F64
    shares: F64
    p: float
    calibrated: bool
    used: bool
    note: str


def correct(logits: F32, calibration: Calibration, *, prior: float = PRIOR_IMAGES) -> Correction:
    """The correction that a pool with `logits` float32 [n, c] calls for. `prior` is how many pictures of each class the expected shares
    count as."""
    shares, p = estimate_shares(logits, calibration, prior=prior)
    calibrated = Correction(
        temperature=calibration.temperature,
        offset=calibration.bias,
        shares=shares,
        p=p,
        calibrated=True,
        used=False,
        note="",
    )
    alike = same_kind_p(logits, calibration)
    if alike is not None and alike < LEVEL:
        kind = f"the {calibration.source} (p = {alike:.1g})"
        note = f"the pictures are of another kind than those that the model was calibrated on, {kind}"
        return replace(calibrated, temperature=1.0, offset=np.zeros(len(shares)), calibrated=False, note=note)
    if p >= LEVEL:
        note = f"the shares are not surely other than expected (p = {p:.2g}, {len(logits)} pictures)"
        return replace(calibrated, note=note)
    offset = calibration.bias + np.log(shares) - np.log(calibration.shares)
    return replace(calibrated, offset=offset, used=True)


def estimate_shares(logits: F32, calibration: Calibration, *, prior: float = PRIOR_IMAGES) -> tuple[F64, float]:
    """(shares of the classes float64 [c], p) of a pool with `logits` float32 [n, c].

    With p_s(y | x) = softmax(logits / T + b) under the shares s, EM maximises sum_x log sum_y (q_y / s_y) p_s(y | x) over shares q, where s
    counts as `prior` pictures of each class. p is that of a likelihood-ratio test of q = s; as s and b are themselves known from m
    images, the ratio is divided by 1 + n / m.
    """
    expected = calibration.shares
    scaled = logits.astype(np.float64) / calibration.temperature + calibration.bias
    scaled -= scaled.max(axis=1, keepdims=True)
    odds = np.exp(scaled)
    odds /= odds.sum(axis=1, keepdims=True)
    odds /= expected
    likeliest = _maximise(odds, expected, 0.0)
    ratio = 2 * float(np.log(odds @ likeliest).sum() - np.log(odds @ expected).sum())
    p = chi_square_p(ratio / (1 + len(logits) / calibration.images), len(expected) - 1) if len(expected) > 1 else 1.0
    return _maximise(odds, expected, prior * len(expected)), p


def _maximise(odds: F64, expected: F64, weight: float) -> F64:
    """EM from the expected shares, which count as `weight` pictures."""
    shares = expected
    for _ in range(_STEPS):
        found = odds * shares
        found /= found.sum(axis=1, keepdims=True)
        moved = (found.sum(axis=0) + weight * expected) / (len(odds) + weight)
        settled = np.abs(moved - shares).max() < _SETTLED
        shares = moved
        if settled:
            break
    return shares


def same_kind_p(logits: F32, calibration: Calibration) -> float | None:
    """p of the pool's pictures being those that the calibration was measured on, but for the shares of the classes; None where it
    does not say how these looked. A Kolmogorov-Smirnov test of the deviation of each picture's logits: a model is less sure of
    pictures of a kind that it has not seen. The calibration's pictures count by the estimated shares of their classes."""
    if calibration.spread is None or calibration.labels is None:
        return None
    shares, _ = estimate_shares(logits, calibration)
    weights = shares[calibration.labels] / np.bincount(calibration.labels, minlength=len(shares))[calibration.labels]
    order = np.argsort(calibration.spread, kind="stable")
    theirs, weights = calibration.spread[order], weights[order] / weights.sum()
    ours = np.sort(logits.std(axis=1))
    grid = np.concatenate([ours, theirs])
    share_of_ours = np.searchsorted(ours, grid, side="right") / len(ours)
    share_of_theirs = np.concatenate([[0.0], np.cumsum(weights)])[np.searchsorted(theirs, grid, side="right")]
    size = 1 / float(np.square(weights).sum())
    return kolmogorov_p(float(np.abs(share_of_ours - share_of_theirs).max()), len(ours) * size / (len(ours) + size))


def _pool_logits(model: TrainedStudent, pool: Path, report: Report) -> tuple[F32, int]:
    """(logits float32 [n, c] of the readable pictures in a folder, how many others there are). Of very many every second, third ...
    picture is looked at."""
    if not pool.is_dir():
        raise RequestError(f"--adapt {pool}: no such folder. Name a folder of your own pictures")
    try:
        collection = open_folder(pool)
    except DataError as err:
        raise RequestError(f"--adapt {pool}: no picture in it that can be listed ({err})") from err
    step = -(-len(collection) * len(model.classes) // _MAX_LOGITS)
    positions = np.arange(0, len(collection), max(1, step))
    tracker, parts, unreadable = Tracker("adapt", len(positions), report), [], 0
    for start in range(0, len(positions), _BLOCK):
        some = positions[start : start + _BLOCK]
        pixels, readable = load_pixels(collection.read, some, model.view, stage="adapt")
        if readable.any():
            parts.append(model.logits(pixels[readable]))
        unreadable += int((~readable).sum())
        tracker.advance(len(some))
    if not parts:
        raise DataError(f"--adapt {pool}: none of its {len(positions)} pictures can be read. Name a folder of pictures")
    logits = np.concatenate(parts)
    if not np.isfinite(logits).all():
        raise DataError(f"--adapt {pool}: the model's answers are not finite numbers. Train it again")
    return logits, unreadable
