"""The loop: goes on bit for bit after whatever stopped it, says what went wrong, and shares its work."""

import csv
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import plada
from plada.common.checksums import seal
from plada.errors import DataError, RequestError, ResourceError
from plada.networks.checkpoint import Checkpointer, differences, read_checkpoint
from plada.networks.data import ImagesInMemory
from plada.networks.logs import open_log
from plada.networks.loop import fit, predict
from plada.networks.mixup import mix
from plada.networks.network import Network, NetworkSpec, build_network
from plada.networks.recipe import Recipe
from plada.payload.soft_labels import SoftLabels
from tests.trainer.test_trainer import shades

RECIPE = Recipe(epochs=4, learning_rate=3e-3, batch_size=16, ema=0.9, mixup=0.4, cutmix=0.4)
RUN = {"recipe": {"epochs": 4}, "seed": 0}
IMAGES = 100  # 6 batches an epoch, the last one left out


def network(dropout: bool = True) -> Network:
    torch.manual_seed(5)
    made = build_network(NetworkSpec(name="small_cnn", image_size=8), classes=2)
    if not dropout:
        made.module.dropout.p = 0.0  # type: ignore[union-attr]
    return made


def weights_of(made: Network) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in made.module.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


class Stopping(ImagesInMemory):
    """Images that ask the process to stop, as Ctrl-C does, while the step `stop` is done; 0: never."""

    stop = 0

    def batches(self, order: Any) -> Any:
        for batch in super().batches(order):
            Stopping.stop -= 1
            if not Stopping.stop:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch


def stopping(step: int) -> Stopping:
    Stopping.stop = step
    return Stopping(*shades(IMAGES, 8))


@pytest.mark.parametrize("stop", [1, 5, 6, 7, 23])
def test_stopped_and_gone_on_with_it_ends_in_the_same_weights(tmp_path: Path, stop: int) -> None:
    whole, images = network(), ImagesInMemory(*shades(IMAGES, 8))
    fit(whole, images, recipe=RECIPE, seed=3)
    path = tmp_path / "c"
    with pytest.raises(KeyboardInterrupt):
        fit(network(), stopping(stop), recipe=RECIPE, seed=3, checkpointer=Checkpointer(path, RUN))
    assert read_checkpoint(path)["place"]["step"] == stop
    torch.manual_seed(99)  # whatever happened to the process's own generator meanwhile
    rest, notes = network(), list[str]()
    fit(
        rest,
        images,
        recipe=RECIPE,
        seed=3,
        checkpointer=Checkpointer(path, RUN),
        report=lambda event: notes.append(event.note),
    )
    assert same(weights_of(whole), weights_of(rest))
    assert [note for note in notes if note] == [f"goes on after step {stop} of 24"]


def test_soft_labels_are_what_is_learned(tmp_path: Path) -> None:
    """Answers come out as sure as the labels are; draws of a Dirichlet go on with a checkpoint."""
    pixels, labels = shades(IMAGES, 8)
    plain = Recipe(epochs=30, learning_rate=3e-3, batch_size=16, ema=0.0, label_smoothing=0.0)
    shares = np.array([[204, 51], [77, 178]], np.int64)  # 0.8 and 0.2, 0.3 and 0.7
    made = network(dropout=False)
    fit(made, ImagesInMemory(pixels, labels), recipe=plain, seed=3, soft=SoftLabels(shares))
    logits = predict(made, pixels)
    answers = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for label in range(2):
        assert np.abs(answers[labels == label].mean(axis=0) - shares[label] / 255).max() < 0.08
    drawn = SoftLabels(shares, np.array([2.0, 5.0]))
    whole, path = network(), tmp_path / "c"
    fit(whole, ImagesInMemory(pixels, labels), recipe=RECIPE, seed=3, soft=drawn)
    with pytest.raises(KeyboardInterrupt):
        fit(network(), stopping(9), recipe=RECIPE, seed=3, soft=drawn, checkpointer=Checkpointer(path, RUN))
    rest, hard = network(), network()
    fit(rest, ImagesInMemory(pixels, labels), recipe=RECIPE, seed=3, soft=drawn, checkpointer=Checkpointer(path, RUN))
    fit(hard, ImagesInMemory(pixels, labels), recipe=RECIPE, seed=3)
    assert same(weights_of(whole), weights_of(rest))
    assert not same(weights_of(whole), weights_of(hard))


