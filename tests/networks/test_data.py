"""Streamed images: decoded once on a machine, however many processes train there."""

import io
import os
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import pytest
from PIL import Image

from plada.networks import data
from plada.networks.data import ImagesInMemory, StreamedImages, load_images
from plada.networks.process_group import SINGLE_PROCESS, ProcessGroup
from plada.sources.decode import View

T = TypeVar("T")
VIEW, IMAGES = View(size=8), 12
BAD = 5  # an image that cannot be read


@dataclass(frozen=True, slots=True)
class Meeting:
    """Where threads that play processes exchange values."""

    barrier: threading.Barrier
    values: dict[int, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ThreadGroup(ProcessGroup):
    """Processes that are threads, on machines that are told."""

    meeting: Meeting | None = None
    machines: tuple[int, ...] = ()

    def gather(self, value: T) -> list[T]:
        assert self.meeting is not None
        self.meeting.values[self.rank] = value
        self.meeting.barrier.wait(timeout=60)
        found = [self.meeting.values[rank] for rank in range(self.size)]
        self.meeting.barrier.wait(timeout=60)
        return found

    def on_this_machine(self) -> list[int]:
        return [rank for rank in range(self.size) if self.machines[rank] == self.machines[self.rank]]


def together(machines: tuple[int, ...], work: Callable[[ProcessGroup], T]) -> list[T]:
    """What each of some processes returns, on the machines of these numbers."""
    meeting = Meeting(threading.Barrier(len(machines)))
    groups = [ThreadGroup(rank, len(machines), None, meeting, machines) for rank in range(len(machines))]
    with ThreadPoolExecutor(len(machines)) as pool:
        return list(pool.map(work, groups))


def stored(position: int) -> bytes:
    if position == BAD:
        return b"no image"
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 10 * position, np.uint8)).save(file, "PNG")
    return file.getvalue()


def streamed(read: Callable[[int], bytes], cache: Path | None, group: ProcessGroup = SINGLE_PROCESS) -> StreamedImages:
    positions = np.arange(IMAGES)
    found = load_images(read, positions, positions, VIEW, where="here", memory=0, cache=cache, group=group)
    assert isinstance(found, StreamedImages)
    return found


@pytest.mark.parametrize("machines", [(0,), (0, 0), (0, 0, 0), (0, 1), (1, 0, 1)])
def test_each_image_is_decoded_once_on_a_machine(machines: tuple[int, ...], tmp_path: Path) -> None:
    reads: dict[int, Counter[int]] = {machine: Counter() for machine in machines}
    guard = threading.Lock()
    size = len(machines)

    def work(group: ProcessGroup) -> tuple[int, list[int]]:
        def read(position: int) -> bytes:
            with guard:
                reads[machines[group.rank]][position] += 1
            return stored(position)

        images = streamed(read, tmp_path, SINGLE_PROCESS if size == 1 else group)
        seen: list[int] = []
        for epoch in range(4):  # each time another share
            order = np.roll(np.arange(IMAGES), epoch)
            for pixels, labels in images.batches([order[group.rank :: size]]):
                assert (np.asarray(pixels) == 10 * labels[:, None, None, None]).all()
                seen += labels.tolist()
            if size > 1:
                group.gather(None)
        return images.readable(), seen

    found = together(machines, work)
    assert BAD not in {label for _, seen in found for label in seen}
    assert len(found[0][1]) >= 4 * (IMAGES // size) - 4
    for machine, counts in reads.items():
        mates = [rank for rank in range(size) if machines[rank] == machine]
        assert set(counts.values()) == {1}, "twice, once by each process, would be 2"
        assert [found[rank][0] for rank in mates] == [IMAGES - 1 if counts[BAD] else IMAGES] * len(mates)
    assert not list(tmp_path.iterdir()), "the file has no name"


def test_without_room_or_a_folder_images_are_decoded_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "plada.networks.data.shutil.disk_usage", lambda _: SimpleNamespace(free=IMAGES * (8 * 8 * 3 + 1) * 2 - 1)
    )
    for machines in ((0,), (0, 0)):
        assert all(together(machines, lambda group: streamed(stored, tmp_path / "new", group).cache is None))
    assert streamed(stored, tmp_path / "new").cache is None
    assert streamed(stored, None).cache is None


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    dead, alive = tmp_path / "pixels.0a.4194305.part", tmp_path / f"pixels.0b.{os.getpid()}.part"
    for path in (dead, alive):
        path.touch()
        os.utime(path, (0, 0))
    together((0, 0), lambda group: streamed(stored, tmp_path, group).readable())
    assert [path.name for path in tmp_path.iterdir()] == [alive.name]


def test_processes_of_a_machine_divide_its_memory(tmp_path: Path) -> None:
    whole = IMAGES * 8 * 8 * 3
    positions = np.arange(IMAGES)

    def kind(machines: tuple[int, ...], memory: int) -> set[type]:
        return set(
            together(
                machines,
                lambda group: type(
                    load_images(stored, positions, positions, VIEW, where="here", memory=memory, group=group)
                ),
            )
        )

    assert kind((0, 0), 2 * whole) == {ImagesInMemory}
    assert kind((0, 0), 2 * whole - 1) == {StreamedImages}
    assert kind((0, 1), whole) == {ImagesInMemory}
    assert SINGLE_PROCESS.on_this_machine() == [0]


def test_many_images_are_not_all_read_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    positions = np.arange(IMAGES)
    kinds = []
    for most in (IMAGES, IMAGES - 1):
        monkeypatch.setattr(data, "READ_AT_ONCE", most)
        kinds.append(type(load_images(stored, positions, positions, VIEW, where="here")))
    assert kinds == [ImagesInMemory, StreamedImages]
