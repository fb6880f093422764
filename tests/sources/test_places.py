"""Where registered collections are found: the setting's folders, the home folder, and what an index of that name was made of."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import plada
from plada.errors import RequestError
from plada.sources.catalogue.places import find_source, looked_in

NAME = "imagenet1k"


@pytest.fixture(autouse=True)
def without_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PLADA_DATASETS", raising=False)


def photos(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def test_several_roots_are_looked_through_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, home = tmp_path / "one", tmp_path / "two", tmp_path / "home"
    one.mkdir()
    monkeypatch.setenv("PLADA_DATASETS", f"{one}:{two}")
    with pytest.raises(RequestError, match=r"PLADA_DATASETS\): .*two is no folder"):
        looked_in(home, NAME)
    photos(two / NAME)
    assert find_source(home, NAME) == two / NAME
    assert (summary := plada.datasets(NAME, home=home)[0]).present
    assert summary.path == str(two / NAME)
    photos(one / NAME)
    assert find_source(home, NAME) == one / NAME


def test_the_images_of_an_index_are_found_by_its_name(tmp_path: Path) -> None:
    folder, home = photos(tmp_path / "elsewhere"), tmp_path / "home"
    assert find_source(home, NAME) is None
    plada.index(folder, name=NAME, encoder="gradients", home=home, workers=0)
    assert find_source(home, NAME) == str(folder)
    assert plada.datasets(NAME, home=home)[0].path == str(folder)
    assert plada.verify(NAME, home=home).images == 3
    assert len(plada.open_images(NAME, home=home).collection) == 3
    (home / "indexes" / NAME / "index.json").write_text("{")  # the manifest has the name, too
    assert find_source(home, NAME) == str(folder)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert find_source(home, NAME) is None


def test_a_folder_of_that_name_is_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / NAME)
    with pytest.raises(RequestError, match=rf"give \./{NAME}"):
        plada.open_images(NAME, home=tmp_path / "home")