def test_a_checkpoint_of_every_part_matters(tmp_path: Path) -> None:
    """Each part of the state, spoiled, changes the end: none is kept for nothing."""
    images, path = ImagesInMemory(*shades(IMAGES, 8)), tmp_path / "c"
    whole = network()
    fit(whole, images, recipe=RECIPE, seed=3, checkpointer=Checkpointer(path, RUN, seconds=0))
    checkpointer = Checkpointer(tmp_path / "half", RUN, seconds=0)
    saved = checkpointer.save
    checkpointer.save = lambda state: saved(state) if state.step == 9 else None  # type: ignore[method-assign]
    fit(network(), images, recipe=RECIPE, seed=3, checkpointer=checkpointer)
    half = read_checkpoint(tmp_path / "half")

    def ends(change: Callable[[dict[str, Any]], Any]) -> bool:
        stored = read_checkpoint(tmp_path / "half")
        change(stored)
        data = io.BytesIO()
        torch.save(stored, data)
        (tmp_path / "spoiled").write_bytes(seal(data.getvalue()))
        made = network()
        fit(made, images, recipe=RECIPE, seed=3, checkpointer=Checkpointer(tmp_path / "spoiled", RUN))
        return same(weights_of(whole), weights_of(made))

    assert len(half["place"].pop("losses")) == 9, "of the steps that are not logged yet"
    assert half["place"] == {"epoch": 1, "batch": 3, "step": 9, "limit": 16}
    assert ends(lambda _: None)
    other = torch.Generator().manual_seed(77).get_state()
    spoils: dict[str, Callable[[dict[str, Any]], Any]] = {
        "order": lambda s: s["generators"][0].update(epoch_start=other),
        "augmentation": lambda s: s["generators"][0].update(own=other),
        "dropout": lambda s: s["generators"][0].update(torch=other),
        "optimiser": lambda s: s["parts"]["optimiser"]["state"][0]["exp_avg"].mul_(2),
        "schedule": lambda s: s["parts"]["schedule"].update(last_epoch=3),
        "averaged": lambda s: s["parts"]["averaged"]["module.head.bias"].add_(1),
        "module": lambda s: s["parts"]["module"]["head.bias"].add_(1),
        "place": lambda s: s["place"].update(batch=2),
    }
    assert [name for name, change in spoils.items() if ends(change)] == []


def test_killed_at_any_moment_it_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """A real process, a real SIGKILL, checkpoints after every step; then the same command until it is done."""
    code = """
import sys
from pathlib import Path
from plada.networks.checkpoint import Checkpointer
from plada.networks.data import ImagesInMemory
from plada.networks.loop import fit
from plada.trainer.model_file import save_model
from tests.networks.test_loop import RECIPE, RUN, IMAGES, network, shades
made, folder = network(), Path(sys.argv[1])
print("begins", flush=True)
recipe = RECIPE.changed({"epochs": 12})
fit(made, ImagesInMemory(*shades(IMAGES, 8)), recipe=recipe, seed=3, checkpointer=Checkpointer(folder / "c", RUN, seconds=0) if len(sys.argv) > 2 else None)
save_model(folder / "m", made.module.state_dict(), {"network": "small_cnn", "classes": [0, 1]})
"""

    root = Path(plada.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}

    def run(folder: Path, *more: str, kill_after: float | None = None) -> bool:
        """Whether it came to its end."""
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-c", code, str(folder), *more]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=root) as process:
            assert process.stdout is not None
            process.stdout.readline()
            try:
                process.wait(kill_after)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        return process.returncode == 0

    assert run(tmp_path / "whole")
    ended = [run(tmp_path / "killed", "checkpoints", kill_after=seconds) for seconds in (0.2, 0.1, 0.3, None)]
    assert not ended[0], "the machine is too fast for this test: give it more epochs"
    assert (tmp_path / "killed" / "m").read_bytes() == (tmp_path / "whole" / "m").read_bytes()


def test_what_is_left_of_killed_writers_is_removed(tmp_path: Path) -> None:
    checkpointer = Checkpointer(tmp_path / "c", RUN)
    dead, alive = tmp_path / "c.4194305.part", tmp_path / f"c.{os.getpid()}.part"
    for path in (checkpointer.path, dead, alive):
        path.touch()
    checkpointer.discard()
    assert [path.exists() for path in (checkpointer.path, dead, alive)] == [False, False, True]


