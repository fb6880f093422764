"""The law of size, on a small form of benchmarks/scale.py: what one more image of the reference may cost `select`."""

import tracemalloc
from pathlib import Path

import pytest

from benchmarks import scale
from benchmarks.scale import Case, make_index, run_case

DIMENSION = 16
AN_IMAGE = 420  # bytes of an image of the reference at most, beyond what a selection takes at all: 6 GB of 14.2 million


@pytest.fixture(autouse=True)
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "TESTS", 8)
    monkeypatch.setattr(scale, "PHOTOS", 4)


def peak_of(folder: Path, images: int, case: Case) -> float:
    """Most bytes that Python and numpy held at once while `select` ran."""
    mixture = make_index(folder, images, DIMENSION)
    tracemalloc.start()
    try:
        found = run_case(folder, mixture, case, folder / "out.plada")
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert found["images"] > 0
    return float(peak)


def test_memory_grows_with_the_images_by_no_more_than_is_stated(tmp_path: Path) -> None:
    case = Case(10, 20, 5, "herd-sure", 300)
    few, many = (peak_of(tmp_path / str(images), images, case) for images in (20_000, 60_000))
    assert many - few < AN_IMAGE * 40_000
