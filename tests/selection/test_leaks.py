"""The leak check from the outside: a whole reference, and what `select` chooses."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from typer.testing import CliRunner

import plada
from plada.cli import app
from plada.errors import DataError, ReferenceMismatch, RequestError
from plada.labeler.pseudo_labels import PseudoLabels
from plada.retrieval.index import Index
from plada.selection.corrections import Corrections, without
from plada.selection.leaks import SelectionCheck, find_reference_leaks
from plada.sources.collection import Collection
from plada.sources.leaks.fingerprints import scan_fingerprints
from plada.sources.registry import open_target
from tests.sources.leaks.test_leaks import scene

FORCED = plada.TeacherSpec(force=True)  # so few images are no proof that a teacher is better than chance
COPIED = 4  # test images a class whose copies lie in the reference


def shade(image: Image.Image, bright: bool) -> Image.Image:
    """The class of a picture: its levels are halved, and raised or not."""
    return image.point(lambda level: level // 2 + (127 if bright else 0))


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """(reference, target): 60 scenes, and changed copies of COPIED test images of each of two classes."""
    reference, target = tmp_path / "pool", tmp_path / "shades"
    (reference / "own").mkdir(parents=True)
    for number in range(60):
        shade(scene(number), number % 2 == 0).save(reference / "own" / f"{number:02d}.png")
    for label, name in enumerate(("bright", "dim")):
        for part, first, count in (("train", 100, 8), ("test", 200, 6)):
            (target / part / name).mkdir(parents=True)
            for number in range(count):
                image = shade(scene(first + 50 * label + number), label == 0)
                image.save(target / part / name / f"{number}.png")
                if part == "test" and number < COPIED:
                    ImageOps.mirror(image).save(reference / "own" / f"leak-{name}-{number}.jpg", quality=60)
    return reference, target


@pytest.fixture
def index(places: tuple[Path, Path]) -> Index:
    plada.index(places[0], name="pool", encoder="gradients")
    return plada.open_index("pool")


def test_select_names_copies_of_test_images_and_drops_them(
    places: tuple[Path, Path], index: Index, tmp_path: Path
) -> None:
    kept = plada.select(index, target=places[1], teacher=FORCED, budget=10_000)
    assert kept.report.images == 68
    assert [leak.key for leak in kept.report.leaks] == sorted(
        f"own/leak-{name}-{number}" for name in ("bright", "dim") for number in range(COPIED)
    )
    assert all(leak.key.removeprefix("own/leak-").replace("-", "/") == leak.test_key for leak in kept.report.leaks)
    clean = plada.select(
        index,
        target=places[1],
        teacher=FORCED,
        budget=10_000,
        corrections=Corrections(drop_leaks=True),
        out=tmp_path / "clean.plada",
    )
    assert (clean.report.images, clean.report.leaks, len(clean.report.leaks_dropped)) == (60, (), 2 * COPIED)
    names = index.keys(plada.read_payload(tmp_path / "clean.plada").positions)
    assert not [name for name in names if "leak" in name]


def test_replacements_are_checked_as_well(places: tuple[Path, Path], index: Index) -> None:
    """About half of the images fit; a random draw holds copies, and so do the images that come in for them."""
    again = 0
    for seed in range(3):
        before, after = (
            plada.select(
                index,
                target=places[1],
                teacher=FORCED,
                rule="random",
                budget=56,
                seed=seed,
                corrections=Corrections(drop_leaks=drop),
            )
            for drop in (False, True)
        )
        assert before.report.leaks and not after.report.leaks
        first, dropped = (
            {leak.position for leak in found} for found in (before.report.leaks, after.report.leaks_dropped)
        )
        assert first <= dropped
        again += len(dropped - first)
        assert not [key for key in after.table["key"].to_pylist() if "leak" in key]
        assert after.report.bytes <= 56 and after.report.images > before.report.images - 6  # the budget is filled again
    assert again


def test_no_chosen_image_is_decoded_but_candidates(
    places: tuple[Path, Path], index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index keeps fingerprints and hashes; without them every chosen image is decoded, with the same result."""
    split = open_target(places[1], index.home).test
    positions = np.arange(len(index))
    decoded = SelectionCheck(split, lambda: replace(index.reference(), fingerprints=None))(positions)
    read: list[int] = []

    def counted(position: int) -> bytes:
        read.append(position)
        return places_collection.read(position)

    reference = index.reference()
    places_collection = reference.collection
    watched = Watched(places_collection, counted)
    monkeypatch.setattr("plada.selection.leaks.scan_fingerprints", None)
    kept = SelectionCheck(split, lambda: replace(reference, collection=watched))(positions)
    assert kept == decoded
    assert len(kept) == 2 * COPIED
    assert {leak.position for leak in kept} <= set(read)
    assert len(set(read)) < len(index) / 2