def test_a_checkpoint_of_another_run_or_a_damaged_one(tmp_path: Path) -> None:
    images, path = ImagesInMemory(*shades(IMAGES, 8)), tmp_path / "c"
    fit(network(), images, recipe=RECIPE, seed=3, checkpointer=Checkpointer(path, RUN, seconds=0))
    other = {"recipe": {"epochs": 5}, "seed": 0, "student": "x"}
    with pytest.raises(
        RequestError, match=r"another run: recipe epochs is 4 there, 5 here; student is None there, x here"
    ):
        fit(network(), images, recipe=RECIPE, seed=3, checkpointer=Checkpointer(path, other))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"not a readable checkpoint .* --restart"):
        fit(network(), images, recipe=RECIPE, seed=3, checkpointer=Checkpointer(path, RUN))
    torch.save({"weights": torch.zeros(1)}, path)  # as a plada without checksums wrote it
    with pytest.raises(DataError, match="its checksum is wrong"):
        fit(network(), images, recipe=RECIPE, seed=3, checkpointer=Checkpointer(path, RUN))
    path.write_bytes(seal(path.read_bytes()))
    with pytest.raises(DataError, match="not a checkpoint of this version"):
        read_checkpoint(path)
    import pickle

    path.write_bytes(pickle.dumps(print))
    with pytest.raises(DataError, match="not a readable checkpoint"):
        read_checkpoint(path)
    assert differences({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 2}}) == []


class Full(torch.nn.Module):
    """A network that runs out of memory above so many images, as a GPU does."""

    def __init__(self, inner: torch.nn.Module, most: int, error: Callable[[], Exception]) -> None:
        super().__init__()
        self.inner, self.most, self.error = inner, most, error

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > self.most:
            raise self.error()
        made: torch.Tensor = self.inner(images)
        return made


ERRORS: list[Callable[[], Exception]] = [
    lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    lambda: MemoryError(),
]


@pytest.mark.parametrize("error", ERRORS)
def test_out_of_memory_halves_the_parts_and_leaves_the_maths(error: Callable[[], Exception]) -> None:
    from dataclasses import replace

    def made(most: int) -> tuple[Network, list[str]]:
        torch.manual_seed(0)
        plain = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 2))
        built, notes = replace(network(), module=Full(plain, most, error)), list[str]()
        recipe = RECIPE.changed({"epochs": 2})
        fit(built, ImagesInMemory(*shades(IMAGES, 8)), recipe=recipe, seed=1, report=lambda e: notes.append(e.note))
        return built, [note for note in notes if note]

    (whole, silence), (parts, notes) = made(64), made(5)
    assert silence == []
    assert [note.partition(" from here")[0] for note in notes] == [
        f"out of memory: batches are taken in parts of {part}" for part in (8, 4)
    ]
    for name, tensor in weights_of(whole).items():
        torch.testing.assert_close(tensor, weights_of(parts)[name], rtol=1e-4, atol=1e-6)
    with pytest.raises(ResourceError, match="out of memory with 1 images at a time"):
        made(0)


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    from dataclasses import replace

    broken = replace(network(), module=Full(network().module, 0, lambda: RuntimeError("a mistake of ours")))
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        fit(broken, ImagesInMemory(*shades(IMAGES, 8)), recipe=RECIPE, seed=1)


def test_a_run_that_fails_names_its_step_and_its_last_good_checkpoint(tmp_path: Path) -> None:
    recipe, images = RECIPE.changed({"epochs": 40, "ema": 0.0}), ImagesInMemory(*shades(IMAGES, 8))
    checkpointer = Checkpointer(tmp_path / "c", RUN, seconds=0)
    made = network()
    saved, calls = checkpointer.save, []

    def save(state: Any) -> None:
        saved(state)
        calls.append(state.step)
        if state.step == 10:
            next(iter(made.module.parameters())).data.fill_(float("nan"))

    checkpointer.save = save  # type: ignore[method-assign]
    with pytest.raises(
        RequestError,
        match=r"the loss is nan after 176 images \(step 11\)\. Lower the learning rate; the last good .*/c, of step 10",
    ):
        fit(made, images, recipe=recipe, seed=0, checkpointer=checkpointer)
    assert calls[-1] == read_checkpoint(tmp_path / "c")["place"]["step"] == 10
    assert all(torch.isfinite(t).all() for t in read_checkpoint(tmp_path / "c")["parts"]["module"].values())


