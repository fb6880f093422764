"""What a GPU needs beside the code of a CPU, shown on devices that stand in for one."""

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from plada.networks import device, loop
from plada.networks.data import ImagesInMemory, ImagesOnDevice, on_device
from plada.networks.device import free_device_memory, gpu_of, in_parts, release_memory, send, use_own_stream
from plada.networks.loop import fit, predict
from plada.networks.network import to_floats
from plada.networks.recipe import Recipe
from tests.networks.test_loop import IMAGES, network, same, weights_of
from tests.trainer.test_trainer import shades

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


class Sent:
    """A tensor that writes down what is done with it."""

    def __init__(self, where: torch.device) -> None:
        self.device, self.calls = where, list[tuple[Any, ...]]()

    def pin_memory(self) -> "Sent":
        self.calls.append(("pin",))
        return self

    def to(self, where: torch.device, non_blocking: bool = False) -> "Sent":
        self.calls.append((where.type, non_blocking))
        return self


def test_a_gpu_gets_its_tensors_from_pinned_memory_and_nobody_waits() -> None:
    def calls(there: torch.device, where: torch.device) -> list[tuple[Any, ...]]:
        tensor: Any = Sent(there)
        send(tensor, where)
        found: list[tuple[Any, ...]] = tensor.calls
        return found

    assert calls(CPU, CUDA) == [("pin",), ("cuda", True)]
    assert calls(CPU, CPU) == [("cpu", False)]
    assert calls(CUDA, CUDA) == [("cuda", False)]


def test_labels_maps_and_colours_are_sent_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a step copies to the device goes by `send` alone: pixels, labels, maps of the augmentation, pairs of mixup, colours."""
    sent: list[tuple[torch.dtype, tuple[int, ...]]] = []

    def note(tensor: torch.Tensor, where: torch.device) -> torch.Tensor:
        sent.append((tensor.dtype, tuple(tensor.shape)))
        return tensor.to(where)

    for module in ("network", "step", "augment", "mixup"):
        monkeypatch.setattr(f"plada.networks.{module}.send", note)
    recipe = Recipe(epochs=1, batch_size=50, mixup=0.4)
    fit(network(), ImagesInMemory(*shades(IMAGES, 8)), recipe=recipe, seed=0)
    step = [
        (torch.int64, (50,)),
        (torch.uint8, (50, 8, 8, 3)),
        (torch.float32, (50, 2, 3)),
        (torch.int64, (50,)),
        (torch.float32, (3,)),
        (torch.float32, (3,)),
    ]
    assert sent == step * 2


def test_each_thread_has_a_stream_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    streams: dict[int, tuple[object, torch.device]] = {}
    monkeypatch.setattr(torch.cuda, "Stream", lambda where: (object(), where))
    monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: streams.update({threading.get_ident(): stream}))
    use_own_stream("cpu")
    assert not streams
    together = threading.Barrier(2)
    with ThreadPoolExecutor(2, initializer=use_own_stream, initargs=("cuda:1",)) as pool:
        list(pool.map(lambda _: together.wait(timeout=30), range(2)))
    assert len(set(map(id, streams.values()))) == 2
    assert {where for _, where in streams.values()} == {torch.device("cuda:1")}


def test_a_gpu_is_looked_for_only_where_there_can_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert gpu_of(None) == torch.device("cuda:0")
    assert gpu_of("cuda:3") == torch.device("cuda:3")
    assert gpu_of("cpu") is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_of(None) is None
    monkeypatch.setattr(device, "find_spec", lambda _: None)
    assert gpu_of(None) is None
    monkeypatch.setattr(device, "find_spec", lambda _: pytest.fail("asked"))
    monkeypatch.setattr(device, "sys", SimpleNamespace(platform="linux", modules={}))
    monkeypatch.setattr(device, "_DRIVERS", ("/no/such/driver",))
    assert gpu_of(None) is None


def test_a_cpu_has_no_memory_of_its_own_to_give_back() -> None:
    assert free_device_memory(CPU) is None
    release_memory("cpu")


def test_parts_are_halved_where_memory_ends_and_the_memory_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    released: list[str] = []
    monkeypatch.setattr(device, "release_memory", released.append)

    def work(some: slice) -> int:
        if some.stop - some.start > 3:
            raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")
        return int(some.stop - some.start)

    parts = list(in_parts(10, 8, work, "cuda:0"))
    assert [(some.start, some.stop, size) for some, size, _ in parts] == [
        (0, 2, 2), (2, 4, 2), (4, 6, 2), (6, 8, 2), (8, 10, 2),
    ]  # fmt: skip
    assert released == ["cuda:0"] * 2

    def broken(_: slice) -> None:
        raise RuntimeError("a mistake of ours")

    def full(_: slice) -> None:
        raise MemoryError

    with pytest.raises(RuntimeError, match="a mistake"):
        list(in_parts(4, 4, broken, "cpu"))
    with pytest.raises(MemoryError):
        list(in_parts(4, 4, full, "cpu"))
    assert list(in_parts(0, 4, full, "cpu")) == []


def test_the_memory_is_given_back_after_the_error_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its traceback holds the tensors of the failed try."""
    import gc
    import weakref

    class Tensor:
        pass

    held: list[weakref.ref[Tensor]] = []

    def work(some: slice) -> int:
        tensor = Tensor()
        held.append(weakref.ref(tensor))
        if some.stop - some.start > 1:
            raise MemoryError
        return 0

    alive: list[bool] = []
    gc.disable()
    try:
        monkeypatch.setattr(device, "release_memory", lambda _: alive.append(held[-1]() is not None))
        list(in_parts(2, 2, work, "cuda"))
    finally:
        gc.enable()
    assert alive == [False]