@pytest.mark.parametrize("sparse", [1, 1 << 20])
def test_what_the_index_keeps_of_an_image_is_what_decoding_gives(
    index: Index, monkeypatch: pytest.MonkeyPatch, sparse: int
) -> None:
    """Taken row by row, and from a pass over the table."""
    monkeypatch.setattr("plada.retrieval.fingerprints._SPARSE", sparse)
    monkeypatch.setattr("plada.retrieval.fingerprints._BLOCK", 7)
    positions = np.array([0, 3, 6, 7, 30, 67])
    reference = index.reference()
    assert reference.fingerprints is not None
    kept, (made, _) = reference.fingerprints(positions), scan_fingerprints(reference.collection, positions)
    for name in ("positions", "hashes", "fingerprints"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(made, name))


class Watched:
    """A collection whose reads are counted."""

    def __init__(self, collection: Collection, read: Callable[[int], bytes]) -> None:
        self.collection, self.read = collection, read

    def __len__(self) -> int:
        return len(self.collection)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.collection, name)


def test_a_test_image_with_many_copies_loses_all_of_them(places: tuple[Path, Path]) -> None:
    for quality in range(50, 90, 2):
        shade(scene(205), True).save(places[0] / "own" / f"leak-many-{quality}.jpg", quality=quality)
    plada.index(places[0], name="many", encoder="gradients")
    made = plada.select(
        "many", target=places[1], teacher=FORCED, budget=10_000, corrections=Corrections(drop_leaks=True)
    )
    assert made.report.images == 60 and len(made.report.leaks_dropped) == 2 * COPIED + 20
    assert not [key for key in made.table["key"].to_pylist() if "leak" in key]


def test_select_goes_on_where_the_reference_is_not_here(
    places: tuple[Path, Path], index: Index, tmp_path: Path
) -> None:
    shutil.move(places[0], tmp_path / "elsewhere")
    made = plada.select(index, target=places[1], teacher=FORCED, budget=10_000).report
    assert made.leaks == () and str(places[0]) in made.leaks_note
    with pytest.raises(RequestError, match="pool"):
        plada.select(index, target=places[1], teacher=FORCED, budget=10_000, corrections=Corrections(drop_leaks=True))


def test_the_command_line_warns_in_one_line(places: tuple[Path, Path], index: Index, tmp_path: Path) -> None:
    arguments = [
        "select", "--target", str(places[1]), "--force", "--budget", "10kB", "-o", str(tmp_path / "p.plada"), "-q",
    ]  # fmt: skip
    warned = CliRunner().invoke(app, arguments)
    assert warned.exit_code == 0 and "warning: 8 chosen image(s) are copies of test images" in warned.stderr
    assert [line for line in warned.stderr.splitlines() if "copies" in line] == [warned.stderr.splitlines()[-1]]
    dropped = CliRunner().invoke(app, [*arguments, "--drop-leaks"])
    assert "warning" not in dropped.stderr and "left out: 8" in dropped.stderr
    summary = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout.splitlines()[-1])
    assert {"position", "key", "test_key", "kind", "score"} <= set(summary["leaks"][0])


def test_a_whole_reference_with_and_without_an_index(places: tuple[Path, Path], home: Path) -> None:
    found = find_reference_leaks(*places)
    assert (found.images, found.tested, found.near_copies, found.same_bytes) == (68, 12, 2 * COPIED, 0)
    assert found.index is None and "no index" in found.note
    assert found.leaking_tests == 2 * COPIED and json.dumps(found.to_dict())
    (kept,) = home.glob("references/*/looks-*.bin")
    written = kept.stat().st_mtime_ns
    plada.index(places[0], name="pool", encoder="gradients")
    again = find_reference_leaks(*places)
    assert again.index == "pool" and again.leaks == found.leaks
    assert kept.stat().st_mtime_ns == written
    with pytest.raises(ReferenceMismatch, match="was made of images"):
        plada.index("glyphs:count=64", name="other")
        find_reference_leaks(*places, index="other")


def test_a_changed_reference_is_looked_at_anew(places: tuple[Path, Path], home: Path) -> None:
    find_reference_leaks(*places)
    shutil.copy(places[1] / "test" / "dim" / "5.png", places[0] / "own" / "00.png")
    found = find_reference_leaks(*places)
    assert (found.near_copies, found.same_bytes) == (2 * COPIED, 1)
    assert [leak.key for leak in found.leaks if leak.kind == "same bytes"] == ["own/00"]


def test_a_target_without_test_images_is_refused(places: tuple[Path, Path]) -> None:
    class_folder = places[1] / "test"
    shutil.rmtree(class_folder)
    with pytest.raises(RequestError, match="no test images"):
        find_reference_leaks(*places)


def test_dropping_everything_is_said() -> None:
    labels = PseudoLabels(np.arange(3), np.zeros(3, np.int64), {"energy": np.zeros(3, np.float32)}, 1)
    assert without(labels, np.array([0, 2])).positions.tolist() == [1]
    with pytest.raises(DataError, match="every image"):
        without(labels, np.array([0, 1, 2]))
