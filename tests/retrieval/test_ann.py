"""The approximate index: right scores, measured recall, the same files again, and refused when it does not fit."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import plada
from plada.common.checksums import write_sealed_json
from plada.errors import DataError, MissingExtra, PladaError, ReferenceMismatch, RequestError, ResourceError
from plada.indexer import ann as ann_files
from plada.indexer import ann_build
from plada.indexer.ann import FILES, ann_source, choose_ann_kind, digest, read_ann
from plada.indexer.ann_build import build_ann, check_memory, sizes
from plada.retrieval.check import check_index
from plada.retrieval.index import Index
from plada.retrieval.knn import exact_search
from tests.conftest import edit_json, picture


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with an index of 1 500 glyphs and its approximate index. Tests copy it before they write."""
    root = tmp_path_factory.mktemp("ann-home")
    plada.index("glyphs:count=1500", name="glyphs", home=root)
    plada.make_ann("glyphs", home=root)
    return root


@pytest.fixture
def index(made: Path) -> Index:
    return plada.open_index("glyphs", home=made)


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Index:
    shutil.copytree(made, tmp_path / "home", dirs_exist_ok=True)
    return plada.open_index("glyphs", home=tmp_path / "home")


def build(folder: Path, vectors: np.ndarray, positions: np.ndarray | None = None, **options: Any) -> dict[str, Any]:
    places = np.arange(len(vectors)) if positions is None else positions
    blocks = [(places[at : at + 100], vectors[at : at + 100]) for at in range(0, len(places), 100)]
    return build_ann(
        folder, lambda: iter(blocks), images=int(places[-1]) + 1, rows=len(places), dimension=vectors.shape[1], source={},
        exact=exact_search, **{"kind": "ivf", **options},
    )  # fmt: skip


def unit(rows: int, dimension: int = 32, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(rows, 12)) @ rng.normal(size=(12, dimension)) + 0.1 * rng.normal(size=(rows, dimension))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float16)


def test_it_finds_what_exact_search_finds_with_the_same_scores(index: Index) -> None:
    queries = [f"position:{number}" for number in range(0, 1500, 7)]
    exact, near = index.search(queries, 10), index.search(queries, 10, exact=False)
    right = [set(one) & set(other) for one, other in zip(exact, near, strict=True)]
    assert sum(map(len, right)) / (10 * len(queries)) >= 0.93
    # A hit is equal only with its score, so each right hit above has the exact score; the order must be that of scores.
    assert all(row == sorted(row, key=lambda hit: (-hit.score, hit.position)) for row in near)
    assert near[1][0] == exact[1][0]


def test_what_is_written_beside_it(index: Index) -> None:
    info = json.loads((index.folder / "ann" / "ann.json").read_text())
    assert info["recall_at_10"] - 2 * info["recall_error"] >= 0.95
    assert info["made_of"] == ann_source(index.info)
    assert (info["kind"], info["rows"], info["queries"]) == ("ivf", 1500, 150)
    assert set(info["digests"]) == set(FILES)
    assert {"queries_per_second", "latency_ms"} == set(info["exact"]) == set(info["approximate"])
    assert info["bytes"] == sum((index.folder / "ann" / name).stat().st_size for name in FILES)
    assert {path.name for path in (index.folder / "ann").iterdir()} == {*FILES, "ann.json"}


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_the_same_vectors_and_seed_give_the_same_files(kind: str, tmp_path: Path) -> None:
    vectors = unit(700)
    one, two = (build(tmp_path / name, vectors, kind=kind) for name in "ab")
    assert one["digests"] == two["digests"]
    assert build(tmp_path / "c", vectors, kind=kind, seed=1)["parameters"]["seed"] == 1
    if kind == "ivf":
        assert build(tmp_path / "d", vectors, seed=1)["digests"] != one["digests"]


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_unreadable_images_are_never_found_and_positions_stay(kind: str, tmp_path: Path) -> None:
    vectors = unit(900)
    positions = np.flatnonzero(np.arange(1350) % 3 != 1)
    build(tmp_path, vectors, positions, kind=kind)
    scores, found, complete = read_ann(tmp_path, {}).search(vectors.astype(np.float32), 5)
    assert complete.all()
    assert np.isin(found, positions).all()
    assert (found[:, 0] == positions).mean() > 0.99
    stored = np.zeros((1350, 32), np.float16)
    stored[positions] = vectors
    exact = np.einsum("nd,nkd->nk", vectors.astype(float), stored[found].astype(float)).astype(np.float32)
    np.testing.assert_allclose(scores, exact, rtol=2e-7)


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_every_image_is_in_it(kind: str, tmp_path: Path) -> None:
    """Those that were held out while it was measured, too: all of a list, with all lists looked at."""
    vectors = unit(400)
    build(tmp_path, vectors, kind=kind)
    ann = read_ann(tmp_path, {})
    assert ann.index.ntotal == 400
    _, found, _ = ann.search(vectors[:3].astype(np.float32), 400, (4096, 64))
    if kind == "ivf":
        assert [sorted(row) for row in found.tolist()] == [list(range(400))] * 3


