"""Which index a linear student stands on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import plada
from plada.errors import RequestError
from plada.trainer.run import TrainingSummary
from tests.trainer.test_client import QUICK, SMALL, payload_of


def test_a_linear_student_says_its_index_and_does_not_guess_between_several(pictures: Path) -> None:
    positions = np.arange(0, 24, 2)
    sent = payload_of(pictures, positions, positions // 2 % 2, ("bright", "dim"))

    def train(**more: Any) -> TrainingSummary:
        return plada.train(sent, reference=pictures, **more)

    plada.index(pictures, name="one", encoder="gradients")
    assert train(student="linear").embeddings == "one"
    plada.index(pictures, name="two", encoder="gradients")
    several = (
        r"several indexes here are of these images: one \(gradients\), two \(gradients\)\. Name one with --encoder"
    )
    for more in ({"student": "linear"}, {"student": SMALL, "recipe": QUICK, "expand": 1}):
        with pytest.raises(RequestError, match=several):
            train(**more)
    assert train(student="linear", encoder="two").embeddings == "two"
    assert train(student="linear", encoder="gradients").embeddings == "gradients"
