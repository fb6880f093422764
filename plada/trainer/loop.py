"""The training loop: AdamW, warm-up and cosine, optional averaged weights; one page, for teachers and students alike."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from plada.errors import RequestError
from plada.networks import Network, normalise, pick_device, to_device, to_floats
from plada.progress import Report, Tracker, silent
from plada.trainer.augment import augment
from plada.trainer.data import Images
from plada.trainer.recipe import Recipe

if TYPE_CHECKING:
    import torch


def fit(
    network: Network,
    images: Images,
    *,
    recipe: Recipe,
    seed: int,
    device: str | None = None,
    stage: str = "train",
    report: Report = silent,
    enough: "Callable[[torch.nn.Module], bool] | None" = None,
) -> None:
    """Train `network.module` in place; it ends in eval mode.

    `enough` is shown what the network would be, after each epoch, in eval mode, and ends the training by answering True.

    The images are recipe.supersample times the size that the network sees. The caller seeds the module's own initial
    weights; `seed` decides order and augmentation, so that on a CPU the same inputs give the same weights.

    Raises:
        RequestError: the loss is no longer finite.
    """
    import torch
    from torch.nn import functional

    where, generator = pick_device(device), torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)  # dropout
    module = to_device(network.module, where)
    module.train()
    if network.trained:
        freeze_batch_norm(module)
    batch_size = min(recipe.batch_size, len(images))
    steps = recipe.epochs * (len(images) // batch_size)
    optimiser = torch.optim.AdamW(
        parameter_groups(network, recipe), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    warmup = max(1, round(recipe.warmup * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, warmup, steps))
    averaged = torch.optim.swa_utils.AveragedModel(module, multi_avg_fn=_ema(recipe.ema)) if recipe.ema else None
    tracker = Tracker(stage, steps * batch_size, report)
    for _ in range(recipe.epochs):
        order = torch.randperm(len(images), generator=generator)
        # An incomplete last batch is left out (another one each epoch): batch norm cannot learn from one image.
        rows = order[: len(order) // batch_size * batch_size].view(-1, batch_size).numpy()
        for pixels, labels in images.batches(rows):
            inputs = normalise(network, augment(to_floats(pixels, where), recipe, generator))
            with torch.autocast(where.type, torch.bfloat16, enabled=where.type == "cuda"):
                outputs = module(inputs)
            answers = torch.from_numpy(labels).to(where)
            loss = functional.cross_entropy(outputs.float(), answers, label_smoothing=recipe.label_smoothing)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            if averaged is not None:
                averaged.update_parameters(module)
            tracker.advance(len(labels))
        value = float(loss.detach())
        if not math.isfinite(value):
            raise RequestError(f"training: the loss is {value} after {tracker.done} images. Lower the learning rate")
        if enough is not None:
            shown: Any = averaged.module if averaged is not None else module
            stop = enough(shown.eval())
            shown.train()
            if network.trained:
                freeze_batch_norm(shown)
            if stop:
                break
    if averaged is not None:
        module.load_state_dict(averaged.module.state_dict())
    module.eval()


def parameter_groups(network: Network, recipe: Recipe) -> list[dict[str, Any]]:
    """The head at the recipe's rate; a body that was trained before at `body_rate` of it, one that was not, alike."""
    module: Any = network.module
    if not network.trained:
        return [{"params": list(module.parameters())}]
    head = {id(parameter) for parameter in module.get_classifier().parameters()}
    body = [parameter for parameter in module.parameters() if id(parameter) not in head]
    return [
        {"params": list(module.get_classifier().parameters())},
        {"params": body, "lr": recipe.learning_rate * recipe.body_rate},
    ]


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


def freeze_batch_norm(module: "torch.nn.Module") -> None:
    """Keep the statistics of a trained body: a few hundred images of another kind would only spoil them."""
    from torch.nn.modules.batchnorm import _BatchNorm

    for part in module.modules():
        if isinstance(part, _BatchNorm):
            part.eval()


def _rate(step: int, warmup: int, steps: int) -> float:
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _ema(decay: float) -> Any:
    import torch

    return torch.optim.swa_utils.get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