def test_more_neighbours_than_it_can_name_come_from_exact_search(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = index.search(["position:3", "position:4"], 1500, exact=False)
    assert [sorted(hit.position for hit in row) for row in everything] == [list(range(1500))] * 2
    ann = index.ann()
    monkeypatch.setattr(type(ann), "candidates", lambda self, queries, near, look: np.full((len(queries), near), -1))
    assert index.search("position:3", 5, exact=False) == index.search("position:3", 5)


def test_a_graph_of_equal_images(tmp_path: Path) -> None:
    """FAISS then names fewer than were asked for; that is seen, and no row is -1."""
    vectors = np.repeat(unit(3), 200, axis=0)
    try:
        build(tmp_path, vectors, kind="hnsw")
    except DataError as err:
        assert "reaches a recall@10 of" in str(err)
        assert not (tmp_path / "ann.json").exists()
        return
    _, found, complete = read_ann(tmp_path, {}).search(vectors[:1].astype(np.float32), 150)
    assert (found[complete] >= 0).all()


def test_two_equal_images_are_ordered_by_position(tmp_path: Path) -> None:
    vectors = np.concatenate([unit(300), unit(300)])
    build(tmp_path, vectors)
    scores, found, _ = read_ann(tmp_path, {}).search(vectors[:50].astype(np.float32), 2)
    same = scores[:, 0] == scores[:, 1]
    assert same.mean() > 0.9
    assert (np.diff(found[same], axis=1) > 0).all()


def test_there_is_none(glyphs: Index) -> None:
    with pytest.raises(
        RequestError, match=r"has no approximate index\. Make one with plada\.make_ann .*or search exactly"
    ):
        glyphs.search("position:1", exact=False)


@pytest.mark.parametrize("name", FILES)
def test_one_wrong_byte_is_found(own: Index, name: str) -> None:
    path = own.folder / "ann" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"{name}: damaged: expected digest .* found .*Make it again"):
        own.search("position:1", exact=False)
    path.unlink()
    with pytest.raises(DataError, match="found no file"):
        own.search("position:1", exact=False)


def counted(names: list[str]) -> Callable[[Path], str]:
    def hash_file(path: Path) -> str:
        names.append(path.name)
        return digest(path)

    return hash_file


