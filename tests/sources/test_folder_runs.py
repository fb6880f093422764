"""Bounds of folders are the same whether keys come whole or in pieces."""

import itertools

import numpy as np
import pyarrow as pa
import pytest

from plada.sources.folder_runs import folder_bounds


@pytest.mark.parametrize("seed", range(40))
def test_pieces_do_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    made = {
        f"{'/'.join(rng.choice(list('abc'), rng.integers(1, 4)))}{rng.integers(50)}" for _ in range(rng.integers(1, 40))
    }
    keys = sorted(made, key=str.encode)
    folders = [key.rpartition("/")[0] for key in keys]
    wanted = [0, *(at for at in range(1, len(keys)) if folders[at] != folders[at - 1]), len(keys)]
    cuts = [0, *sorted(rng.integers(0, len(keys) + 1, 4).tolist()), len(keys)]
    pieces = [pa.array(keys[first:last], pa.string()) for first, last in itertools.pairwise(cuts)]
    for found in (folder_bounds(pa.array(keys)), folder_bounds(pa.chunked_array(pieces)), folder_bounds(iter(pieces))):
        assert found is not None if any(folders) else found is None
        assert found is None or found.tolist() == wanted
