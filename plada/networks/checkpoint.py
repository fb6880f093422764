"""Checkpoints: everything that a training step changes, in one file beside the model.

The file is torch's own format (a zip of tensors) behind a checksum, and is read with weights_only, so none of its code runs. It
is written whole or not at all. It names the run that it belongs to; another run does not resume from it.
"""

import io
import json
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plada.common.checksums import seal, unseal
from plada.common.failures import first_line
from plada.common.files import remove_dead_parts, write_bytes
from plada.errors import DataError, RequestError
from plada.networks.process_group import SINGLE_PROCESS, ProcessGroup

if TYPE_CHECKING:
    import torch

SECONDS = 60.0  # between two checkpoints
_SHARE = 50  # writing takes at most this part of the time
_FORMAT = 1


@dataclass(slots=True)
class LoopState:
    """All that a step of the loop changes. `epoch_start` is the generator's state when the order of this epoch was drawn;
    `epoch` and `batch` say where the next step is; `limit` is how many images fit into the device's memory at a time; `losses` are
    those of the last steps that are not logged yet."""

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
    losses: list[float] = field(default_factory=list)

    def is_finite(self) -> bool:
        """Whether every weight is finite."""
        import torch

        return bool(torch.stack([parameter.isfinite().all() for parameter in self.module.parameters()]).all())


class Checkpointer:
    """Writes and reads the checkpoint of one run at `path`.

    `run` describes the run in plain values. `seconds` is the time between two checkpoints; it grows where writing would take
    more than a fiftieth of it. 0 writes one after every step. Bytes of weights depend on the number of torch's threads, so that
    a run goes on with as many as it began with, unless `threads` says how many.
    """

    def __init__(
        self,
        path: Path,
        run: Mapping[str, Any],
        *,
        seconds: float = SECONDS,
        group: ProcessGroup = SINGLE_PROCESS,
        threads: int | None = None,
    ) -> None:
        self.path, self.run, self.seconds, self.group, self.threads = path, run, seconds, group, threads
        self.last: int | None = None  # step of the last checkpoint
        self._due = time.monotonic() + seconds

    def due(self) -> bool:
        """Whether it is time for the next checkpoint."""
        return time.monotonic() >= self._due

    def save(self, state: LoopState) -> None:
        """Write the state. Every process must call this; the first one writes."""
        import torch

        began = time.monotonic()
        generators = self.group.gather(_generators(state))
        if self.group.first:
            parts = {name: getattr(state, name) for name in ("module", "optimiser", "schedule", "averaged")}
            stored = {
                "plada": _FORMAT,
                "run": json.loads(json.dumps(self.run)),
                "processes": self.group.size,
                "threads": torch.get_num_threads(),
                "generators": generators,
                "parts": {name: part.state_dict() for name, part in parts.items() if part is not None},
                "place": {name: getattr(state, name) for name in ("epoch", "batch", "step", "limit", "losses")},
            }
            data = io.BytesIO()
            torch.save(stored, data)
            write_bytes(self.path, seal(data.getvalue()))
        self.last = state.step
        now = time.monotonic()
        self._due = now + (max(self.seconds, _SHARE * (now - began)) if self.seconds else 0.0)

    def restore(self, state: LoopState) -> bool:
        """Load the checkpoint into `state`; False where there is none. Raises RequestError: it is of another run.
        DataError: it is damaged."""
        import torch

        if not self.group.broadcast(self.path.exists()):
            return False
        stored = read_checkpoint(self.path)
        check_same_run(self.path, self.run, stored["run"])
        if stored["processes"] != self.group.size:
            raise RequestError(
                f"{self.path}: this run was begun by {stored['processes']} processes, now there are {self.group.size}. Start "
                "as many, or begin anew with --restart"
            )
        for name, values in stored["parts"].items():
            getattr(state, name).load_state_dict(values)
        for name, value in stored["place"].items():
            setattr(state, name, value)
        _set_generators(state, stored["generators"][self.group.rank])
        if self.threads is None:
            torch.set_num_threads(stored.get("threads", torch.get_num_threads()))
        self.last = state.step
        return True

    def discard(self) -> None:
        """Remove the checkpoint and the unfinished files of killed writers."""
        if not self.group.first:
            return
        self.path.unlink(missing_ok=True)
        remove_dead_parts(self.path, idle=0.0)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint. Raises DataError: damaged, or not a checkpoint of plada's."""
    import torch

    try:
        data = io.BytesIO(unseal(path.read_bytes()))
        stored = torch.load(data, map_location="cpu", weights_only=True)
        if not isinstance(stored, dict) or stored.get("plada") != _FORMAT:
            raise ValueError("not a checkpoint of this version")
    except Exception as err:  # torch and zipfile raise almost anything on a damaged file
        line = first_line(err)
        raise DataError(f"{path}: not a readable checkpoint ({line}). Begin anew with --restart") from err
    return stored


def check_same_run(path: Path, mine: Mapping[str, Any], there: Mapping[str, Any]) -> None:
    """Refuse an output that belongs to another run than `mine`. Raises RequestError: names what differs."""
    if lines := differences(json.loads(json.dumps(mine)), there):
        raise RequestError(
            f"{path}: holds another run: {'; '.join(lines[:4])}{' and more' if len(lines) > 4 else ''}. Name another --out, "
            "or replace it with --restart"
        )


def differences(mine: Mapping[str, Any], there: Mapping[str, Any], above: str = "") -> list[str]:
    """The differences of two nested mappings of plain values, in words."""
    lines = []
    for name in sorted(mine.keys() | there.keys()):
        own, other = mine.get(name), there.get(name)
        if isinstance(own, Mapping) and isinstance(other, Mapping):
            lines += differences(own, other, f"{above}{name} ")
        elif own != other:
            lines.append(f"{above}{name} is {other} there, {own} here")
    return lines


class StopRequest:
    """Whether somebody asked the loop to stop."""

    pending = False


@contextmanager
def stop_requests(enabled: bool) -> Iterator[StopRequest]:
    """Note Ctrl-C and SIGTERM instead of stopping at once, so that the loop can finish its step; a second one stops at once."""
    stop = StopRequest()
    if not enabled or threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(*_: Any) -> None:
        if stop.pending:
            raise KeyboardInterrupt
        stop.pending = True

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _generators(state: LoopState) -> dict[str, Any]:
    """States of all random generators of the loop: its own, torch's (dropout), the GPU's."""
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
