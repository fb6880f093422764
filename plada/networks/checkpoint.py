"""Checkpoints: everything a step changes, in a file that is either absent or whole, beside the model it will become.

The file is torch's own (zip of tensors) and is read with weights_only: no code of it runs. It names the run it belongs
to, and another run does not go on from it.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plada.common.failures import first_line
from plada.common.files import whole_file
from plada.errors import DataError, RequestError
from plada.networks.ranks import ALONE, Ranks

if TYPE_CHECKING:
    import torch

SECONDS = 60.0  # between two checkpoints
_SHARE = 50  # writing takes at most this part of the time
_FORMAT = 1


@dataclass(slots=True)
class LoopState:
    """All that a step of the loop changes. `epoch_start` is the generator's state when the order of this epoch was drawn;
    `epoch`, `batch`: where the next step is; `limit`: images that fit into the device's memory at a time."""

    module: Any
    optimiser: Any
    schedule: Any
    averaged: Any
    generator: "torch.Generator"
    epoch_start: "torch.Tensor"
    limit: int
    epoch: int = 0
    batch: int = 0
    step: int = 0

    def sound(self) -> bool:
        """Whether every weight is finite."""
        import torch

        return bool(torch.stack([parameter.isfinite().all() for parameter in self.module.parameters()]).all())


class Keeper:
    """Writes and finds the checkpoint of one run at `path`. `run` is what the run is made of, plain values; `seconds` the time
    between two, more where writing would take a fiftieth of it, and 0 for one after every step."""

    def __init__(self, path: Path, run: Mapping[str, Any], *, seconds: float = SECONDS, ranks: Ranks = ALONE) -> None:
        self.path, self.run, self.seconds, self.ranks = path, run, seconds, ranks
        self.last: int | None = None  # step of the last checkpoint
        self._due = time.monotonic() + seconds

    def due(self) -> bool:
        """Whether it is time for one."""
        return time.monotonic() >= self._due

    def save(self, state: LoopState) -> None:
        """Write the state; every process must call this, the first writes."""
        import torch

        began = time.monotonic()
        generators = self.ranks.all_of(_generators(state))
        if self.ranks.first:
            parts = {name: getattr(state, name) for name in ("module", "optimiser", "schedule", "averaged")}
            stored = {
                "plada": _FORMAT,
                "run": json.loads(json.dumps(self.run)),
                "processes": self.ranks.size,
                "generators": generators,
                "parts": {name: part.state_dict() for name, part in parts.items() if part is not None},
                "place": {name: getattr(state, name) for name in ("epoch", "batch", "step", "limit")},
            }
            with whole_file(self.path) as part:
                torch.save(stored, part)
        self.last = state.step
        now = time.monotonic()
        self._due = now + (max(self.seconds, _SHARE * (now - began)) if self.seconds else 0.0)

    def restore(self, state: LoopState) -> bool:
        """Go on from the checkpoint if there is one.

        Raises:
            RequestError: it is of another run. DataError: it is damaged.
        """
        if not self.ranks.agree(self.path.exists()):
            return False
        stored = read_checkpoint(self.path)
        refuse_another_run(self.path, self.run, stored["run"])
        if stored["processes"] != self.ranks.size:
            raise RequestError(
                f"{self.path}: this run was begun by {stored['processes']} processes, now there are {self.ranks.size}. Start "
                "as many, or begin anew with --restart"
            )
        for name, values in stored["parts"].items():
            getattr(state, name).load_state_dict(values)
        for name, value in stored["place"].items():
            setattr(state, name, value)
        _set_generators(state, stored["generators"][self.ranks.rank])
        self.last = state.step
        return True

    def discard(self) -> None:
        """Remove the checkpoint and what killed writers left of others."""
        if not self.ranks.first:
            return
        self.path.unlink(missing_ok=True)
        for part in self.path.parent.glob(f"{self.path.name}.*.part"):
            if not _alive(part.name.removesuffix(".part").rpartition(".")[2]):
                part.unlink(missing_ok=True)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint holds.

    Raises:
        DataError: damaged, or not a checkpoint of plada's.
    """
    import torch

    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(stored, dict) or stored.get("plada") != _FORMAT:
            raise ValueError("not a checkpoint of this version")
    except Exception as err:  # torch and zipfile raise almost anything on a damaged file
        line = first_line(err)
        raise DataError(f"{path}: not a readable checkpoint ({line}). Begin anew with --restart") from err
    return stored


def refuse_another_run(path: Path, mine: Mapping[str, Any], there: Mapping[str, Any]) -> None:
    """Refuse an output that belongs to another run.

    Raises:
        RequestError: names what differs.
    """
    if found := differences(json.loads(json.dumps(mine)), there):
        raise RequestError(
            f"{path}: holds another run: {'; '.join(found[:4])}{' and more' if len(found) > 4 else ''}. Name another --out, "
            "or replace it with --restart"
        )


def differences(mine: Mapping[str, Any], there: Mapping[str, Any], above: str = "") -> list[str]:
    """In words, what is not the same in two nested mappings of plain values."""
    found = []
    for name in sorted(mine.keys() | there.keys()):
        asked, stored = mine.get(name), there.get(name)
        if isinstance(asked, Mapping) and isinstance(stored, Mapping):
            found += differences(asked, stored, f"{above}{name} ")
        elif asked != stored:
            found.append(f"{above}{name} is {stored} there, {asked} here")
    return found


class Stop:
    """Whether somebody asked the loop to stop."""

    asked = False


@contextmanager
def stop_requests(wanted: bool) -> Iterator[Stop]:
    """Ctrl-C and a polite kill are noted, for the loop to finish its step and keep it; a second one is not waited for."""
    stop = Stop()
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(*_: Any) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _generators(state: LoopState) -> dict[str, Any]:
    """States of every generator that the loop draws from: ours, torch's own (dropout), the GPU's."""
    import torch

    parameter = next(iter(state.module.parameters()))
    return {
        "own": state.generator.get_state(),
        "epoch_start": state.epoch_start,
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(parameter.device) if parameter.is_cuda else None,
    }


def _set_generators(state: LoopState, stored: Mapping[str, Any]) -> None:
    import torch

    state.generator.set_state(stored["own"])
    state.epoch_start = stored["epoch_start"]
    torch.set_rng_state(stored["torch"])
    parameter = next(iter(state.module.parameters()))
    if stored["cuda"] is not None and parameter.is_cuda:
        torch.cuda.set_rng_state(stored["cuda"], parameter.device)


def _alive(number: str) -> bool:
    """Whether there is a process of this number."""
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True
