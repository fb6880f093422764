"""What runs on a Ray cluster makes what one process makes, whoever dies: the builds of an index, and the passes of `select`.

The cluster is one of this machine, with a GPU that exists in its books alone: the built-in encoder needs none.
"""

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import plada
from plada.common.cluster import in_order
from plada.common.progress import Progress, silent
from plada.encoders.encoder import Encoder, load_encoder
from plada.encoders.spec import EncoderSpec
from plada.errors import (
    DataError,
    MissingExtra,
    PladaError,
    ReferenceMismatch,
    RequestError,
    ResourceError,
    UnknownName,
)
from plada.indexer.embed import Task
from plada.indexer.ray_engine import encoder_to_build, ray_workers
from plada.indexer.workers import Plan
from plada.labeler.passes import passes_over
from plada.labeler.scores import SCORES
from plada.networks.linear_head import Head
from plada.retrieval.index import Index
from plada.sources.collection import part_of
from plada.sources.registry import open_source
from tests.conftest import picture, table_folder
from tests.stores import no_aws, store
from tests.test_cli import refused, summary

GLYPHS = "glyphs:count=3000"  # three shards, the last one short
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc to find the workers")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'pladata[ray]'")
    ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("whole")
    plada.index(GLYPHS, name="g", home=home)
    return home


def stored(home: Path) -> tuple[Any, Any]:
    """Everything that is stored of the images, and the ledger."""
    index = plada.open_index("g", home=home)
    return index.table().to_lance().to_table().combine_chunks(), index.info["shards"]


def kill_one(name: str) -> list[int]:
    """Kill one of our own cluster's workers of this name; its number, if there is one."""

    def ours(number: int) -> bool:
        while number > 1:
            if number == os.getpid():
                return True
            status = Path(f"/proc/{number}/status").read_text().splitlines()
            number = next(int(line.split()[1]) for line in status if line.startswith("PPid:"))
        return False

    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::" + name.encode()) and ours(int(path.parent.name)):
                os.kill(int(path.parent.name), signal.SIGKILL)
                return [int(path.parent.name)]
        except OSError:
            continue
    return []


def killer(name: str) -> tuple[Callable[[Progress], None], list[int]]:
    """A listener that kills a worker of this name in the middle of a build, and the process that it killed."""
    killed: list[int] = []

    def listen(progress: Progress) -> None:
        if progress.stage == "embed" and progress.done >= 512 and not killed:
            killed.extend(kill_one(name))

    return listen, killed


@needs_proc
@pytest.mark.parametrize(
    ("device", "worker"), [("cpu", "_embed_on_node"), ("cuda", "_prepare_on_node"), ("cuda", "_GpuEncoder")]
)
def test_an_index_made_on_ray_is_the_same_and_survives_the_death_of_a_worker(
    cluster: Any, whole: Path, tmp_path: Path, device: str, worker: str
) -> None:
    listen, killed = killer(worker)
    made = plada.index(GLYPHS, name="g", home=tmp_path, engine="ray", device=device, report=listen)
    assert killed
    assert made.images == 3000
    assert stored(tmp_path) == stored(whole)


@needs_proc
def test_an_actor_that_keeps_dying_is_said(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plada.indexer.ray_engine.LIVES", 0)
    listen, killed = killer("_GpuEncoder")
    with pytest.raises(ResourceError, match=r"Ray: a worker died .* on the same images .* Run the same command again"):
        plada.index(GLYPHS, name="g", home=tmp_path, engine="ray", device="cuda", report=listen)
    assert killed


@pytest.mark.parametrize("where", ["cpu", "cuda"])
def test_an_error_on_a_node_arrives_as_it_is(cluster: Any, tmp_path: Path, where: str) -> None:
    (tmp_path / "few").mkdir()
    for number in range(3):
        picture(number).save(tmp_path / "few" / f"{number}.png")
    collection = open_source(tmp_path / "few", tmp_path)
    (tmp_path / "few" / "1.png").unlink()
    spec = EncoderSpec(name="gradients")
    encoder = replace(load_encoder(spec), where=where)
    plan = Plan(batch_size=2, chunk=2, workers=2, threads=1)
    with ray_workers(spec, encoder, plan) as run, pytest.raises(DataError, match="listed but cannot be read"):
        list(run([Task(0, part_of(collection, 0, 3))]))


def test_a_node_that_lacks_a_package_is_said(cluster: Any) -> None:
    def work() -> None:
        raise ModuleNotFoundError("No module named 'plada'", name="plada")

    remote = cluster.remote(work)
    with pytest.raises(
        RequestError, match=r"a node cannot do its part \(No module named 'plada'\). Install the same plada"
    ):
        list(in_order((remote.remote() for _ in range(2)), 1, "remedy"))


def test_the_gpus_of_a_cluster_need_not_be_here(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str | None, str | None]] = []

    def load(spec: EncoderSpec, device: str | None = None) -> Encoder:
        asked.append((spec.precision, device))
        return load_encoder(EncoderSpec(name="gradients"))

    monkeypatch.setattr("plada.indexer.ray_engine.load_encoder", load)
    monkeypatch.setattr("plada.indexer.ray_engine._has_gpu", lambda: False)
    for device in ("cuda", "all"):
        assert encoder_to_build(EncoderSpec(name="timm:resnet18"), device).where == "cuda"
    assert encoder_to_build(EncoderSpec(name="timm:resnet18"), None).where == "cpu"
    assert asked == [("fp16", "cpu"), ("fp16", "cpu"), (None, None)]


