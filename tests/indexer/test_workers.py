"""Whoever does the work makes the same rows, and the death of a worker changes nothing."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import plada
from plada.common.progress import Progress
from plada.encoders.encoder import Encoder, load_encoder
from plada.encoders.spec import EncoderSpec
from plada.errors import DataError, MissingExtra, PladaError, RequestError, ResourceError, UnknownName
from plada.indexer.embed import Task, TaskResult, embed, empty_rows, prepare
from plada.indexer.feeders import FeederProcess, SlotJob, pixel_slots
from plada.indexer.workers import Plan, WorkerPool, all_gpus, gpu_workers, make_plan, this_process, worker_processes
from plada.sources.collection import CollectionSlice, part_of
from plada.sources.registry import open_source

GLYPHS = "glyphs:count=640"
PLAN = Plan(batch_size=16, chunk=32, workers=2, threads=1)
GRADIENTS = EncoderSpec(name="gradients")


def tasks(place: str | Path = GLYPHS) -> Iterator[Task]:
    collection = open_source(place, Path("home"))
    for start in range(0, len(collection), PLAN.chunk):
        yield Task(start, part_of(collection, start, min(start + PLAN.chunk, len(collection))))


def rows_of(pool: WorkerPool, place: str | Path = GLYPHS) -> list[TaskResult]:
    with pool as run:
        return list(run(tasks(place)))


def assert_same(one: list[TaskResult], other: list[TaskResult]) -> None:
    assert [made.rows.start for made in one] == [made.rows.start for made in other]
    for a, b in zip(one, other, strict=True):
        for name in ("vectors", "hashes", "sizes", "width", "height", "fingerprints"):
            assert np.array_equal(getattr(a.rows, name), getattr(b.rows, name)), name
        assert a.rows.status == b.rows.status


@pytest.fixture(scope="module")
def alone() -> list[TaskResult]:
    return rows_of(this_process(load_encoder("gradients"), PLAN))


def test_processes_make_what_this_one_makes(alone: list[TaskResult]) -> None:
    assert_same(rows_of(worker_processes(GRADIENTS, PLAN)), alone)


def fed(encoder: Encoder, devices: int = 1) -> WorkerPool:
    """As before GPUs, of which the CPU plays so many."""
    return gpu_workers(encoder, PLAN, spec=GRADIENTS, devices=["cpu"] * devices)


def test_feeding_makes_the_same(alone: list[TaskResult], pictures: Path) -> None:
    encoder = load_encoder("gradients")
    assert_same(rows_of(fed(encoder)), alone)
    (pictures / "n0" / "image_03.jpg").write_bytes(b"not an image")
    (made,) = rows_of(fed(encoder), pictures)
    assert_same([made], rows_of(this_process(encoder, PLAN), pictures))
    assert sum(bool(reason) for reason in made.rows.status) == 1


def children() -> list[int]:
    own = str(os.getpid())
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = path.read_text().rpartition(")")[2].split()[1]
            command = (path.parent / "cmdline").read_text()
        except OSError:
            continue
        if parent == own and "loky" in command and "resource_tracker" not in command:
            found.append(int(path.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc to find the workers")
def test_a_killed_worker_is_replaced(alone: list[TaskResult]) -> None:
    with worker_processes(GRADIENTS, PLAN) as run:
        made = []
        for one in run(tasks()):
            made.append(one)
            if len(made) in (2, 9):
                os.kill(children()[0], signal.SIGKILL)
    assert_same(made, alone)
    assert not children()


def test_a_process_for_each_of_several_gpus_makes_the_same(alone: list[TaskResult], pictures: Path) -> None:
    encoder = load_encoder("gradients")
    assert_same(rows_of(fed(encoder, devices=2)), alone)
    (pictures / "n0" / "image_03.jpg").write_bytes(b"not an image")
    assert_same(rows_of(fed(encoder, devices=2), pictures), rows_of(this_process(encoder, PLAN), pictures))


def test_a_feeder_that_is_killed_is_started_anew(alone: list[TaskResult], tmp_path: Path) -> None:
    (task,) = list(tasks())[3:4]
    encoder = load_encoder("gradients")

    def job(slot: str) -> SlotJob:
        pixels = np.memmap(tmp_path / slot, np.uint8, "w+", shape=(PLAN.chunk, encoder.view.size, encoder.view.size, 3))
        prepared = prepare(task, encoder.view, encoder.config.dimension, pixels)
        return SlotJob(prepared.result, prepared.places, str(tmp_path / slot), PLAN.chunk, encoder.view.size)

    with FeederProcess(GRADIENTS, "cpu", 16, lives=1) as feeder:
        os.kill(feeder.process.pid, signal.SIGKILL)
        with ThreadPoolExecutor(2) as lanes:
            assert_same(list(lanes.map(feeder.encode, [job("a"), job("b")])), [alone[3]] * 2)
        assert feeder.lost == 1
        os.kill(feeder.process.pid, signal.SIGKILL)
        with pytest.raises(ResourceError, match=r"feeds cpu was killed 2 times.*smaller --batch-size"):
            feeder.encode(job("c"))


def test_what_a_feeder_cannot_do_arrives_as_it_is() -> None:
    spec = EncoderSpec(name="no_such_network")
    with FeederProcess(spec, "cpu", 16, lives=1) as feeder, pytest.raises(PladaError, match="no_such_network"):
        feeder.encode(SlotJob(this_result(), np.zeros(0, np.int64), "none", 1, 1))


def this_result() -> TaskResult:
    return TaskResult(empty_rows(0, 1, 4), np.zeros(1, np.bool_), 0.0)


def test_slots_are_as_many_as_shared_memory_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory, disk = tmp_path / "shm", tmp_path / "tmp"
    for folder in (memory, disk):
        folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    each, free = 10 * 8 * 8 * 3, dict[Path, int]()

    def usage(place: Path) -> Any:
        found = next(folder for folder in free if place == folder or folder in place.parents)
        return SimpleNamespace(free=free[found])

    monkeypatch.setattr(shutil, "disk_usage", usage)

    def slots(in_memory: int, on_disk: int) -> tuple[int, str, str]:
        free.update({memory: in_memory * each, disk: on_disk * each})
        with pixel_slots(9, 5, 10, 8, memory=memory) as (paths, note):
            assert {path.stat().st_size for path in paths} == {each}
            return len(paths), paths[0].parent.parent.name, note

    assert slots(100, 100) == (9, "shm", "")
    assert slots(12, 100) == (6, "shm", "")
    number, place, note = slots(9, 100)
    assert (number, place) == (9, "tmp")
    assert "shm has too little room for pixels (9600 bytes" in note
    assert "--shm-size" in note
    assert slots(0, 7)[:2] == (7, "tmp")
    with pixel_slots(9, 5, 10, 8, memory=tmp_path / "none") as (_, note):  # as on a system without such a folder
        assert not note
    with pytest.raises(ResourceError, match="9600 bytes are needed to hand pixels"):
        slots(9, 4)
    assert not [*memory.iterdir(), *disk.iterdir()]


def test_fewer_slots_make_the_same_rows_and_a_detour_is_said(
    alone: list[TaskResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_encoder("gradients")
    each = PLAN.chunk * encoder.view.size**2 * 3
    for slots in (5, 4):  # the least number, and too few: then the temporary folder has as many as are wanted
        monkeypatch.setattr(shutil, "disk_usage", lambda _, slots=slots: SimpleNamespace(free=2 * slots * each))
        rows = rows_of(fed(encoder))
        assert_same(rows, alone)
        assert {bool(row.note) for row in rows} == {slots < 5}


class Deadly:
    """A collection that kills whoever reads it, as the kernel does to those who take too much memory."""

    location, keys = "deadly", open_source("glyphs:count=64", Path("home")).keys
    sizes = np.full(64, 1)

    def __len__(self) -> int:
        return 64

    def read(self, position: int) -> bytes:
        os.kill(os.getpid(), signal.SIGKILL)
        return b""

    def stream(self, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
        yield start, self.read(start)


def test_workers_that_keep_dying_are_given_up() -> None:
    with (
        worker_processes(GRADIENTS, PLAN) as run,
        pytest.raises(ResourceError, match=r"killed 6 times.*fewer --workers"),
    ):
        list(run([Task(0, Deadly())]))


def test_an_error_of_a_worker_arrives_as_it_is(pictures: Path) -> None:
    collection = open_source(pictures, pictures)
    (pictures / "n0" / "image_03.jpg").write_bytes(b"other bytes")
    with (
        worker_processes(GRADIENTS, PLAN) as run,
        pytest.raises(DataError, match=r"had .* bytes when it was listed and has 11 now"),
    ):
        list(run([Task(0, part_of(collection, 0, len(collection)))]))


@pytest.mark.parametrize(
    "error",
    [
        MissingExtra(package="p", extra="cpu", purpose="x"),
        UnknownName("encoder", "abc", ["abd"]),
        DataError("plain"),
    ],
)
def test_errors_travel_between_processes(error: PladaError) -> None:
    import pickle

    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_parts_of_every_form_read_as_the_whole(pictures: Path, shared: Path, tmp_path: Path) -> None:
    import pickle

    subprocess.run(
        [sys.executable, str(shared / "unpack.py"), str(tmp_path), "--limit-per-class", "2", "--as", "tars", "--as", "folder",
         "--as", "wds", "--as", "parquet"],
        check=True, capture_output=True,
    )  # fmt: skip
    places = sorted(path for path in tmp_path.glob("reference-*"))
    assert len(places) == 4
    for place in places:
        whole = open_source(place, tmp_path)
        part = pickle.loads(pickle.dumps(part_of(whole, 101, 217)))
        assert len(part) == 116
        assert part.keys.to_pylist() == whole.keys.slice(101, 116).to_pylist()
        assert dict(part.stream(0, 116)) == {p - 101: whole.read(p) for p in range(101, 217)}
        assert part.read(5) == whole.read(106)


def test_a_part_of_anything_reads_as_the_whole() -> None:
    whole = open_source("digits", Path("home"))
    part = part_of(whole, 10, 20)
    assert isinstance(part, CollectionSlice)
    assert dict(part.stream(2, 5)) == {p: whole.read(10 + p) for p in range(2, 5)}
    assert part.keys.to_pylist() == whole.keys.slice(10, 10).to_pylist()


class OutOfMemoryError(RuntimeError):
    """As torch calls it."""


def greedy(encoder: Encoder, most: int) -> Encoder:
    def encode(pixels: Any) -> Any:
        if len(pixels) > most:
            raise OutOfMemoryError("CUDA out of memory")
        return encoder.encode(pixels)

    return replace(encoder, encode=encode)


def test_batches_are_halved_where_memory_ends(alone: list[TaskResult]) -> None:
    encoder = greedy(load_encoder("gradients"), 5)
    made = rows_of(this_process(encoder, PLAN))
    assert_same(made, alone)
    assert [one.note for one in made if one.note] == ["the device is out of memory: batches of 4 images from here on"]
    assert_same(rows_of(fed(encoder)), alone)
    with pytest.raises(ResourceError, match="out of memory with a single image"):
        rows_of(this_process(greedy(encoder, 0), PLAN))


def test_halved_batches_are_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = greedy(load_encoder("gradients"), 7)
    monkeypatch.setattr("plada.api.index.load_encoder", lambda *_, **__: encoder)
    heard: list[str] = []
    made = plada.index(GLYPHS, name="g", batch_size=64, report=lambda progress: heard.append(progress.note))
    assert made.notes == ("the device is out of memory: batches of 4 images from here on",)
    assert [note for note in heard if note] == list(made.notes)


def test_the_plan_suits_the_machine() -> None:
    encoder = load_encoder("gradients")
    assert make_plan(encoder, 100, batch_size=None, workers=None).workers == 0
    many = make_plan(encoder, 100_000, batch_size=None, workers=None)
    assert many.workers >= 1
    assert many.workers * many.threads <= max(len(os.sched_getaffinity(0)), many.workers)
    assert (many.batch_size, many.chunk) == (32, 256)
    assert make_plan(replace(encoder, where="cuda:0"), 10, batch_size=None, workers=3).batch_size == 256
    assert make_plan(encoder, 10, batch_size=300, workers=3).chunk == 300


def test_all_gpus_where_there_is_none() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(RequestError, match="--device all: torch sees no GPU here"):
        all_gpus()


@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_workers_go_when_their_parent_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "plada", "index", "glyphs:count=20000", "--name", "g", "--workers", "2"]
    environment = {**os.environ, "PLADA_HOME": str(tmp_path)}
    running = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    folder = tmp_path / "indexes" / "g"
    deadline = time.monotonic() + 60
    while not any(folder.glob("images*.lance/_versions/*.manifest")) and time.monotonic() < deadline:
        time.sleep(0.02)
    running.kill()
    running.wait()

    def left() -> list[str]:
        mark = str(tmp_path).encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in path.read_bytes():
                    found.append(path.parent.name)
            except OSError:
                continue
        return found

    while left() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left()


def test_the_same_index_with_and_without_workers(tmp_path: Path) -> None:
    made = []
    for workers in (0, 2):
        plada.index(GLYPHS, name="g", home=tmp_path / str(workers), workers=workers, batch_size=16)
        made.append(plada.open_index("g", home=tmp_path / str(workers)).info["shards"])
    assert made[0] == made[1]
    assert made[0]["rows"] == 1024
    assert len(made[0]["digests"]) == 1


def test_a_script_without_a_main_guard_can_index(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import plada\nprint(plada.index('glyphs:count=640', name='g', workers=2).images)\n")
    environment = {**os.environ, "PLADA_HOME": str(tmp_path)}
    for arguments in ([str(script)], ["-c", script.read_text()]):
        done = subprocess.run(
            [sys.executable, *arguments, "--restart"], env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.stdout.strip() == "640", done.stderr


def test_where_the_time_goes_is_told(home: Path) -> None:
    made = plada.index(GLYPHS, name="g", workers=2)
    assert set(made.where) == {"read", "decode", "encode", "write"}
    assert all(spent > 0 for spent in made.where.values())
    assert made.workers == 2


def test_a_forecast_keeps_nothing(home: Path) -> None:
    heard: list[Progress] = []
    made = plada.forecast("glyphs:count=3000", workers=0, seconds=1.0, report=heard.append)
    assert (made.images, made.encoder, made.dimension) == (3000, "gradients", 256)
    assert 0 < made.tried <= 3000
    assert made.seconds > 0
    assert made.limit in ("read", "decode", "encode")
    assert not list(home.rglob("*.lance"))
    assert {progress.stage for progress in heard} == {"trial"}
    real = plada.index("glyphs:count=3000", name="g", workers=0)
    size = sum(path.stat().st_size for path in Path(real.path).rglob("*") if path.is_file())
    assert 0.7 < made.disk_bytes / size < 1.5


def test_embed_reads_each_image_once(pictures: Path) -> None:
    collection = open_source(pictures, pictures)
    encoder = load_encoder("gradients")
    made = embed(Task(0, collection), encoder, 7)
    again = embed(Task(0, collection, made.rows.hashes), encoder, 7)
    assert again.kept.all()
    assert not again.rows.vectors.any()
    assert np.array_equal(again.rows.hashes, made.rows.hashes)
