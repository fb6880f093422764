"""The training loop of teachers and students: AdamW, warm-up and cosine schedule, optional averaged weights."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from plada.common.arrays import F32, U8
from plada.common.progress import Report, Tracker, silent
from plada.networks.checkpoint import Checkpointer, LoopState, stop_requests
from plada.networks.data import LabelledImages, on_device
from plada.networks.device import free_device_memory, in_parts
from plada.networks.logs import Log, no_log
from plada.networks.monitor import LossMonitor
from plada.networks.network import Network, normalise, pick_device, to_device, to_floats
from plada.networks.process_group import SINGLE_PROCESS, ProcessGroup
from plada.networks.recipe import Recipe
from plada.networks.step import SoftTargets, TrainingStep, freeze_batch_norm, initial_state

if TYPE_CHECKING:
    import torch

_EXCHANGE_STEPS = 50  # steps between two checks of several processes whether to stop or to write a checkpoint


def fit(
    network: Network,
    images: LabelledImages,
    *,
    recipe: Recipe,
    seed: int,
    device: str | None = None,
    stage: str = "train",
    report: Report = silent,
    checkpointer: Checkpointer | None = None,
    log: Log = no_log,
    group: ProcessGroup = SINGLE_PROCESS,
    stop_early: "Callable[[torch.nn.Module], bool] | None" = None,
    soft: SoftTargets | None = None,
) -> None:
    """Train `network.module` in place; it ends in eval mode.

    The images are recipe.supersample times the size that the network sees. The caller seeds the module's initial weights;
    `seed` decides order and augmentation. On a CPU the same inputs give the same weights, however often the run was stopped
    and resumed by `checkpointer`. Each process of `group` takes its share of every batch. Loss and learning rate go to `log`.
    `stop_early` gets the network after each epoch, in eval mode, and ends the training by returning True. With `soft` labels the
    loss is the paper's KL(target || student) (eq. 15) up to a constant; labels that are drawn are drawn anew for each batch.

    Raises:
        RequestError: the loss is not finite; the checkpoint is of another run. ResourceError: not even one image fits into
        memory. KeyboardInterrupt: asked to stop; with a checkpointer, after a checkpoint.
    """
    where = pick_device(device)
    size = min(recipe.batch_size, len(images))
    batches = len(images) // size
    state = initial_state(network, recipe, seed + (group.rank << 32), where, steps=recipe.epochs * batches, limit=size)
    tracker = Tracker(stage, recipe.epochs * batches * size, report)
    if checkpointer is not None and checkpointer.restore(state):
        tracker = Tracker(stage, (recipe.epochs * batches - state.step) * size, report)
        tracker.say(f"goes on after step {state.step} of {recipe.epochs * batches}")
    images = on_device(images, where, free_device_memory(where))
    step = TrainingStep(network, state, recipe, where, group, tracker, soft)
    monitor = LossMonitor(state, checkpointer, log, images_a_step=size)
    with stop_requests(checkpointer is not None) as stop:
        while state.epoch < recipe.epochs:
            rows = group.broadcast(draw_order(state, len(images)))[: batches * size].view(batches, size).numpy()
            for pixels, labels in images.batches(rows[state.batch :, group.rank :: group.size]):
                monitor.add(step(pixels, labels))
                state.batch, state.step = state.batch + 1, state.step + 1
                tracker.advance(size)
                if checkpointer is not None and (group.size == 1 or state.step % _EXCHANGE_STEPS == 0):
                    stopping, due = group.broadcast((stop.pending, checkpointer.due()))
                    if stopping or due:
                        monitor.check(weights=True)
                        checkpointer.save(state)
                    if stopping:
                        raise KeyboardInterrupt
            state.epoch, state.batch = state.epoch + 1, 0
            if stop_early is not None and _stops(state, stop_early, trained=network.trained):
                break
    monitor.check(weights=True, log=True)
    if state.averaged is not None:
        state.module.load_state_dict(state.averaged.module.state_dict())
    state.module.eval()


def _stops(state: LoopState, stop_early: "Callable[[torch.nn.Module], bool]", *, trained: bool) -> bool:
    """What `stop_early` says of the network as it would be returned now."""
    shown = state.averaged.module if state.averaged is not None else state.module
    stops = stop_early(shown.eval())
    shown.train()
    if trained:
        freeze_batch_norm(shown)
    return stops


def draw_order(state: LoopState, images: int) -> "torch.Tensor":
    """The order of an epoch's images, int64 [images]; an epoch that was interrupted gets the order it had.

    An incomplete last batch is left out (another one each epoch): batch norm cannot learn from one image.
    """
    import torch

    if not state.batch:
        state.epoch_start = state.generator.get_state()
        return torch.randperm(images, generator=state.generator)
    return torch.randperm(images, generator=torch.Generator().set_state(state.epoch_start))


def predict(network: Network, pixels: U8, *, device: str | None = None, batch_size: int = 256) -> F32:
    """Logits float32 [n, classes] of pixels uint8 [n, size, size, 3]; a batch is smaller where memory ends."""
    import torch

    where = pick_device(device)
    module = to_device(network.module.eval(), where)

    def logits(some: slice) -> F32:
        return np.asarray(module(normalise(network, to_floats(pixels[some], where))).float().cpu())

    with torch.inference_mode():
        parts = [part for _, _, part in in_parts(len(pixels), batch_size, logits, where.type)]
    return np.concatenate(parts)
