"""Looks at the losses now and then: stops a run that has failed, and logs."""

import math
from typing import TYPE_CHECKING

from plada.errors import RequestError
from plada.networks.checkpoint import Keeper, LoopState
from plada.networks.logs import Log

if TYPE_CHECKING:
    import torch

_LOOK = 20  # steps between two looks; each makes a GPU wait


class Watch:
    """Keeps the losses of a few steps until somebody looks."""

    def __init__(self, state: LoopState, keeper: Keeper | None, log: Log, *, images_a_step: int) -> None:
        self.state, self.keeper, self.log, self.images = state, keeper, log, images_a_step
        self.losses: list[tuple[int, torch.Tensor]] = []

    def add(self, loss: "torch.Tensor") -> None:
        """Take note of the loss of the step that is not counted yet."""
        self.losses.append((self.state.step + 1, loss))
        if len(self.losses) >= _LOOK:
            self.look()

    def look(self, *, thoroughly: bool = False) -> None:
        """Raises RequestError where a loss, or if `thoroughly` a weight, is no longer finite."""
        for step, loss in ((step, float(loss)) for step, loss in self.losses):
            if not math.isfinite(loss):
                self._fail(f"the loss is {loss} after {step * self.images} images (step {step})")
        if self.losses:
            step, loss = self.losses[-1][0], math.fsum(float(loss) for _, loss in self.losses) / len(self.losses)
            rate = float(self.state.schedule.get_last_lr()[0])
            self.log(step, {"epoch": self.state.epoch, "loss": loss, "learning_rate": rate})
        self.losses.clear()
        if thoroughly and not self.state.sound():
            self._fail(f"a weight is no longer finite after {self.state.step} steps")

    def _fail(self, what: str) -> None:
        kept = "there is no checkpoint"
        if self.keeper is not None and self.keeper.last is not None:
            kept = f"the last good checkpoint is {self.keeper.path}, of step {self.keeper.last}"
        raise RequestError(f"training: {what}. Lower the learning rate; {kept}")
