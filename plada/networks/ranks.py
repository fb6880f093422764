"""The processes that train together: one, unless torchrun started several (one a GPU, or any number on a CPU)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from plada.errors import RequestError

if TYPE_CHECKING:
    import torch
    from torch import nn

T = TypeVar("T")
_PATIENCE = timedelta(hours=24)  # the others wait while the first hashes a reference of millions


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process's place among `size`. All methods but `first` are to be called by all of them alike."""

    rank: int = 0
    size: int = 1
    device: str | None = None

    @property
    def first(self) -> bool:
        """Whether this is the process that writes, reports and tests."""
        return self.rank == 0

    def agree(self, value: T) -> T:
        """The first process's value."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        held = [value]
        dist.broadcast_object_list(held, src=0)
        return held[0]

    def all_of(self, value: T) -> list[T]:
        """Everybody's value, in order of rank."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        held: list[Any] = [None] * self.size
        dist.all_gather_object(held, value)
        return held

    def total(self, count: int, where: "torch.device") -> "torch.Tensor | int":
        """The sum of everybody's count, without waiting for it where a GPU adds."""
        if self.size == 1:
            return count
        import torch
        import torch.distributed as dist

        summed = torch.tensor(float(count), device=where)
        dist.all_reduce(summed)
        return summed

    def together(self, module: "nn.Module", where: "torch.device") -> Any:
        """The module as one whose gradients are averaged over all processes; it begins with the first one's weights."""
        if self.size == 1:
            return module
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(module, device_ids=[where.index] if where.type == "cuda" else None)


ALONE = Ranks()


@contextmanager
def joined(device: str | None) -> Iterator[Ranks]:
    """The processes that torchrun started, each on a GPU of its own unless `device` says otherwise; else this one alone.

    Raises:
        RequestError: more processes than GPUs.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "RANK" not in os.environ:
        yield Ranks(device=device)
        return
    import torch
    import torch.distributed as dist

    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    gpus = torch.cuda.device_count() if torch.cuda.is_available() and device in (None, "cuda") else 0
    if gpus and local >= gpus:
        raise RequestError(
            f"torchrun: process {local} of this machine has no GPU of its own; there are {gpus}. Lower --nproc-per-node, "
            "or --device cpu"
        )
    where = f"cuda:{local}" if gpus else device or "cpu"
    if gpus:
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if gpus else "gloo", timeout=_PATIENCE)
    try:
        yield Ranks(rank, size, where)
    finally:
        dist.destroy_process_group()
