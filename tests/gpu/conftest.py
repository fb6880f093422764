"""Tests that need a GPU: `pytest -m gpu` runs these alone. Elsewhere they are skipped; PLADA_TEST_DEVICE=cpu runs what of them a CPU can."""

import os

import pytest

NO_GPU = "needs a GPU that torch sees (`plada doctor`); PLADA_TEST_DEVICE=cpu tries the code on the CPU"


def device_or_skip() -> str:
    """Where the tests run. Skips where there is no GPU."""
    import torch

    if named := os.environ.get("PLADA_TEST_DEVICE"):
        return named
    if not torch.cuda.is_available():
        pytest.skip(NO_GPU)
    return "cuda:0"


@pytest.fixture
def device() -> str:
    return device_or_skip()


@pytest.fixture
def cuda(device: str) -> str:
    """A GPU, and nothing in its place."""
    if not device.startswith("cuda"):
        pytest.skip(NO_GPU)
    return device
