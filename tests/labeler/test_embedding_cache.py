"""Kept embeddings: what is not exactly what was asked for is made again."""

from pathlib import Path

import numpy as np
import pytest

from plada.labeler.embedding_cache import load_embeddings, save_embeddings, split_digest
from plada.sources.targets.target import Split
from tests.sources.test_parts import Listed


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    path = tmp_path / "cache" / "x.npz"
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    save_embeddings(path, "d" * 64, vectors, np.array([True, False, True]))
    return path


def test_what_was_kept_comes_back(kept: Path) -> None:
    found = load_embeddings(kept, "d" * 64, images=3, dimension=3)
    assert found is not None
    assert found[0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found[0].dtype == np.float32
    assert found[1].tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("digest", "images", "dimension"), [("e" * 64, 3, 3), ("d" * 64, 4, 3), ("d" * 64, 3, 4), ("", 3, 3)]
)
def test_what_is_of_something_else_is_not_taken(kept: Path, digest: str, images: int, dimension: int) -> None:
    assert load_embeddings(kept, digest, images=images, dimension=dimension) is None


def test_no_file_and_no_archive_are_not_there(kept: Path) -> None:
    assert load_embeddings(kept.with_name("y.npz"), "d" * 64, images=3, dimension=3) is None
    np.savez(kept, digest=np.array("d" * 64), vectors=np.zeros((2, 3)))
    assert load_embeddings(kept, "d" * 64, images=3, dimension=3) is None
    np.savez(kept, digest=np.array("d" * 64), vectors=np.array([{}], object), readable=np.ones(1, bool))
    assert load_embeddings(kept, "d" * 64, images=3, dimension=3) is None


def test_every_cut_is_not_there(kept: Path) -> None:
    whole = kept.read_bytes()
    for size in range(0, len(whole), 7):
        kept.write_bytes(whole[:size])
        assert load_embeddings(kept, "d" * 64, images=3, dimension=3) is None


def test_the_name_is_that_of_bytes_in_order() -> None:
    images = Listed((b"one", b"two", b"three"))
    same = Listed((b"one", b"two", b"three"), location="elsewhere")
    labels = np.zeros(3, np.int64)

    def of(collection: Listed, *positions: int, more: tuple[str, ...] = ()) -> str:
        return split_digest(Split(collection, np.array(positions, np.int64), labels[: len(positions)]), *more)

    assert of(images, 0, 1, 2) == of(same, 0, 1, 2)
    names = [
        of(images, 0, 1, 2), of(images, 1, 0, 2), of(images, 0, 1), of(Listed((b"onet", b"wo", b"three")), 0, 1, 2),
        of(images, 0, 1, 2, more=("a",)), of(images, 0, 1, 2, more=("a", "")), of(images, 0, 1, 2, more=("", "a")),
    ]  # fmt: skip
    assert len(set(names)) == len(names)