def test_mixing() -> None:
    images, labels = torch.rand(8, 3, 10, 10), torch.arange(8)
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    unmixed, _, share = mix(images, labels, Recipe(), generator)
    assert share == 1
    assert torch.equal(unmixed, images)
    assert torch.equal(generator.get_state(), before)
    for _ in range(20):
        mixed, others, share = mix(images, labels, Recipe(mixup=1.0), generator)
        torch.testing.assert_close(mixed, share * images + (1 - share) * images[others])
        mixed, others, share = mix(images, labels, Recipe(cutmix=1.0), generator)
        own = (mixed == images).all(dim=1)
        patched = (mixed == images[others]).all(dim=1)
        assert bool((own | patched).all())
        moved = others != labels
        if moved.any():
            assert float(own[moved].float().mean()) == pytest.approx(share)
    kinds = {
        len(np.unique((mix(images, labels, Recipe(mixup=1, cutmix=1), generator)[0] == images).numpy()))
        for _ in range(30)
    }
    assert kinds == {1, 2}


def test_mixing_still_learns_and_changes_the_weights() -> None:
    plain, mixed = network(), network()
    images = ImagesInMemory(*shades(200, 8))
    fit(plain, images, recipe=Recipe(epochs=8, learning_rate=3e-3), seed=0)
    fit(mixed, images, recipe=Recipe(epochs=8, learning_rate=3e-3, mixup=0.2, cutmix=0.5), seed=0)
    assert not same(weights_of(plain), weights_of(mixed))
    from plada.networks.loop import predict

    pixels, labels = shades(100, 8, seed=4)
    assert (predict(mixed, pixels).argmax(1) == labels).mean() > 0.8


@pytest.mark.parametrize("stop", [3, 35, 40])
def test_a_table_of_the_loss_goes_on_where_the_run_does(stop: int, tmp_path: Path) -> None:
    images, log = ImagesInMemory(*shades(IMAGES, 8)), tmp_path / "log.csv"
    recipe = RECIPE.changed({"epochs": 10})
    with open_log(tmp_path / "whole.csv") as rows_of:
        fit(network(), images, recipe=recipe, seed=3, log=rows_of)
    with pytest.raises(KeyboardInterrupt), open_log(log) as rows_of:
        checkpointer = Checkpointer(tmp_path / "c", RUN)
        fit(network(), stopping(stop), recipe=recipe, seed=3, checkpointer=checkpointer, log=rows_of)
    with log.open("a") as file:
        file.write("60,9,9,9\n")  # written by a run that was killed after its checkpoint
    with open_log(log) as rows_of:
        fit(network(), images, recipe=recipe, seed=3, checkpointer=Checkpointer(tmp_path / "c", RUN), log=rows_of)
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [20, 40, 60]
    assert log.read_text() == (tmp_path / "whole.csv").read_text()
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])


def test_events_for_tensorboard(tmp_path: Path) -> None:
    import tfrecord
    from tensorboardX.proto.event_pb2 import Event

    with open_log(tmp_path / "events") as log:
        log(20, {"loss": 0.5, "learning_rate": 1e-3})
    (path,) = (tmp_path / "events").iterdir()
    first, *rest = (Event.FromString(bytes(record)) for record in tfrecord.tfrecord_iterator(str(path)))
    assert first.file_version == "brain.Event:2"
    values = [(event.step, value.tag, round(value.simple_value, 6)) for event in rest for value in event.summary.value]
    assert values == [(20, "loss", 0.5), (20, "learning_rate", 1e-3)]
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="no tensorboard here")
    seen = events.EventAccumulator(str(tmp_path / "events")).Reload()
    assert [(s.step, round(s.value, 6)) for s in seen.Scalars("loss")] == [(20, 0.5)]


WORKER = """
import json, os, sys
from pathlib import Path
import numpy as np
from plada.networks.checkpoint import Checkpointer
from plada.networks.data import ImagesInMemory, StreamedImages
from plada.networks.loop import fit
from plada.networks.process_group import join_process_group
from plada.networks.recipe import Recipe
from tests.networks.test_loop import IMAGES, network, shades
folder = Path(sys.argv[1])
with join_process_group("cpu") as group:
    made = network(dropout=False)
    if not group.first:  # other weights must not matter: the first process's count
        for parameter in made.module.parameters():
            parameter.data.add_(1.0)
    checkpointer = Checkpointer(folder / "c", {}, seconds=0, group=group)
    fit(made, ImagesInMemory(*shades(IMAGES, 8)), recipe=Recipe(epochs=10, batch_size=18, mirror=False), seed=0, device="cpu", group=group, checkpointer=checkpointer)
    digest = [float(p.double().sum()) for p in made.module.parameters()]
    (folder / f"{group.rank}.json").write_text(json.dumps([group.size, digest, checkpointer.last]))
"""


