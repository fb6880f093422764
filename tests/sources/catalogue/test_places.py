"""Where registered collections are looked for: every name that an archive makes, in order, and what is said of none."""

from pathlib import Path

import pytest

from plada.api.datasets import datasets
from plada.errors import RequestError
from plada.sources.catalogue.known import KNOWN
from plada.sources.catalogue.places import data_folder, find_source, find_target, looked_in, not_here
from plada.sources.targets.layouts import LAYOUTS
from tests.conftest import make_shades

TARGETS = [name for name, known in KNOWN.items() if known.role == "target" and not known.built_in]
FILES = [name for name, known in KNOWN.items() if not known.built_in]


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_known_is_known_whole(name: str) -> None:
    known = KNOWN[name]
    assert known.role in ("reference", "target", "both")
    assert known.images > 0
    assert set(known.splits) <= {"all", "train", "validation", "test"}
    assert set(known.layouts) <= set(LAYOUTS)
    assert known.paper_split in ("", "same", "pooled", "train-only")
    assert not known.paper_split or known.paper
    for text in (known.about, known.expects, known.split, known.licence, known.figures):
        assert text
    assert (known.classes or 2) >= 2
    assert known.role == "reference" or known.classes


@pytest.mark.parametrize("name", FILES)
def test_places_are_tried_in_order_and_the_folder_itself_last(name: str, tmp_path: Path) -> None:
    places = looked_in(tmp_path, name)
    assert places[-1] == data_folder(tmp_path, name)
    assert len(set(places)) == len(places)
    assert all(tmp_path / "datasets" in place.parents for place in places)
    assert find_source(tmp_path, name) is None
    for place in reversed(places):
        place.mkdir(parents=True, exist_ok=True)
    assert find_source(tmp_path, name) == places[0]


@pytest.mark.parametrize("name", TARGETS)
def test_a_registered_target_may_lie_as_plain_folders(name: str, tmp_path: Path) -> None:
    assert find_target(tmp_path, name) is None
    make_shades(data_folder(tmp_path, name))
    found = find_target(tmp_path, name)
    assert found is not None
    assert found == (data_folder(tmp_path, name), "folders")


@pytest.mark.parametrize("name", FILES)
def test_what_is_not_here_is_said_with_where_it_goes_and_comes_from(name: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError) as caught:
        not_here(tmp_path, name)
    said = str(caught.value)
    assert said.startswith(f"{name}: not on this machine; looked in {data_folder(tmp_path, name)}. Put it there")
    assert KNOWN[name].expects in said
    assert KNOWN[name].obtain in said
    data_folder(tmp_path, name).mkdir(parents=True)
    with pytest.raises(RequestError, match="is there, but not in its layout"):
        not_here(tmp_path, name)


def test_training_images_of_what_is_both_are_the_reference(tmp_path: Path) -> None:
    (name,) = [name for name in FILES if KNOWN[name].role == "both"][:1]
    place = data_folder(tmp_path, name)
    place.mkdir(parents=True)
    assert find_source(tmp_path, name) == place
    (place / "train").mkdir()
    assert find_source(tmp_path, name) == place / "train"


def test_every_known_collection_is_listed(tmp_path: Path) -> None:
    listed = {entry.name: entry for entry in datasets(home=tmp_path)}
    assert set(listed) == set(KNOWN)
    for name, entry in listed.items():
        assert entry.present == KNOWN[name].built_in
        assert entry.details()
        assert entry.to_dict()["name"] == name
