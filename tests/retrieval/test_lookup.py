"""Which index here is of given images: the first that fits, whatever else lies beside it."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import plada
from plada.common.files import home_directory
from plada.errors import DataError, ReferenceMismatch, RequestError, UnknownName
from plada.payload.payload import Payload
from plada.retrieval.index import Index, indexes, indexes_that, open_index
from plada.trainer.expand import Expansion, expand
from tests.conftest import picture


@pytest.fixture
def two(pictures: Path, tmp_path: Path) -> Path:
    """A home with an index `b` of the pictures, `c` of others, and a damaged `a`, which comes first."""
    other = tmp_path / "other"
    other.mkdir()
    for number in range(20):
        picture(500 + number).save(other / f"{number:02d}.png")
    for name, place in (("b", pictures), ("c", other)):
        plada.index(place, name=name, encoder="gradients", workers=0)
    home = home_directory()
    shutil.copytree(home / "indexes" / "b", home / "indexes" / "a")
    (home / "indexes" / "a" / "index.json").write_text('{"format": 99')
    return home


def labels_of(more: Expansion | None) -> Payload:
    assert more is not None
    return more.labels


def payload_of(index: Index, images: int = 6) -> Payload:
    key, content = (bytes.fromhex(index.info[name])[:8] for name in ("key_id", "content_id"))
    return Payload(np.arange(images), np.arange(images) % 2, ("x", "y"), len(index), key_id=key, content_id=content)


def test_what_cannot_be_opened_is_passed_over(two: Path) -> None:
    assert indexes(two) == ["a", "b", "c"]
    with pytest.raises(DataError):
        open_index("a", home=two)
    assert [index.name for index in indexes_that(lambda index: True, two)] == ["b", "c"]
    assert [index.name for index in indexes_that(lambda index: len(index) == 20, two)] == ["c"]
    assert list(indexes_that(lambda index: False, two)) == []
    assert list(indexes_that(lambda index: True, two / "nowhere")) == []


def test_a_damaged_index_does_not_keep_a_payload_from_being_expanded(two: Path) -> None:
    sent = payload_of(open_index("b", home=two))
    more = labels_of(expand(sent, 2, home=two))
    assert len(more) == len(sent) + 4
    assert set(sent.positions.tolist()) <= set(more.positions.tolist())
    assert sum(more.class_counts()) == 10
    again = labels_of(expand(sent, 2, home=two, index="b"))
    assert again.positions.tolist() == more.positions.tolist()
    assert again.labels.tolist() == more.labels.tolist()


def test_an_index_that_is_named_must_fit(two: Path) -> None:
    sent = payload_of(open_index("b", home=two))
    with pytest.raises(ReferenceMismatch, match="index 'c' is of other images"):
        expand(sent, 2, home=two, index="c")
    with pytest.raises(DataError):
        expand(sent, 2, home=two, index="a")
    with pytest.raises(UnknownName, match=r"did you mean|known"):
        expand(sent, 2, home=two, index="none")
    shutil.rmtree(two / "indexes" / "b")
    with pytest.raises(RequestError, match=r"there is none here\. Run plada index, or"):
        expand(sent, 2, home=two)
    with pytest.raises(RequestError, match="expected 1 or more"):
        expand(sent, -1, home=two)


def test_a_copy_with_the_same_names_serves_only_where_that_is_asked_for(two: Path) -> None:
    sent = payload_of(open_index("b", home=two))
    copy = Payload(sent.positions, sent.labels, sent.classes, sent.reference, key_id=sent.key_id, content_id=bytes(8))
    with pytest.raises(RequestError, match="there is none here"):
        expand(copy, 1, home=two)
    assert len(labels_of(expand(copy, 1, home=two, same_keys=True))) == len(copy) + 2


def test_a_linear_student_finds_its_index_beside_a_damaged_one(two: Path, pictures: Path) -> None:
    sent = payload_of(open_index("b", home=two))
    made = plada.train(sent, reference=pictures, student="linear")
    assert (made.images, made.student) == (6, "linear")
    with pytest.raises(RequestError, match="index 'c' is of other images"):
        plada.train(sent, reference=pictures, student="linear", encoder="c")
    with pytest.raises(UnknownName, match=r"did you mean|known"):
        plada.train(sent, reference=pictures, student="linear", encoder="bb")
