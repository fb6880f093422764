"""Search is exact, ordered, and refuses what has no neighbours."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import plada
from plada.errors import DataError, MissingExtra, ReferenceMismatch, RequestError, UnknownName
from plada.retrieval.index import Index
from plada.retrieval.knn import exact_search
from tests.conftest import edit_json, table_folder


def all_vectors(index: Index) -> np.ndarray:
    return np.concatenate([block for _, block in index.scan()]).astype(np.float32)


def test_exact_search_agrees_with_numpy_whatever_the_blocks() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(500, 24)).astype(np.float16)
    queries = rng.normal(size=(7, 24)).astype(np.float32)
    wanted = np.argsort(-(queries @ vectors.astype(np.float32).T), axis=1)[:, :12]
    for size in (1, 13, 500):
        blocks = [(np.arange(s, min(s + size, 500)) + 1000, vectors[s : s + size]) for s in range(0, 500, size)]
        scores, positions = exact_search(blocks, queries, 12)
        assert np.array_equal(positions, wanted + 1000)
        assert (np.diff(scores, axis=1) <= 0).all()


def test_ties_are_ordered_by_position() -> None:
    vectors = np.ones((6, 4), np.float16)
    blocks = [(np.arange(0, 3), vectors[:3]), (np.arange(3, 6), vectors[3:])]
    assert exact_search(blocks, np.ones((1, 4), np.float32), 6)[1].tolist() == [[0, 1, 2, 3, 4, 5]]


def test_too_few_vectors_are_said() -> None:
    with pytest.raises(DataError, match="fewer than 3"):
        exact_search([(np.arange(2), np.ones((2, 4), np.float16))], np.ones((1, 4), np.float32), 3)


def test_an_image_finds_itself(glyphs: Index) -> None:
    by_position = glyphs.search("position:123", k=5)[0]
    assert (by_position[0].position, by_position[0].key) == (123, glyphs.keys([123])[0])
    assert by_position[0].score == pytest.approx(1, abs=2e-3)
    image = glyphs.images([123])[0]
    assert glyphs.search(image, k=5)[0][0].position == 123
    assert glyphs.search(np.asarray(image), k=1)[0][0].position == 123
    assert glyphs.search(glyphs.vectors([123])[0].astype(np.float32), k=1)[0][0].position == 123


def test_many_queries_at_once(glyphs: Index, tmp_path: Path) -> None:
    vectors = all_vectors(glyphs)
    hits = glyphs.search(vectors[:200], k=3)
    assert [row[0].position for row in hits] == list(range(200))
    glyphs.images([5])[0].save(tmp_path / "five.png")
    mixed = glyphs.search(["position:7", tmp_path / "five.png"], k=1)
    assert [row[0].position for row in mixed] == [7, 5]


def test_vectors_come_in_the_order_asked_for(glyphs: Index) -> None:
    vectors = all_vectors(glyphs)
    assert np.array_equal(glyphs.vectors([900, 3, 3, 77]), vectors[[900, 3, 3, 77]].astype(np.float16))
    assert glyphs.keys([900, 3]) == [f"v1/{900:07d}", f"v1/{3:07d}"]


@pytest.mark.parametrize("bad", [[-1], [1500], [0, 99_999]])
def test_positions_outside_the_index_are_refused(glyphs: Index, bad: list[int]) -> None:
    with pytest.raises(RequestError, match="holds 0 to 1499"):
        glyphs.vectors(bad)


@pytest.mark.parametrize(
    ("query", "k", "message"),
    [
        ("position:5", 0, "expected 1 to 1500"),
        ("position:5", 1501, "expected 1 to 1500"),
        ("position:five", 1, "whole number"),
        ("position:1500", 1, "holds 0 to 1499"),
        ("no-such-file.png", 1, "there is no such image file"),
        (np.full(256, np.nan, np.float32), 1, "not finite"),
        (np.zeros(256, np.float32), 1, "zero or not finite"),
        (np.full(256, np.inf, np.float32), 1, "not finite"),
        (np.full(256, 1e300), 1, "not finite"),
        (np.stack([np.ones(256), np.full(256, np.nan)]), 1, "query 2 of 2: its vector is zero or not finite"),
        (np.ones(7, np.float32), 1, "a vector of dimension 7: the index has vectors of dimension 256"),
        (np.ones((3, 7), np.float32), 1, "expected at least one vector of dimension 256"),
        (["position:1", np.ones(7)], 1, "a vector of dimension 7"),
        (np.zeros((0, 256), np.float32), 1, "expected at least one vector"),
        ([], 1, "no query"),
    ],
)
def test_queries_without_answer(glyphs: Index, query: object, k: int, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        glyphs.search(query, k)


def test_the_table_can_be_queried_directly(glyphs: Index) -> None:
    rows = glyphs.table().search().where("position < 3").select(["position", "key"]).limit(10).to_arrow()
    assert sorted(rows["position"].to_pylist()) == [0, 1, 2]


def test_an_index_prints_on_one_line(glyphs: Index) -> None:
    text = repr(glyphs)
    assert text.startswith("Index('glyphs', images=1500, dimension=256, encoder='gradients', folder=")
    assert "\n" not in text
    assert len(text) < 100 + len(str(glyphs.folder))


def test_opening_by_name_by_folder_or_as_the_only_one(glyphs: Index, glyph_home: Path) -> None:
    assert len(plada.open_index(glyphs.folder)) == 1500
    assert plada.open_index(home=glyph_home).name == "glyphs"
    with pytest.raises(UnknownName, match="did you mean 'glyphs'"):
        plada.open_index("glyph", home=glyph_home)
    with pytest.raises(RequestError, match=r"there is no index in .* yet"):
        plada.open_index()


def test_several_indexes_and_none_named(pictures: Path) -> None:
    for name in ("a", "b"):
        plada.index(pictures, name=name, encoder="gradients")
    with pytest.raises(RequestError, match=r"there are 2 indexes: a, b\. Name one with --index"):
        plada.search("position:1")


def test_a_query_that_is_no_image(glyphs: Index, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"junk")
    with pytest.raises(RequestError, match=r"x\.jpg': not an image"):
        glyphs.search(tmp_path / "x.jpg")


def test_without_faiss_the_extra_is_named(glyphs: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(
        MissingExtra, match=r"search needs faiss, which is not installed\. Run: pip install '.*\[cpu\]'"
    ):
        glyphs.search("position:1")


def test_a_sheet_of_hits(glyphs: Index, tmp_path: Path) -> None:
    plada.search(["position:7", "position:8"], index=glyphs, k=4, sheet=tmp_path / "hits.png")
    with Image.open(tmp_path / "hits.png") as sheet:
        assert sheet.size[0] > 4 * 64


def test_an_index_of_changed_images_is_said(pictures: Path) -> None:
    plada.index(pictures, name="p", encoder="gradients")
    index = plada.open_index("p")
    assert index.images([3])[0].size == (40, 30)
    path = next(pictures.rglob("image_00.png"))
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ReferenceMismatch, match="index 'p' was made of images with content id"):
        index.reference()


def test_lancedb_itself_is_not_needed_to_search(glyph_home: Path) -> None:
    code = f"import plada, sys; plada.open_index('glyphs', home=r'{glyph_home}').search('position:1'); print('lancedb' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_a_table_that_is_gone_or_of_another_length(glyph_home: Path, tmp_path: Path) -> None:
    shutil.copytree(glyph_home / "indexes" / "glyphs", tmp_path / "own")
    info = json.loads((tmp_path / "own" / "index.json").read_text())
    path = tmp_path / "own" / "index.json"
    edit_json(path, images=1501)
    with pytest.raises(DataError, match=r"the table holds 1500 rows; index\.json says 1501"):
        plada.open_index(tmp_path / "own").search("position:1")
    edit_json(path, images=info["images"], version=99)
    with pytest.raises(DataError, match="version 99 cannot be opened"):
        plada.open_index(tmp_path / "own").search("position:1")
    shutil.rmtree(table_folder(tmp_path / "own"))
    with pytest.raises(DataError, match=r"images-\w+\.lance: version .* cannot be opened"):
        plada.open_index(tmp_path / "own").vectors([1])


def test_a_store_of_a_newer_format(glyph_home: Path, tmp_path: Path) -> None:
    shutil.copytree(glyph_home / "indexes" / "glyphs", tmp_path / "own")
    info = json.loads((tmp_path / "own" / "index.json").read_text())
    (tmp_path / "own" / "index.json").write_text(json.dumps({**info, "format": 99}))
    with pytest.raises(DataError, match=r"index of format 99; this plada reads .*Install a newer plada"):
        plada.open_index(tmp_path / "own")
