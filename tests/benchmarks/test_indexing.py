"""The benchmark of indexing measures what it says, in miniature: its parts run, and find what is broken. No times are asserted."""

import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import indexing_kills, indexing_run
from benchmarks.indexing_run import processes_of, run, some_images, some_tars, start, wait
from tests.conftest import picture, table_folder

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found as on Linux")


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Three tars of 20 pictures each."""
    root = tmp_path_factory.mktemp("tars")
    for number in range(3):
        with tarfile.open(root / f"n{number:08d}.tar", "w") as tar:
            for row in range(20):
                path = root / f"n{number:08d}_{row}.JPEG"
                picture(100 * number + row).save(path)
                tar.add(path, path.name)
                path.unlink()
    yield root


def test_subsets_of_tars_and_the_same_images_in_two_forms(tars: Path, tmp_path: Path) -> None:
    assert len(list(some_tars(tars, 21, tmp_path / "some").iterdir())) == 2
    files, shards = some_images(tars, 10, tmp_path / "both", per_shard=4)
    kept = sorted(path.read_bytes() for path in files.rglob("*.JPEG"))
    assert len(kept) == 10
    held = []
    for path in sorted(shards.iterdir()):
        with tarfile.open(path) as tar:
            held += [tar.extractfile(member).read() for member in tar]  # type: ignore[union-attr]
    assert sorted(held) == kept
    assert len(list(shards.iterdir())) == 3


def test_a_run_is_followed_to_its_end(tars: Path, tmp_path: Path) -> None:
    running = start([str(tars), "--name", "kill", "--encoder", "gradients"], tmp_path / "home")
    assert processes_of(running.mark) == [running.process.pid]
    ended = wait(running)
    assert (ended.code, ended.summary and ended.summary["images"]) == (0, 60)
    assert (running.embedded(), running.total()) == (60, 60)
    assert not processes_of(running.mark)
    assert ended.cpu_seconds > 0


def test_a_run_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="exit status 2"):
        run([str(tmp_path / "nowhere"), "--encoder", "gradients"], tmp_path / "home")


def test_kills_are_survived_and_what_is_wrong_is_found(tars: Path, tmp_path: Path) -> None:
    found = indexing_kills.measure(tars, ["--encoder", "gradients"], tmp_path, kills=1, worker_kills=0, seed=1)
    assert (found["kills"], found["kills_survived"], found["wrong"]) == (1, 1, [])
    home = tmp_path / "whole"
    wanted = indexing_kills.fingerprint(home)
    import lance

    folder = table_folder(home / "indexes" / "kill")
    table = lance.dataset(folder).to_table()
    lance.write_dataset(table.take([1, 0, *range(2, 60)]), folder, mode="overwrite")
    other = indexing_kills.fingerprint(home)
    assert {name for name in wanted if wanted[name] != other[name]} >= {"position", "key", "vector", "hash", "look"}
    assert wanted["index.json"] == other["index.json"]
    info = json.loads((home / "indexes" / "kill" / "index.json").read_text())
    (home / "indexes" / "kill" / "index.json").write_text(json.dumps({**info, "unreadable": 1}))
    assert indexing_kills.fingerprint(home)["index.json"] != wanted["index.json"]


def test_processes_are_found_by_their_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    assert processes_of("nobody") == []
    assert indexing_run.arguments_of(os.getpid())
    assert indexing_run.arguments_of(2**22 + 1) == ""
