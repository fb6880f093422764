"""A few hundred steps of the fuzzer of inputs, and proof that it would notice."""

from pathlib import Path

import numpy as np
import pytest

from tests.fuzz import fuzz_inputs
from tests.fuzz.fuzz_inputs import fuzz, read_picture, try_one
from tests.fuzz.inputs import make_seeds


def test_nothing_is_found(tmp_path: Path) -> None:
    found = fuzz(seconds=60, count=400, seed=1, crashes=tmp_path / "crashes")
    assert not [each for each in found.wrong if not each[1].startswith("took")]
    assert sum(found.outcomes.values()) == 400
    assert found.outcomes["DataError"] > 100
    assert found.outcomes["Unreadable"] > 20
    assert all(found.outcomes[kind] for kind in ("picture", "tars", "parquet", "target"))
    assert not list((tmp_path / "crashes").iterdir())


def test_undamaged_seeds_are_read(tmp_path: Path) -> None:
    seeds = make_seeds(tmp_path)
    assert all(len(found) > 0 for found in seeds.by_kind.values())
    for kind, found in seeds.by_kind.items():
        for seed in found:
            if seed.name in ("tiff-float", "pfm"):  # refused by name: no value is white
                continue
            outcome = read_picture(seed.data) if kind == "picture" else fuzz_inputs.READERS[kind](tmp_path / seed.name)
            assert outcome == kind, seed.name


def test_another_exception_would_be_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fuzz_inputs, "decode", lambda data: [][len(data)])
    seeds = make_seeds(tmp_path / "seeds")
    with pytest.raises(IndexError):
        try_one(seeds, seeds.by_kind["picture"][0], tmp_path / "work", tmp_path / "current", np.random.default_rng(0))
    found = fuzz(seconds=30, count=12, seed=2, crashes=tmp_path / "crashes")
    assert found.wrong
    assert len(list((tmp_path / "crashes").iterdir())) == len(found.wrong)