def test_opening_reads_neither_file_as_a_whole(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """A digest of all vectors of 14 million images takes seconds."""

    def refuse(path: Path) -> str:
        raise AssertionError(f"{path} is hashed")

    monkeypatch.setattr(ann_files, "digest", refuse)
    assert index.search("position:1", exact=False)[0][0].position == 1


@pytest.mark.parametrize("name", FILES)
def test_a_copy_without_its_times_is_hashed(own: Index, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    hashed: list[str] = []
    monkeypatch.setattr(ann_files, "digest", counted(hashed))
    os.utime(own.folder / "ann" / name)
    assert own.search("position:1", exact=False)[0][0].position == 1
    assert hashed == [name]


@pytest.mark.parametrize("name", FILES)
def test_the_check_finds_a_wrong_byte_whatever_the_time_says(own: Index, name: str) -> None:
    path = own.folder / "ann" / name
    state, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(DataError, match=f"{name}: damaged"):
        read_ann(own.folder / "ann", ann_source(own.info), whole=True)
    assert [item.ok for item in check_index(own.folder, home=own.home).items if item.what == "ann"] == [False]


def test_one_that_an_older_plada_made_is_hashed(own: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    monkeypatch.setattr(ann_files, "digest", counted(hashed))
    edited(lambda info: info.pop("states"))(own.folder / "ann" / "ann.json")
    assert own.search("position:1", exact=False)[0][0].position == 1
    assert hashed == list(FILES)


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        info = json.loads(path.read_text())
        change(info)
        write_sealed_json(path, info)

    return edit


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (lambda path: path.write_text("{"), DataError, "cannot be read"),
        (lambda path: path.write_text("[]"), DataError, "not what plada writes"),
        (lambda path: path.write_text(path.read_text().replace('"nprobe": ', '"nprobe": 1')), DataError, "checksum is wrong"),
        (edited(lambda info: info.update(format=2)), DataError, "format 2; this plada reads 1. Install a newer plada"),
        (edited(lambda info: info["parameters"].pop("nprobe")), DataError, "fields are missing"),
        (edited(lambda info: info.update(kind="tree")), DataError, "fields are missing"),
        (edited(lambda info: info.pop("digests")), DataError, "fields are missing"),
        (edited(lambda info: info.update(rows=7)), DataError, "1500 vectors of dimension 256; ann.json says 7 of 256"),
        (edited(lambda info: info.update(images=7000)), DataError, "cannot be read by this FAISS"),
        (edited(lambda info: info["made_of"].update(version=99)), ReferenceMismatch, "version 99 of content id"),
    ],
)  # fmt: skip
def test_a_description_that_is_wrong(
    own: Index, change: Callable[[Path], None], kind: type[PladaError], message: str
) -> None:
    change(own.folder / "ann" / "ann.json")
    with pytest.raises(kind, match=message):
        own.search("position:1", exact=False)


def test_made_of_other_vectors_of_the_same_images(own: Index) -> None:
    """Another encoder gives the same content id and may give the same version number."""
    path = own.folder / "index.json"
    info = json.loads(path.read_text())
    info["mean"][0] += 1e-9
    edit_json(path, mean=info["mean"])
    with pytest.raises(ReferenceMismatch, match=r"was made of version .*; this index is version"):
        plada.open_index(own.folder).search("position:1", exact=False)


def test_a_stop_while_it_is_made_leaves_none(own: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ann_build, "_write", stop)
    with pytest.raises(KeyboardInterrupt):
        plada.make_ann(own)
    with pytest.raises(RequestError, match="has no approximate index"):
        own.search("position:1", exact=False)
    assert not list((own.folder / "ann").glob("*.part"))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"kind": "tree"}, "expected ivf or hnsw"), ({"recall": 1.5}, "a recall between 0 and 1")],
)
def test_what_cannot_be_built(index: Index, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        plada.make_ann(index, **options)


def test_too_few_images(pictures: Path) -> None:
    plada.index(pictures, name="p", encoder="gradients")
    with pytest.raises(RequestError, match="24 images: an approximate index needs 256 or more"):
        plada.make_ann("p")


def test_too_little_memory_is_said_before_anything_is_done(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ann_build, "free_memory", lambda: 1000)
    with pytest.raises(ResourceError, match=r"needs [0-9.]+ GB of memory; 0\.0 GB are free"):
        plada.make_ann(index)
    monkeypatch.setattr(ann_build, "free_memory", lambda: None)
    # ImageNet-21K: what a machine of 8 GB has room for.
    assert check_memory("ivf", 14_200_000, 512) < 4e9
    assert sizes(14_200_000) == (16_384, 262_144)


def test_without_faiss_the_extra_is_named(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtra, match="an approximate index needs faiss"):
        plada.make_ann(index)
    with pytest.raises(MissingExtra, match="search needs faiss"):
        index.search("position:1", exact=False)


def test_when_one_is_wanted() -> None:
    assert [choose_ann_kind(kind, 10, 64) for kind in ("auto", "none", "ivf", "hnsw")] == [None, None, "ivf", "hnsw"]
    assert choose_ann_kind("auto", 14_200_000, 512) == "ivf"
    with pytest.raises(RequestError, match="expected auto, none, ivf or hnsw"):
        choose_ann_kind("tree", 10, 64)


def test_images_that_cannot_be_read_in_a_real_index(tmp_path: Path) -> None:
    root = tmp_path / "some"
    root.mkdir()
    for number in range(300):
        picture(number, (12, 10)).save(root / f"{number:03d}.png")
    for number in (0, 150, 299):
        (root / f"{number:03d}.png").write_bytes(b"junk")
    plada.index(root, name="some", encoder="gradients")
    index = plada.open_index("some")
    plada.make_ann(index)
    assert [row[0].position for row in index.search(["position:1", "position:298"], 3, exact=False)] == [1, 298]
    assert len(index.search("position:1", 300)[0]) == len(index.search("position:1", 300, exact=False)[0]) == 297
    with pytest.raises(DataError, match=r"image 150 \(150\) has no embedding"):
        index.search("position:150")
