"""Compiled and plain functions give the same bytes; without numba everything still works."""

import sys

import numpy as np
import pytest

from plada.payload.coders import compiled as fast
from plada.payload.coders.body import decode_body, encode_body
from plada.payload.coders.registry import CODERS
from plada.payload.shared_context import SharedContext
from tests.payload.shapes import bounds_of, clustered, features_of

MODELS = [name for name in CODERS if not name.endswith("zstd")]


@pytest.fixture(autouse=True)
def untouched() -> None:
    fast._compiled.cache_clear()


def contents() -> list[tuple[np.ndarray, np.ndarray, int, int, SharedContext]]:
    made = []
    for images, kept, classes, longest in (
        (1500, 90, 5, 60),
        (5000, 5000, 3, 4000),
        (9000, 1, 1, 1),
        (4000, 900, 300, 90),
    ):
        bounds = bounds_of(images, kept, longest)
        positions, labels = clustered(images, kept, classes, bounds, kept)
        made.append(
            (positions, labels, images, classes, SharedContext(bounds, features_of(images, positions, labels, 4, 1)))
        )
    return made


@pytest.mark.parametrize("coder", MODELS)
def test_compiled_and_plain_agree(coder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba", reason="numba is not installed")
    for positions, labels, images, classes, shared in contents():
        monkeypatch.setattr(fast, "_twins", lambda steps: {})
        assert not fast.functions(1 << 60).compiled
        plain = encode_body(positions, labels, images=images, classes=classes, coder=coder, shared=shared)
        monkeypatch.undo()
        monkeypatch.setattr(fast, "_WORTH", 0)
        assert fast.functions(0).compiled
        assert encode_body(positions, labels, images=images, classes=classes, coder=coder, shared=shared) == plain
        found = decode_body(plain, images=images, classes=classes, shared=shared)
        assert np.array_equal(found[0], positions)
        assert np.array_equal(found[1], labels)


def test_little_work_is_done_plainly_and_much_is_compiled() -> None:
    pytest.importorskip("numba", reason="numba is not installed")
    assert not fast.functions(1000).compiled
    assert fast.functions(1 << 40).compiled
    assert fast.functions(1000).compiled  # since it is there now


def test_without_numba_everything_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    assert not fast.functions(1 << 60).compiled


def test_where_nothing_can_be_kept_it_is_compiled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    numba = pytest.importorskip("numba", reason="numba is not installed")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    before = numba.config.CACHE_DIR
    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    with fast._cache_folder(numba) as kept:
        assert not kept
    assert before == numba.config.CACHE_DIR
