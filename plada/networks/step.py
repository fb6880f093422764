"""One training step: the state it starts from, the gradients of a batch, and smaller parts where memory is short."""

import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from plada.common.arrays import F64, I64
from plada.common.failures import out_of_memory
from plada.common.progress import Tracker
from plada.errors import RequestError, ResourceError
from plada.networks.augment import augment
from plada.networks.checkpoint import LoopState
from plada.networks.data import Pixels
from plada.networks.device import release_memory, send
from plada.networks.mixup import mix
from plada.networks.network import Network, normalise, to_device, to_floats
from plada.networks.process_group import ProcessGroup
from plada.networks.recipe import Recipe
from plada.networks.trial import is_lonely, lonely

if TYPE_CHECKING:
    import torch


class SoftTargets(Protocol):
    """What labels stand for: shares of all classes. `precision` is None where these are not drawn."""

    @property
    def precision(self) -> F64 | None: ...

    def targets(self, labels: I64, seed: int) -> F64:
        """Shares float64 [n, classes] of labels int64 [n]; `seed` decides draws."""
        ...


def initial_state(
    network: Network, recipe: Recipe, seed: int, where: "torch.device", *, steps: int, limit: int
) -> LoopState:
    """Module, optimiser, schedule, averaged weights and generators before the first step."""
    import torch

    torch.manual_seed(seed)  # dropout
    module = to_device(network.module, where)
    module.train()
    if network.trained:
        freeze_batch_norm(module)
    optimiser = torch.optim.AdamW(
        parameter_groups(network, recipe), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    warmup = max(1, round(recipe.warmup * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, warmup, steps))
    averaged = torch.optim.swa_utils.AveragedModel(module, multi_avg_fn=_ema(recipe.ema)) if recipe.ema else None
    generator = torch.Generator().manual_seed(seed)
    return LoopState(module, optimiser, schedule, averaged, generator, generator.get_state(), limit)


class TrainingStep:
    """One optimiser step on a batch: as a whole or, where memory is short, in parts whose gradients add up."""

    def __init__(
        self,
        network: Network,
        state: LoopState,
        recipe: Recipe,
        where: "torch.device",
        group: ProcessGroup,
        tracker: Tracker,
        soft: SoftTargets | None = None,
    ) -> None:
        self.network, self.state, self.recipe, self.where = network, state, recipe, where
        self.group, self.tracker, self.soft = group, tracker, soft
        self.model = group.data_parallel(state.module, where)

    def __call__(self, pixels: Pixels, labels: I64) -> "torch.Tensor":
        """The loss, on the device. A batch of which no image could be read is a step without gradients."""
        import torch

        state = self.state
        while True:
            generators = state.generator.get_state(), torch.get_rng_state()
            try:
                loss = self._gradients(pixels, labels)
                break
            except (RuntimeError, MemoryError, ValueError) as err:
                if is_lonely(err):  # the others of its batch cannot be read, or are another process's
                    raise RequestError(lonely(self.network.name, len(labels))) from err
                if not out_of_memory(err):
                    raise
                self._halve(len(labels), err)
            state.generator.set_state(generators[0])
            torch.set_rng_state(generators[1])
            release_memory(self.where.type)
        state.optimiser.step()
        state.schedule.step()
        if state.averaged is not None:
            state.averaged.update_parameters(state.module)
        return loss

    def _gradients(self, pixels: Pixels, labels: I64) -> "torch.Tensor":
        import torch
        from torch.nn import functional

        count = self.group.total(len(labels), self.where)
        if not len(labels):  # other processes wait for gradients: those of a black image that does not count
            pixels, labels = np.zeros((1, *pixels.shape[1:]), np.uint8), np.zeros(1, np.int64)
            weight: Any = 0.0
        else:
            weight = self.group.size / count
        targets = send(self._targets(labels), self.where)
        augmented = augment(to_floats(pixels, self.where), self.recipe, self.state.generator)
        mixed, others, share = mix(augmented, targets, self.recipe, self.state.generator)
        inputs = normalise(self.network, mixed)
        self.state.optimiser.zero_grad(set_to_none=True)
        total: Any = 0.0
        for part in torch.arange(len(inputs)).chunk(math.ceil(len(inputs) / self.state.limit)):
            rows = slice(int(part[0]), int(part[-1]) + 1)
            with torch.autocast(self.where.type, torch.bfloat16, enabled=self.where.type == "cuda"):
                outputs = self.model(inputs[rows]).float()

            def loss_to(right: torch.Tensor, outputs: torch.Tensor = outputs, rows: slice = rows) -> torch.Tensor:
                return functional.cross_entropy(
                    outputs, right[rows], label_smoothing=self.recipe.label_smoothing, reduction="sum"
                )

            loss = loss_to(targets) if share == 1 else share * loss_to(targets) + (1 - share) * loss_to(others)
            loss = loss * weight
            loss.backward()
            total = total + loss.detach()
        return torch.as_tensor(total)

    def _targets(self, labels: I64) -> "torch.Tensor":
        """Labels int64 [n], or soft ones float32 [n, classes]; drawn ones come from the run's generator, which checkpoints keep."""
        import torch

        if self.soft is None:
            return torch.from_numpy(labels)
        seed = 0
        if self.soft.precision is not None:
            seed = int(torch.randint(1 << 62, (1,), generator=self.state.generator))
        return torch.from_numpy(self.soft.targets(labels, seed).astype(np.float32))

    def _halve(self, images: int, err: Exception) -> None:
        limit = min(self.state.limit, images)
        if limit <= 1 or self.group.size > 1:
            raise ResourceError(
                f"training: out of memory with {limit} images at a time ({str(err).partition('. ')[0]}). Lower the recipe's "
                "batch_size or image_size, or take a smaller student"
            ) from err
        self.state.limit = limit // 2
        self.tracker.say(
            f"out of memory: batches are taken in parts of {self.state.limit} from here on; their gradients add up to the "
            "same step"
        )


def parameter_groups(network: Network, recipe: Recipe) -> list[dict[str, Any]]:
    """The head at the recipe's learning rate; a trained body at `body_rate` of it, any other body at the same rate."""
    module: Any = network.module
    if not network.trained:
        return [{"params": list(module.parameters())}]
    head = {id(parameter) for parameter in module.get_classifier().parameters()}
    body = [parameter for parameter in module.parameters() if id(parameter) not in head]
    return [
        {"params": list(module.get_classifier().parameters())},
        {"params": body, "lr": recipe.learning_rate * recipe.body_rate},
    ]


def freeze_batch_norm(module: "torch.nn.Module") -> None:
    """Keep the batch statistics of a trained body: a few hundred images of another kind would spoil them."""
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
