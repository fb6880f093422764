"""Payloads that the tests of this folder share."""

from typing import Any

import numpy as np

from plada.payload.payload import Payload
from plada.payload.shared_context import SharedContext

KEY, CONTENT = bytes(range(8)), bytes(range(8, 16))


def made(
    k: int = 60, n: int = 1000, classes: tuple[str, ...] = ("ant", "bee", "cat"), seed: int = 0, **fields: Any
) -> Payload:
    """A payload of k random images; notes of its own unless `fields` say otherwise."""
    rng = np.random.default_rng(seed)
    positions = np.sort(rng.choice(n, k, replace=False))
    fields = {"notes": {"recipe": {"mirror": False}}, **fields}
    return Payload(positions, rng.integers(0, len(classes), k), classes, n, KEY, CONTENT, **fields)


def folders(n: int = 1000, seed: int = 0) -> SharedContext:
    """The shared of a client that has the manifest: blocks of uneven sizes, some of one image."""
    rng = np.random.default_rng(seed)
    inner = np.unique(rng.integers(1, max(n, 2), max(1, n // 40)))
    return SharedContext(np.unique(np.concatenate([[0], inner[inner < n], [n]])).astype(np.int64))


def same(one: Payload, other: Payload) -> bool:
    """Whether two payloads say the same."""
    fields = ("classes", "reference", "key_id", "content_id", "serial")
    arrays = np.array_equal(one.positions, other.positions) and np.array_equal(one.labels, other.labels)
    return arrays and all(getattr(one, f) == getattr(other, f) for f in fields) and dict(one.notes) == dict(other.notes)
