"""The index command beyond a plain run: check, forecast, parts, appending, the approximate index."""

import json
from pathlib import Path

import pytest

import plada
from plada.errors import ResourceError
from tests.conftest import edit_json, picture
from tests.sources.formats.test_detect import as_shards
from tests.test_cli import call, refused, summary

GRADIENTS = ("--name", "p", "--encoder", "gradients")


def test_check(pictures: Path, home: Path) -> None:
    summary("index", pictures, *GRADIENTS)
    found = summary("index", "p", "--check", "--full")
    assert (found["ok"], found["unchecked"]) == (True, 0)
    assert {"rows", "images", "encoder", "manifest"} <= {item["what"] for item in found["items"]}
    path = home / "indexes" / "p" / "index.json"
    info = json.loads(path.read_text())
    edit_json(path, shards={**info["shards"], "digests": ["00" * 16]})
    damaged = call("index", "p", "--check")
    assert damaged.exit_code == 5
    assert "FAILED" in damaged.stdout
    path.write_text(json.dumps(info))
    picture(50).save(pictures / "n0" / "other.png")
    assert call("index", "p", "--check").exit_code == 4
    assert "unknown index 'q'" in refused(2, "UnknownName", "index", "q", "--check")


def test_dry_run(pictures: Path, home: Path) -> None:
    found = summary("index", pictures, *GRADIENTS, "--dry-run")
    assert found["images"] == found["tried"] == 24
    assert set(found["microseconds"]) == {"read", "decode", "encode", "write"}
    assert min(found["seconds"], found["disk_bytes"], found["memory_bytes"]) > 0
    assert "images/s" in call("index", pictures, *GRADIENTS, "--dry-run").stdout
    assert not (home / "indexes").exists()


def test_shards_and_merge(pictures: Path) -> None:
    assert summary("index", pictures, *GRADIENTS, "--shard", "2/2")["shard"] == "2/2"
    assert "1-of-2: is missing" in refused(5, "DataError", "index", pictures, "--name", "p", "--merge")
    assert "no index yet" in call("index", pictures, *GRADIENTS, "--shard", "1/2").stdout
    assert summary("index", pictures, "--name", "p", "--merge")["images"] == 24
    message = refused(2, "RequestError", "index", pictures, *GRADIENTS, "--shard", "1/2", "--merge")
    assert "--shard and --merge exclude each other" in message


def test_append(pictures: Path) -> None:
    summary("index", pictures, *GRADIENTS)
    picture(50).save(pictures / "n0" / "other.png")
    message = refused(4, "ReferenceMismatch", "index", pictures, *GRADIENTS)
    assert "--append to embed only what is new" in message
    found = summary("index", pictures, *GRADIENTS, "--append")
    assert (found["images"], found["reused"]) == (25, 24)


def test_ann(home: Path) -> None:
    glyphs = ("index", "glyphs:count=400", "--name", "g")
    assert "expected auto, none, ivf or hnsw" in refused(2, "RequestError", *glyphs, "--ann", "pq")
    assert summary(*glyphs)["ann"] is None
    made = summary(*glyphs, "--ann", "ivf")["ann"]
    assert made["kind"] == "ivf"
    assert made["recall_at_10"] >= 0.95
    before = (home / "indexes" / "g" / "ann" / "ann.json").stat().st_mtime_ns
    assert summary(*glyphs, "--ann", "ivf")["ann"] == made
    assert (home / "indexes" / "g" / "ann" / "ann.json").stat().st_mtime_ns == before
    assert summary(*glyphs, "--ann", "hnsw")["ann"]["kind"] == "hnsw"
    assert "recall@10" in call(*glyphs, "--ann", "hnsw").stdout
    assert summary("index", "g", "--check")["ok"]
    summary("index", "glyphs:count=401", "--name", "g", "--append")
    assert not (home / "indexes" / "g" / "ann").exists()


def test_an_approximate_index_that_nobody_asked_for_fails_no_index(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import plada.api.index as indexing
    import plada.indexer.ann as ann

    def full(*_: object, **__: object) -> None:
        raise ResourceError("no memory")

    monkeypatch.setattr(ann, "ANN_PAYS", 100)
    monkeypatch.setattr(indexing, "make_ann", full)
    assert summary("index", "glyphs:count=300", "--name", "g")["notes"] == ["no approximate index: no memory"]
    assert "no memory" in refused(7, "ResourceError", "index", "glyphs:count=300", "--name", "g", "--ann", "ivf")
    assert len(plada.open_index("g")) == 300


def test_missing_files_that_are_meant(pictures: Path, tmp_path: Path, home: Path) -> None:
    shards = as_shards(pictures, tmp_path / "shards")
    for number, path in enumerate(sorted(shards.iterdir())):
        path.rename(shards / f"train-{number:05d}-of-00005.tar")
    assert "files are missing: 1 of 5" in refused(5, "DataError", "index", shards, *GRADIENTS)
    found = summary("index", shards, *GRADIENTS, "--incomplete")
    assert (found["images"], "files are missing: 1 of 5" in found["remark"]) == (24, True)
    assert plada.check_index("p", home=home).ok