@pytest.mark.parametrize(("lacking", "device"), [("CPU", "cpu"), ("GPU", "cuda")])
def test_a_cluster_that_lacks_what_tasks_need_is_said(
    cluster: Any, pictures: Path, monkeypatch: pytest.MonkeyPatch, lacking: str, device: str
) -> None:
    there = {"CPU": 2.0, "GPU": 1.0}
    monkeypatch.setattr(cluster, "cluster_resources", lambda: {name: n for name, n in there.items() if name != lacking})
    with pytest.raises(ResourceError, match=f"the cluster has no {lacking} to give"):
        plada.index(pictures, encoder="gradients", engine="ray", device=device)


# The passes of select


def head(index: Index, classes: int) -> Head:
    """Some linear head."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(index.dimension, classes)).astype(np.float32)
    return Head(index.mean, weight, rng.normal(size=classes).astype(np.float32))


def equal(one: Any, other: Any) -> None:
    """Two records of arrays that hold the same, bit for bit."""
    assert type(one) is type(other)
    for each in fields(one):
        value, same = getattr(one, each.name), getattr(other, each.name)
        if isinstance(value, dict):
            assert value.keys() == same.keys()
            value, same = (np.stack([found[name] for name in sorted(found)]) for found in (value, same))
        np.testing.assert_array_equal(value, same)


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges of one shard each."""
    monkeypatch.setattr("plada.retrieval.table._TASK", 1)


@pytest.mark.usefixtures("in_parts")
def test_passes_on_ray_give_what_one_pass_gives(cluster: Any, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plada.labeler.shortlist.MIN_DEPTH", 5)
    index, seen = plada.open_index("g", home=whole), list[Progress]()
    assert len(index.rows.ranges()) == 3
    with passes_over(index, "local", silent) as own, passes_over(index, "ray", seen.append) as there:
        for classes in (1, 7):
            teacher = head(index, classes)
            for names in ("margin",), tuple(SCORES):
                equal(there.scores(teacher, names, "scan"), own.scores(teacher, names, "scan"))
            for share in (0.01, 0.3, 1.0):
                equal(there.shortlist(teacher, share, "scan"), own.shortlist(teacher, share, "scan"))
            for depth in (2, 50, 5000):
                equal(there.surest(teacher, depth, "scan"), own.surest(teacher, depth, "scan"))
        wanted = np.array([3, 1023, 2050, 2999])  # none in the second range
        where, vectors = (np.concatenate(parts) for parts in zip(*there.embeddings(wanted, "read"), strict=True))
        np.testing.assert_array_equal(where, wanted)
        np.testing.assert_array_equal(vectors, index.vectors(wanted))
    assert seen[-1].done == seen[-1].total


def say(images: list[Any]) -> list[Any]:
    """A teacher that looks at pictures, and sees ten classes in them."""
    return [np.asarray(image.resize((9, 10))).mean(axis=(1, 2)) for image in images]


@pytest.mark.usefixtures("in_parts")
@pytest.mark.parametrize("teacher", ["linear", "watched:say"])
def test_select_on_ray_chooses_the_same(
    cluster: Any, whole: Path, few_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, teacher: str
) -> None:
    monkeypatch.setattr("plada.labeler.label.KEEP_ALL", 1000)
    monkeypatch.setattr("plada.labeler.shortlist.MIN_DEPTH", 5)
    module = ModuleType("watched")
    module.say = say  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "watched", module)
    files = []
    for engine in ("local", "ray"):
        files.append(tmp_path / f"{engine}.plada")
        plada.select(
            "g", target=few_digits, budget=300, rule="herd-even", home=whole, out=files[-1],
            teacher=plada.TeacherSpec(names=teacher, force=True, engine=engine),
        )  # fmt: skip
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.usefixtures("in_parts")
def test_the_command_selects_on_ray_from_a_url(cluster: Any, whole: Path, few_digits: Path, tmp_path: Path) -> None:
    out = ("--target", few_digits, "--budget", "300", "--rule", "herd-even")
    summary("select", "--index", "g", *out, "--home", whole, "-o", tmp_path / "here.plada")
    with store() as s3, no_aws({}):
        url = s3.put(whole / "indexes" / "g", "indexes/g")
        options = {name.lower(): value for name, value in s3.environment().items()}
        options["allow_http"] = options.pop("aws_allow_http")
        index = plada.open_index(url, home=tmp_path / "home", storage_options=options)
        plada.select(
            index, target=few_digits, budget=300, rule="herd-even", home=index.home, out=tmp_path / "there.plada",
            teacher=plada.TeacherSpec(engine="ray"),
        )  # fmt: skip
    assert (tmp_path / "there.plada").read_bytes() == (tmp_path / "here.plada").read_bytes()
    assert "unknown engine 'spark'" in refused(2, "UnknownName", "select", *out, "--home", whole, "--engine", "spark")


