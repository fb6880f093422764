"""The processes that train one model together: this one alone, or those that torchrun started."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from plada.errors import RequestError
from plada.networks.device import send

if TYPE_CHECKING:
    import torch
    from torch import nn

T = TypeVar("T")
_TIMEOUT = timedelta(hours=24)  # the others wait while the first process hashes a reference of millions


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """This process's rank among `size` processes. All of them must call each method except `first`."""

    rank: int = 0
    size: int = 1
    device: str | None = None

    @property
    def first(self) -> bool:
        """Whether this is the process that writes, reports and tests."""
        return self.rank == 0

    def broadcast(self, value: T) -> T:
        """The first process's value."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        shared = [value]
        dist.broadcast_object_list(shared, src=0)
        return shared[0]

    def gather(self, value: T) -> list[T]:
        """The values of all processes, in order of rank."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def on_this_machine(self) -> list[int]:
        """Ranks of the processes on this machine, rising; this one's is among them."""
        names = self.gather(f"{socket.gethostname()} {os.environ.get('GROUP_RANK', '')}")
        mine = names[self.rank] if self.size > 1 else names[0]
        return [rank for rank, name in enumerate(names) if name == mine]

    def total(self, count: int, where: "torch.device") -> "torch.Tensor | int":
        """The sum over all processes; a GPU is not waited for."""
        if self.size == 1:
            return count
        import torch
        import torch.distributed as dist

        total = send(torch.tensor(float(count)), where)
        dist.all_reduce(total)
        return total

    def data_parallel(self, module: "nn.Module", where: "torch.device") -> Any:
        """The module with gradients averaged over all processes; it starts with the first process's weights."""
        if self.size == 1:
            return module
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(module, device_ids=[where.index] if where.type == "cuda" else None)


SINGLE_PROCESS = ProcessGroup()


@contextmanager
def join_process_group(device: str | None) -> Iterator[ProcessGroup]:
    """The processes that torchrun started, one GPU each unless `device` says otherwise; without torchrun, this one
    alone. Raises RequestError: more processes than GPUs."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "RANK" not in os.environ:
        yield ProcessGroup(device=device)
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
    dist.init_process_group("nccl" if gpus else "gloo", timeout=_TIMEOUT)
    try:
        yield ProcessGroup(rank, size, where)
        dist.barrier()  # the first process holds the store that the others still use
    finally:
        dist.destroy_process_group()