def torchrun(count: int, *command: str | Path) -> None:
    """Processes as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = Path(plada.__file__).parents[1]
    shared = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "WORLD_SIZE": str(count)}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    running = [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}, cwd=root, stdout=subprocess.PIPE, text=True,
        )
        for rank in range(count)
    ]  # fmt: skip
    deadline = time.monotonic() + 120
    try:
        outputs = [process.communicate(timeout=max(1.0, deadline - time.monotonic()))[0] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0] * count, outputs
    assert not any(outputs[1:]), "only the first process speaks"


def test_two_processes_train_one_model(tmp_path: Path) -> None:
    torchrun(2, "-c", WORKER, tmp_path)
    (size, one, kept), (_, other, _) = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert size == 2
    assert one == other
    assert kept == 50  # they agree on a checkpoint every fifty steps; ten epochs have fifty
    assert len(read_checkpoint(tmp_path / "c")["generators"]) == 2
    with pytest.raises(RequestError, match="begun by 2 processes, now there are 1"):
        fit(
            network(),
            ImagesInMemory(*shades(IMAGES, 8)),
            recipe=Recipe(epochs=10, batch_size=18),
            seed=0,
            checkpointer=Checkpointer(tmp_path / "c", {}),
        )


def test_several_processes_without_augmentation_give_the_weights_of_one(tmp_path: Path) -> None:
    """Gradients are those of the whole batch, also where a process has more images of it than the other, or none."""
    code = """
import sys, torch
from pathlib import Path
from dataclasses import replace
from plada.networks.data import ImagesInMemory
from plada.networks.loop import fit
from plada.networks.process_group import join_process_group
from tests.networks.test_loop import plain_case
with join_process_group("cpu") as group:
    made = plain_case(group)
    if group.first:
        torch.save(made.module.state_dict(), sys.argv[1])
"""
    torchrun(2, "-c", code, tmp_path / "two")
    from plada.networks.process_group import SINGLE_PROCESS

    alone = plain_case(SINGLE_PROCESS)
    for name, tensor in torch.load(tmp_path / "two", weights_only=True).items():
        torch.testing.assert_close(tensor, alone.module.state_dict()[name], rtol=1e-4, atol=1e-6)


def plain_case(group: Any) -> Network:
    """A network without batch norm, trained without augmentation on batches that lose images, in places all of a share."""
    from dataclasses import replace

    class Losing(ImagesInMemory):
        def batches(self, order: Any) -> Any:
            for rows in order:
                kept = rows[rows % 3 != 0] if rows[0] % 4 else rows[rows % 2 == 0]
                yield self.pixels[kept], self.labels[kept]

    torch.manual_seed(0)
    plain = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 2))
    made = replace(network(), module=plain)
    off = Recipe(epochs=1, batch_size=4, learning_rate=1e-2, mirror=False, rotate=0, scale=1, stretch=0, translate=0)
    pixels, labels = shades(200, 8)
    # One epoch: what later ones draw depends on the sizes of the shares.
    if group.size == 1:  # the union of what the two processes keep

        class Union(Losing):
            def batches(self, order: Any) -> Any:
                for rows in order:
                    shares = [rows[0::2], rows[1::2]]
                    parts = [next(iter(Losing.batches(self, [share]))) for share in shares]
                    yield tuple(np.concatenate(values) for values in zip(*parts, strict=True))

        fit(made, Union(pixels, labels), recipe=off, seed=0, device="cpu", group=group)
    else:
        fit(made, Losing(pixels, labels), recipe=off, seed=0, device="cpu", group=group)
    return made


def test_the_command_under_torchrun_writes_and_speaks_once(pictures: Path, tmp_path: Path) -> None:
    manifest = plada.open_images(pictures, home=tmp_path / "other").manifest
    positions = np.arange(12)
    plada.Payload(positions, positions % 2, ("a", "b"), 24, manifest.key_id, manifest.content_id).save(tmp_path / "x")
    options = ["--student", "small_cnn", "--device", "cpu", "--recipe", "epochs=2", "-o", str(tmp_path / "m")]
    torchrun(2, "-m", "plada", "train", tmp_path / "x", "--reference", pictures, *options)
    from plada.trainer.model_file import read_card

    assert read_card(tmp_path / "m")["run"]["images"] == 12
    assert [path.name for path in tmp_path.glob("m*")] == ["m"]
