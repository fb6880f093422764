"""On a GPU: the same rows, weights, neighbours and heads as on a CPU, and no traceback where its memory ends."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import plada
from plada.common.failures import out_of_memory
from plada.encoders.encoder import Encoder, load_encoder
from plada.encoders.spec import EncoderSpec
from plada.indexer.embed import Task, TaskResult
from plada.indexer.feeders import OwnFeeder
from plada.indexer.workers import Plan, WorkerPool, gpu_workers, this_process
from plada.networks import linear_head, loop
from plada.networks.checkpoint import Checkpointer
from plada.networks.data import ImagesInMemory, ImagesOnDevice, on_device
from plada.networks.device import free_device_memory, in_parts, release_memory
from plada.networks.linear_head import fit_head
from plada.networks.loop import fit, predict
from plada.networks.recipe import Recipe
from plada.retrieval.coarse import FaissPass
from plada.retrieval.device_search import KeptVectors
from plada.retrieval.knn import exact_search
from plada.sources.collection import part_of
from plada.sources.registry import open_source
from tests.gpu.conftest import NO_GPU, device_or_skip
from tests.networks.test_linear_head import drawn
from tests.networks.test_loop import IMAGES, network, stopping, weights_of
from tests.retrieval.test_exact import blocks, hard_cases, truth
from tests.trainer.test_trainer import shades

gpu = pytest.mark.gpu
ENCODER = EncoderSpec(name="timm:test_resnet.random", precision="fp32")
PLAN = Plan(batch_size=16, chunk=32, workers=2, threads=1)


def test_without_a_gpu_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PLADA_TEST_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(pytest.skip.Exception, match="needs a GPU that torch sees"):
        device_or_skip()
    assert "PLADA_TEST_DEVICE" in NO_GPU


def rows_of(pool: WorkerPool) -> list[TaskResult]:
    images = open_source("glyphs:count=128", Path("home"))
    with pool as run:
        return list(run(Task(at, part_of(images, at, at + PLAN.chunk)) for at in range(0, 128, PLAN.chunk)))


def assert_alike(one: list[TaskResult], other: list[TaskResult]) -> None:
    """Embeddings differ in rounding alone."""
    for a, b in zip(one, other, strict=True):
        assert a.rows.start == b.rows.start
        assert np.array_equal(a.rows.hashes, b.rows.hashes)
        assert (np.einsum("nd,nd->n", a.rows.vectors.astype(float), b.rows.vectors.astype(float)) > 0.999).all()


@pytest.fixture(scope="module")
def on_cpu() -> list[TaskResult]:
    device_or_skip()
    return rows_of(this_process(load_encoder(ENCODER, device="cpu"), PLAN))


@gpu
@pytest.mark.parametrize("gpus", [1, 2], ids=["this process feeds it", "a process for each of two"])
def test_an_index_has_the_rows_of_the_cpu(gpus: int, device: str, on_cpu: list[TaskResult]) -> None:
    pool = gpu_workers(load_encoder(ENCODER, device=device), PLAN, spec=ENCODER, devices=[device] * gpus)
    assert_alike(rows_of(pool), on_cpu)


@gpu
def test_an_index_end_to_end(device: str, home: Path) -> None:
    made = plada.index("glyphs:count=200", name="g", encoder=ENCODER, device=device, workers=2, batch_size=32)
    assert made.images == 200
    assert plada.open_index("g").search("position:17", k=1)[0][0].position == 17


def limited(device: str, share: float) -> Callable[[], None]:
    """Leave torch that share of what it has used at most; returns what takes the limit away."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(share * torch.cuda.max_memory_allocated(device) / total, device)
    return lambda: torch.cuda.set_per_process_memory_fraction(1.0, device)


@gpu
def test_memory_that_ends_is_recognised_and_batches_are_halved(cuda: str) -> None:
    with pytest.raises(RuntimeError) as failed:
        torch.empty(1 << 50, dtype=torch.uint8, device=cuda)
    assert out_of_memory(failed.value)
    encoder = load_encoder(EncoderSpec(name="timm:test_resnet.random"), device=cuda)
    pixels = np.random.default_rng(0).integers(0, 255, (512, encoder.view.size, encoder.view.size, 3), np.uint8)
    torch.cuda.reset_peak_memory_stats(cuda)
    whole = encoder.encode(pixels)
    unlimited = limited(cuda, 0.6)
    try:
        parts = list(in_parts(len(pixels), len(pixels), lambda some: encoder.encode(pixels[some]), cuda))
    finally:
        unlimited()
    assert parts[-1][1] < 512
    assert ((np.concatenate([part for _, _, part in parts]) * whole).sum(axis=1) > 0.999).all()


@gpu
def test_memory_that_ends_in_training_is_parted(cuda: str) -> None:
    images, recipe = ImagesInMemory(*shades(512, 64)), Recipe(epochs=1, batch_size=256)
    notes: list[str] = []
    torch.cuda.reset_peak_memory_stats(cuda)
    fit(network(), images, recipe=recipe, seed=0, device=cuda)
    unlimited = limited(cuda, 0.7)
    try:
        fit(network(), images, recipe=recipe, seed=0, device=cuda, report=lambda event: notes.append(event.note))
    finally:
        unlimited()
    assert any("batches are taken in parts of" in note for note in notes)


