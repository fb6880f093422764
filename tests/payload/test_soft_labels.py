"""Soft labels in the notes: what is read is what was written, and nothing else is taken for it."""

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest

from plada.errors import PayloadCorrupt, PayloadUnsupported
from plada.payload.payload import Payload, parse_payload
from plada.payload.soft_labels import MAX_CLASSES, NOTE, PARTS, SoftLabels, soft_labels_of

SHARES = np.array([[200, 55, 0], [0, PARTS, 0], [1, 4, 250]], np.int64)


@pytest.mark.parametrize("precision", [None, np.array([0.1, 12.3, 10_000.0])])
def test_a_payload_carries_them(precision: np.ndarray | None) -> None:
    made = SoftLabels(SHARES, precision)
    notes = {"target": "x", **made.note()}
    payload = Payload(np.arange(5), np.arange(5) % 3, ("a", "b", "c"), 100, b"k" * 8, b"c" * 8, notes=notes)
    read = soft_labels_of(parse_payload(payload.encode()).payload.notes, 3)
    assert read is not None
    assert np.array_equal(read.shares, SHARES)
    assert (read.precision is None) == (precision is None)
    if precision is not None and read.precision is not None:
        assert np.array_equal(read.precision, precision)
    assert soft_labels_of({"target": "x"}, 3) is None


def test_targets_are_the_shares_or_drawn_around_them() -> None:
    labels = np.repeat(np.arange(3), 4000)
    plain = SoftLabels(SHARES).targets(labels, 0)
    assert np.array_equal(plain, SHARES[labels] / PARTS)
    drawn = SoftLabels(SHARES, np.array([5.0, 0.1, 1000.0]))
    found = drawn.targets(labels, 0)
    assert np.allclose(found.sum(axis=1), 1)
    assert np.allclose(found[labels == 0].mean(axis=0), SHARES[0] / PARTS, atol=0.01)
    # The variance of a Dirichlet's own class: mu (1 - mu) / (s + 1), which is what equation 13 turns round.
    mu = SHARES[0, 0] / PARTS
    assert found[labels == 0, 0].var() == pytest.approx(mu * (1 - mu) / 6, rel=0.1)
    assert found[labels == 2].std(axis=0).max() < 0.02
    assert np.array_equal(found, drawn.targets(labels, 0))
    assert not np.array_equal(found, drawn.targets(labels, 1))


@pytest.mark.parametrize(
    "note",
    [
        3,
        {},
        {"shares": [[0, 255]] * 2},
        {"shares": [[0, 254], [1, 255], [2, 255]]},
        {"shares": [[3, 255], [1, 255], [2, 255]]},
        {"shares": [[-1, 255], [1, 255], [2, 255]]},
        {"shares": [[0, 200, 0, 55], [1, 255], [2, 255]]},
        {"shares": [[0, 300, 1, -45], [1, 255], [2, 255]]},
        {"shares": [[0, 254.5, 1, 0.5], [1, 255], [2, 255]]},
        {"shares": [[True, 255], [1, 255], [2, 255]]},
        {"shares": [[0], [1, 255], [2, 255]]},
        {"shares": [[0, 255], [1, 255], [2, 255]], "precision": [1, 2]},
        {"shares": [[0, 255], [1, 255], [2, 255]], "precision": [1, 2, 0]},
        {"shares": [[0, 255], [1, 255], [2, 255]], "precision": [1, 2, "3"]},
    ],
)
def test_other_notes_are_refused(note: Any) -> None:
    with pytest.raises(PayloadCorrupt, match="soft_labels"):
        soft_labels_of(json.loads(json.dumps({NOTE: note})), 3)


def test_soft_labels_of_very_many_classes() -> None:
    tracemalloc.start()
    rows = [[label, 255] for label in range(65_535)]
    with pytest.raises(PayloadUnsupported, match=f"65535 classes; soft labels are read for at most {MAX_CLASSES}"):
        soft_labels_of({"soft_labels": {"shares": rows}}, 65_535)
    assert tracemalloc.get_traced_memory()[1] < 1 << 26
    tracemalloc.stop()