def test_predictions_are_made_in_smaller_batches_where_memory_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, _ = shades(20, 8)
    made = network(dropout=False)
    whole = predict(made, pixels)

    def greedy(network: Any, images: torch.Tensor) -> torch.Tensor:
        if len(images) > 6:
            raise torch.OutOfMemoryError("CUDA out of memory")
        found: torch.Tensor = real(network, images)
        return found

    from plada.networks.network import normalise as real

    monkeypatch.setattr(loop, "normalise", greedy)
    np.testing.assert_allclose(predict(made, pixels), whole, atol=1e-5)


def test_pixels_of_small_sets_stay_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    images = ImagesInMemory(*shades(IMAGES, 8))
    assert on_device(images, CPU, None) is images
    assert on_device(images, CPU, 4 * images.pixels.nbytes - 1) is images
    placed = on_device(images, CPU, 4 * images.pixels.nbytes)
    assert isinstance(placed, ImagesOnDevice)
    assert (len(placed), placed.readable()) == (IMAGES, IMAGES)
    rows = np.array([5, 2, 99])
    ((pixels, labels),) = placed.batches([rows])
    np.testing.assert_array_equal(np.asarray(pixels), images.pixels[rows])
    np.testing.assert_array_equal(labels, images.labels[rows])
    np.testing.assert_array_equal(to_floats(pixels, CPU).numpy(), to_floats(images.pixels[rows], CPU).numpy())


def test_a_run_on_pixels_that_stay_on_the_device_ends_in_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(epochs=2, batch_size=16, cutmix=0.5)
    plain, placed = network(), network()
    images = ImagesInMemory(*shades(IMAGES, 8))
    fit(plain, images, recipe=recipe, seed=3)
    used: list[type] = []

    def kept(images: Any, where: torch.device, free: int | None) -> Any:
        used.append(type(on_device(images, where, free)))
        return on_device(images, where, free)

    monkeypatch.setattr(loop, "free_device_memory", lambda where: 1 << 30)
    monkeypatch.setattr(loop, "on_device", kept)
    fit(placed, images, recipe=recipe, seed=3)
    assert used == [ImagesOnDevice]
    assert same(weights_of(plain), weights_of(placed))
