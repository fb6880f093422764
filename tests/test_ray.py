"""What runs on a Ray cluster makes what one process makes, whoever dies: the builds of an index, and the passes of `select`.

The cluster is one of this machine, with a GPU that exists in its books alone: the built-in encoder needs none.
"""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import plada
from plada.common.progress import Progress
from plada.encoders.encoder import load_encoder
from plada.encoders.spec import EncoderSpec
from plada.errors import DataError, MissingExtra, ResourceError, UnknownName
from plada.indexer.embed import Task
from plada.indexer.ray_engine import ray_workers
from plada.indexer.workers import Plan
from plada.sources.collection import part_of
from plada.sources.registry import open_source
from tests.conftest import picture

GLYPHS = "glyphs:count=3000"  # three shards, the last one short
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc to find the workers")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'plada[ray]'")
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


def killer(name: str) -> tuple[Callable[[Progress], None], list[int]]:
    """A listener that kills the first of our own cluster's workers of this name, and the processes that it killed."""
    killed: list[int] = []

    def ours(number: int) -> bool:
        while number > 1:
            if number == os.getpid():
                return True
            status = Path(f"/proc/{number}/status").read_text().splitlines()
            number = next(int(line.split()[1]) for line in status if line.startswith("PPid:"))
        return False

    def listen(progress: Progress) -> None:
        if progress.stage != "embed" or progress.done < 512 or killed:
            return
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if path.read_bytes().startswith(b"ray::" + name.encode()) and ours(int(path.parent.name)):
                    os.kill(int(path.parent.name), signal.SIGKILL)
                    killed.append(int(path.parent.name))
                    return
            except OSError:
                continue

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


@pytest.mark.parametrize(("lacking", "device"), [("CPU", "cpu"), ("GPU", "cuda")])
def test_a_cluster_that_lacks_what_tasks_need_is_said(
    cluster: Any, pictures: Path, monkeypatch: pytest.MonkeyPatch, lacking: str, device: str
) -> None:
    there = {"CPU": 2.0, "GPU": 1.0}
    monkeypatch.setattr(cluster, "cluster_resources", lambda: {name: n for name, n in there.items() if name != lacking})
    with pytest.raises(ResourceError, match=f"the cluster has no {lacking} to give"):
        plada.index(pictures, encoder="gradients", engine="ray", device=device)


def test_no_ray_cluster_is_said(monkeypatch: pytest.MonkeyPatch, pictures: Path) -> None:
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'plada[ray]'")
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
        MissingExtra, match=r"--engine ray needs ray, which is not installed. Run: pip install 'plada\[ray\]'"
    ):
        plada.index(pictures, encoder="gradients", engine="ray")
    with pytest.raises(UnknownName, match="unknown engine 'spark'"):
        plada.index(pictures, encoder="gradients", engine="spark")