@gpu
def test_two_lanes_give_what_one_gives(device: str, on_cpu: list[TaskResult], tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from plada.indexer.embed import prepare
    from plada.indexer.feeders import LANES, SlotJob
    from plada.networks.device import use_own_stream

    encoder: Encoder = load_encoder(ENCODER, device=device)
    images = open_source("glyphs:count=128", Path("home"))

    def job(number: int) -> SlotJob:
        size, path = encoder.view.size, tmp_path / str(number)
        pixels = np.memmap(path, np.uint8, "w+", shape=(PLAN.chunk, size, size, 3))
        task = Task(32 * number, part_of(images, 32 * number, 32 * number + 32))
        prepared = prepare(task, encoder.view, encoder.config.dimension, pixels)
        return SlotJob(prepared.result, prepared.places, str(path), PLAN.chunk, size)

    feeder = OwnFeeder(encoder, 16)
    with ThreadPoolExecutor(LANES, initializer=use_own_stream, initargs=(device,)) as lanes:
        assert_alike(list(lanes.map(feeder.encode, map(job, range(4)))), on_cpu)


@gpu
def test_training_learns_and_pixels_stay_there(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: list[type] = []

    def noted(*arguments: Any) -> Any:
        placed = on_device(*arguments)
        kinds.append(type(placed))
        return placed

    monkeypatch.setattr(loop, "on_device", noted)
    made = network()
    fit(made, ImagesInMemory(*shades(200, 8)), recipe=Recipe(epochs=8, learning_rate=3e-3), seed=0, device=device)
    assert kinds == [ImagesOnDevice if device.startswith("cuda") else ImagesInMemory]
    pixels, labels = shades(100, 8, seed=4)
    assert (predict(made, pixels, device=device).argmax(1) == labels).mean() > 0.8


@gpu
def test_a_stopped_run_goes_on_there(device: str, tmp_path: Path) -> None:
    recipe, path = Recipe(epochs=4, learning_rate=3e-3, batch_size=16, ema=0.9), tmp_path / "c"
    whole, rest = network(), network()
    fit(whole, ImagesInMemory(*shades(IMAGES, 8)), recipe=recipe, seed=3, device=device)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "on_device", lambda images, *_: images)  # else nothing would ask for the stop
        fit(network(), stopping(7), recipe=recipe, seed=3, device=device, checkpointer=Checkpointer(path, {}))
    fit(
        rest,
        ImagesInMemory(*shades(IMAGES, 8)),
        recipe=recipe,
        seed=3,
        device=device,
        checkpointer=Checkpointer(path, {}),
    )
    for name, tensor in weights_of(whole).items():
        torch.testing.assert_close(tensor, weights_of(rest)[name], rtol=1e-2, atol=1e-3)


@gpu
@pytest.mark.parametrize("case", list(hard_cases()), ids=lambda case: case[0])
def test_search_is_exact(case: tuple[str, np.ndarray, np.ndarray, int], device: str) -> None:
    _, vectors, queries, k = case
    kept = KeptVectors(blocks(vectors, 700), len(vectors), vectors.shape[1], torch.device(device))
    scores, positions = kept.search(queries, k)
    right, order = truth(vectors, queries, k)
    assert scores.tobytes() == right.tobytes()
    np.testing.assert_array_equal(positions, order)


@gpu
def test_faiss_on_the_gpu_is_exact(cuda: str) -> None:
    faiss = pytest.importorskip("faiss")
    if "GPU" not in faiss.get_compile_options() or not faiss.get_num_gpus():
        pytest.skip("this FAISS sees no GPU; pip install 'pladata[gpu]'")
    for _, vectors, queries, k in hard_cases():
        found = exact_search(blocks(vectors, 1000), queries, k, coarse=FaissPass(queries, gpu=True))
        right, order = truth(vectors, queries, k)
        assert found[0].tobytes() == right.tobytes()
        np.testing.assert_array_equal(found[1], order)


@gpu
def test_a_linear_fit_is_that_of_the_cpu_and_repeats(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_head, "LARGE", 0)
    monkeypatch.setattr(linear_head, "gpu_of", lambda name: None if name == "cpu" else torch.device(device))
    vectors, labels, mean = drawn(6000, 20, 64)
    here = fit_head(vectors, labels, classes=20, mean=mean, penalty=1e-3)
    there, again = (fit_head(vectors, labels, classes=20, mean=mean, penalty=1e-3, device=device) for _ in range(2))
    assert (there.logits(vectors).argmax(1) == here.logits(vectors).argmax(1)).mean() > 0.998
    assert there.weight.tobytes() + there.bias.tobytes() == again.weight.tobytes() + again.bias.tobytes()


@gpu
def test_memory_is_told_and_given_back(cuda: str) -> None:
    free = free_device_memory(torch.device(cuda))
    assert free is not None
    block = torch.empty(1 << 28, dtype=torch.uint8, device=cuda)
    del block
    release_memory(cuda)
    after = free_device_memory(torch.device(cuda))
    assert after is not None
    assert after >= free - (64 << 20)


@gpu
def test_select_and_train_there(device: str, glyph_home: Path, few_digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "d.plada"
    plada.select("glyphs", target=few_digits, budget=400, rule="balanced", out=out, home=glyph_home, device=device)
    made = plada.train(
        out, reference="glyphs:count=1500", student="small_cnn", recipe={"epochs": 2}, device=device, home=glyph_home
    )
    assert made.images > 100


def test_every_test_of_a_gpu_is_marked() -> None:
    """`pytest -m gpu` must find them: whatever takes a device."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if line.startswith("def test_") and ("device: str" in line or "cuda: str" in line):
            assert any("@gpu" in above for above in lines[max(0, number - 3) : number]), line
