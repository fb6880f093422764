"""Checks the losses every few steps: stops a run that has failed, and logs."""

import math
from typing import TYPE_CHECKING

from plada.errors import RequestError
from plada.networks.checkpoint import Checkpointer, LoopState
from plada.networks.logs import Log

if TYPE_CHECKING:
    import torch

_STEPS = 20  # between two checks; each waits for the GPU


class LossMonitor:
    """Collects the losses of a few steps, then checks and logs them together."""

    def __init__(self, state: LoopState, checkpointer: Checkpointer | None, log: Log, *, images_a_step: int) -> None:
        self.state, self.checkpointer, self.log, self.images = state, checkpointer, log, images_a_step
        # A resumed run goes on with what was waiting: its log is that of a run that was never stopped.
        first = state.step - len(state.losses) + 1
        self.losses: list[tuple[int, torch.Tensor | float]] = list(enumerate(state.losses, first))

    def add(self, loss: "torch.Tensor") -> None:
        """Take the loss of the step that is not counted yet."""
        self.losses.append((self.state.step + 1, loss))
        if len(self.losses) >= _STEPS:
            self.check(log=True)

    def check(self, *, weights: bool = False, log: bool = False) -> None:
        """Check the losses that are waiting; with `weights`, check the weights too; with `log`, log their mean. Raises
        RequestError: a loss or a weight is not finite."""
        values = [(step, float(loss)) for step, loss in self.losses]
        for step, loss in values:
            if not math.isfinite(loss):
                self._fail(f"the loss is {loss} after {step * self.images} images (step {step})")
        if values and log:
            mean = math.fsum(loss for _, loss in values) / len(values)
            rate = float(self.state.schedule.get_last_lr()[0])
            self.log(values[-1][0], {"epoch": self.state.epoch, "loss": mean, "learning_rate": rate})
            values = []
        self.losses, self.state.losses = list(values), [loss for _, loss in values]
        if weights and not self.state.is_finite():
            self._fail(f"a weight is no longer finite after {self.state.step} steps")

    def _fail(self, what: str) -> None:
        kept = "there is no checkpoint"
        if self.checkpointer is not None and self.checkpointer.last is not None:
            kept = f"the last good checkpoint is {self.checkpointer.path}, of step {self.checkpointer.last}"
        raise RequestError(f"training: {what}. Lower the learning rate; {kept}")
