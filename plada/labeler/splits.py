"""Images dealt out into parts, for everything that is judged by cross-validation."""

from dataclasses import dataclass

import numpy as np

from plada.common.arrays import F32, I64


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Cross-validated logits float32 [m, classes] of known images at `rows` int64 [m] (rising): each by a head that has not seen
    it."""

    rows: I64
    logits: F32


def stratified(labels: I64, parts: int, *, seed: int) -> I64:
    """The part 0 .. parts-1 of each image, int64 [n]: every class is dealt out evenly, at random, each going on where the
    last one stopped."""
    rng, place, at = np.random.default_rng([seed, 5]), np.zeros(len(labels), np.int64), 0
    edges = np.flatnonzero(np.diff(np.sort(labels))) + 1
    for mine in np.split(np.argsort(labels, kind="stable"), edges):
        rows = rng.permutation(mine)
        place[rows] = (at + np.arange(len(rows))) % parts
        at += len(rows)
    return place
