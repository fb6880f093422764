"""What a home keeps is listed, shown, renamed and removed, and caches are emptied."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import plada
from plada.cli import app
from plada.errors import RequestError, ResourceError, UnknownName
from plada.indexer.store import Store


@pytest.fixture
def home(glyph_home: Path, tmp_path: Path) -> Path:
    """A copy of the home with 1 500 glyphs."""
    return Path(shutil.copytree(glyph_home, tmp_path / "home"))


def run(home: Path, *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*words, "--home", str(home)])
    error = f"{type(done.exception).__name__}: {done.exception}" if done.exception else ""
    return done.exit_code, done.output + error


def test_indexes_are_listed_and_renamed(home: Path) -> None:
    (item,) = plada.indexes(home=home)
    assert (item.name, item.images, item.complete) == ("glyphs", 1500, True)
    assert item.encoder
    assert item.bytes > 1000
    (renamed,) = plada.indexes("glyphs", rename="letters", home=home)
    assert (renamed.name, renamed.images, renamed.problem) == ("letters", 1500, "")
    opened = plada.open_index("letters", home=home)
    assert opened.info["name"] == "letters"
    assert opened.search("position:3", k=1)[0][0].position == 3


def test_damaged_and_unfinished_indexes_are_listed_with_the_reason(home: Path) -> None:
    folder = home / "indexes" / "glyphs"
    for name, text in (("damaged", "{"), ("list", "[]"), ("newer", '{"format": 999}')):
        (home / "indexes" / name).mkdir()
        (home / "indexes" / name / "index.json").write_text(text)
    (home / "indexes" / "unfinished").mkdir()
    (home / "indexes" / "unfinished" / "building.json").write_text("{}")
    shutil.rmtree(next(folder.glob("*.lance")))
    problems = {item.name: item.problem for item in plada.indexes(home=home)}
    assert set(problems) == {"damaged", "list", "newer", "unfinished", "glyphs"}
    assert all(problems.values())
    assert "not finished" in problems["unfinished"]
    assert "table is missing" in problems["glyphs"]
    status, text = run(home, "indexes")
    assert status == 0
    assert "cannot be read" in text
    plada.indexes("damaged", remove=True, home=home)
    assert not (home / "indexes" / "damaged").exists()


def test_an_index_is_removed_whole_and_only_where_nobody_uses_it(home: Path) -> None:
    with Store(home / "indexes" / "glyphs").lock(), pytest.raises(ResourceError, match="another process"):
        plada.indexes("glyphs", remove=True, home=home)
    opened = plada.open_index("glyphs", home=home)
    with pytest.raises(ResourceError, match="reads this index"):
        plada.indexes("glyphs", remove=True, home=home)
    assert len(opened) == 1500
    del opened
    plada.indexes("glyphs", remove=True, home=home)
    assert plada.indexes(home=home) == []
    assert not (home / "trash").exists()


def test_what_cannot_be_done_is_refused(home: Path) -> None:
    with pytest.raises(UnknownName):
        plada.indexes("nothing", home=home)
    with pytest.raises(UnknownName):
        plada.indexes(kind="thing", home=home)
    for name in ("../x", "a/b", ".x", "", "glyphs"):
        with pytest.raises(RequestError):
            plada.indexes("glyphs", rename=name, home=home)
    status, text = run(home, "indexes", "remove", "glyphs")  # nobody can be asked
    assert status != 0
    assert "--yes" in text
    assert plada.indexes("glyphs", home=home)[0].complete
    assert run(home, "indexes", "remove", "glyphs", "--yes")[0] == 0


def test_manifests_are_listed_and_removed(home: Path) -> None:
    listed = plada.indexes(kind="manifest", home=home)
    assert [item.images for item in listed] == [1500]
    plada.indexes(listed[0].name, kind="manifest", remove=True, home=home)
    assert plada.indexes(kind="manifest", home=home) == []
    assert plada.indexes(kind="pack", home=home) == plada.indexes(kind="payload", home=home) == []


def test_caches_are_emptied_and_nothing_else(home: Path) -> None:
    shutil.rmtree(home / "cache", ignore_errors=True)
    (home / "cache" / "embeddings").mkdir(parents=True)
    (home / "cache" / "embeddings" / "a.npy").write_bytes(b"x" * 100)
    (home / "cache" / "embeddings" / "b.part").write_bytes(b"x" * 10)  # perhaps still being written
    status, text = run(home, "cache", "--json")
    assert status == 0
    assert json.loads(text)["caches"][0]["bytes"] == 110
    assert "--yes" in run(home, "cache", "--prune")[1]
    (pruned,) = plada.cache(prune=True, home=home)
    assert (pruned.files, pruned.freed) == (2, 100)
    assert [path.name for path in (home / "cache" / "embeddings").iterdir()] == ["b.part"]
    assert plada.indexes("glyphs", home=home)[0].complete