@needs_proc
@pytest.mark.usefixtures("in_parts")
def test_a_pass_survives_the_death_of_a_worker(cluster: Any, whole: Path) -> None:
    index, killed, done = plada.open_index("g", home=whole), list[int](), threading.Event()

    def kill_first() -> None:
        while not killed and not done.is_set():
            killed.extend(kill_one("_surest"))
            time.sleep(0.01)

    watcher = threading.Thread(target=kill_first)
    watcher.start()
    with passes_over(index, "local", silent) as own, passes_over(index, "ray", silent) as there:
        found = there.surest(head(index, 3), 20, "scan")
        done.set()
        watcher.join()
        assert killed
        equal(found, own.surest(head(index, 3), 20, "scan"))


@pytest.mark.parametrize("there", ["nothing", "another", "damage"])
def test_a_node_that_has_no_such_index(cluster: Any, whole: Path, tmp_path: Path, there: str) -> None:
    shutil.copytree(whole, tmp_path / "home")
    folder = tmp_path / "home" / "indexes" / "g"
    index = plada.open_index("g", home=tmp_path / "home")
    expected: type[PladaError] = RequestError
    match there:
        case "nothing":
            folder.rename(tmp_path / "moved")
            message = "unknown index"
        case "another":
            plada.index("glyphs:count=40", name="g", home=tmp_path / "other")
            shutil.rmtree(folder)
            (tmp_path / "other" / "indexes" / "g").rename(folder)
            expected, message = ReferenceMismatch, "is another index there than on the machine that started this"
        case "damage":
            for path in (table_folder(folder) / "data").iterdir():
                path.write_bytes(b"0" * path.stat().st_size)
            expected, message = DataError, "cannot be opened or read"
    with passes_over(index, "ray", silent) as passes, pytest.raises(expected, match=f"Ray, on node .*: .*{message}"):
        passes.surest(head(index, 3), 20, "scan")


def test_no_ray_cluster_is_said(monkeypatch: pytest.MonkeyPatch, pictures: Path) -> None:
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'pladata[ray]'")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ResourceError, match="Ray: no cluster answers"):
        plada.index(pictures, encoder="gradients", engine="ray")


def test_ray_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch, pictures: Path) -> None:
    import importlib

    found = importlib.import_module

    def without_ray(name: str, package: str | None = None) -> Any:
        if name == "ray":
            raise ModuleNotFoundError("No module named 'ray'", name="ray")
        return found(name, package)

    monkeypatch.setattr("importlib.import_module", without_ray)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        MissingExtra, match=r"--engine ray needs ray, which is not installed. Run: pip install '.*\[ray\]'"
    ):
        plada.index(pictures, encoder="gradients", engine="ray")
    with pytest.raises(UnknownName, match="unknown engine 'spark'"):
        plada.index(pictures, encoder="gradients", engine="spark")
