"""The training loop: AdamW, warm-up and cosine, optional averaged weights; one page, for teachers and students alike."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from plada.common.progress import Report, Tracker, silent
from plada.networks.checkpoint import Keeper, LoopState, stop_requests
from plada.networks.data import Images
from plada.networks.logs import Log, no_log
from plada.networks.network import Network, normalise, pick_device, to_device, to_floats
from plada.networks.ranks import ALONE, Ranks
from plada.networks.recipe import Recipe
from plada.networks.step import Step, begin, freeze_batch_norm
from plada.networks.watch import Watch
from plada.payload.soft import SoftLabels

if TYPE_CHECKING:
    import torch

_AGREE = 50  # steps after which several processes ask one another whether to write a checkpoint


def fit(
    network: Network,
    images: Images,
    *,
    recipe: Recipe,
    seed: int,
    device: str | None = None,
    stage: str = "train",
    report: Report = silent,
    keeper: Keeper | None = None,
    log: Log = no_log,
    ranks: Ranks = ALONE,
    enough: "Callable[[torch.nn.Module], bool] | None" = None,
    soft: SoftLabels | None = None,
) -> None:
    """Train `network.module` in place; it ends in eval mode.

    The images are recipe.supersample times the size that the network sees. The caller seeds the module's own initial
    weights; `seed` decides order and augmentation, so that on a CPU the same inputs give the same weights, however often
    the run was stopped and gone on with from the checkpoints of `keeper`. Of several `ranks` each takes its share of
    every batch. Loss and learning rate go to `log`. `enough` is shown what the network would be, after each epoch, in eval
    mode, and ends the training by answering True. With `soft` labels the loss is the paper's KL(target || student) (eq. 15) up to
    a constant; what is drawn of them is drawn anew for each batch.

    Raises:
        RequestError: the loss is no longer finite; the checkpoint is of another run. ResourceError: not even one image
        fits into memory. KeyboardInterrupt: asked to stop; with a keeper, after a checkpoint.
    """
    where = pick_device(device)
    size = min(recipe.batch_size, len(images))
    batches = len(images) // size
    state = begin(network, recipe, seed + (ranks.rank << 32), where, steps=recipe.epochs * batches, limit=size)
    tracker = Tracker(stage, recipe.epochs * batches * size, report)
    if keeper is not None and keeper.restore(state):
        tracker = Tracker(stage, (recipe.epochs * batches - state.step) * size, report)
        tracker.say(f"goes on after step {state.step} of {recipe.epochs * batches}")
    step = Step(network, state, recipe, where, ranks, tracker, soft)
    watch = Watch(state, keeper, log, images_a_step=size)
    with stop_requests(keeper is not None) as stop:
        while state.epoch < recipe.epochs:
            rows = ranks.agree(draw_order(state, len(images)))[: batches * size].view(batches, size).numpy()
            for pixels, labels in images.batches(rows[state.batch :, ranks.rank :: ranks.size]):
                watch.add(step(pixels, labels))
                state.batch, state.step = state.batch + 1, state.step + 1
                tracker.advance(size)
                if keeper is not None and (ranks.size == 1 or state.step % _AGREE == 0):
                    stopping, due = ranks.agree((stop.asked, keeper.due()))
                    if stopping or due:
                        watch.look(thoroughly=True)
                        keeper.save(state)
                    if stopping:
                        raise KeyboardInterrupt
            state.epoch, state.batch = state.epoch + 1, 0
            if enough is not None and _ends(state, enough, trained=network.trained):
                break
    watch.look(thoroughly=True)
    if state.averaged is not None:
        state.module.load_state_dict(state.averaged.module.state_dict())
    state.module.eval()


def _ends(state: LoopState, enough: "Callable[[torch.nn.Module], bool]", *, trained: bool) -> bool:
    """Whether what the network would be is enough."""
    shown = state.averaged.module if state.averaged is not None else state.module
    ends = enough(shown.eval())
    shown.train()
    if trained:
        freeze_batch_norm(shown)
    return ends


def draw_order(state: LoopState, images: int) -> "torch.Tensor":
    """The order of an epoch's images, int64 [images]; an epoch that was broken off gets the order it had.

    An incomplete last batch is left out (another one each epoch): batch norm cannot learn from one image.
    """
    import torch

    if not state.batch:
        state.epoch_start = state.generator.get_state()
        return torch.randperm(images, generator=state.generator)
    return torch.randperm(images, generator=torch.Generator().set_state(state.epoch_start))


def predict(
    network: Network, pixels: npt.NDArray[np.uint8], *, device: str | None = None, batch_size: int = 256
) -> npt.NDArray[np.float32]:
    """Logits float32 [n, classes] of pixels uint8 [n, size, size, 3]."""
    import torch

    where = pick_device(device)
    module = to_device(network.module.eval(), where)
    parts = []
    with torch.inference_mode():
        for start in range(0, len(pixels), batch_size):
            batch = normalise(network, to_floats(pixels[start : start + batch_size], where))
            parts.append(np.asarray(module(batch).float().cpu()))
    return np.concatenate(parts)
