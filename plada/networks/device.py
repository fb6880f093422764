"""What a GPU needs beside the code that a CPU runs: pinned copies, streams, and memory that is given back before another try."""

import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from plada.common.failures import out_of_memory

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
_DRIVERS = (
    "/dev/nvidiactl",
    "/dev/nvhost-ctrl",
    "/dev/dxg",
    "/dev/kfd",
)  # what Linux shows of a GPU that torch can use


def send(tensor: "torch.Tensor", where: "torch.device") -> "torch.Tensor":
    """A tensor on the device. To a GPU it goes from pinned memory: it is copied while the GPU works on something else, and this
    process does not wait."""
    if where.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(where)
    return tensor.pin_memory().to(where, non_blocking=True)


def cuda_device() -> "torch.device | None":
    """The first GPU that torch sees, if any. torch, which takes seconds to load, is not asked where Linux shows no GPU's driver."""
    if sys.platform == "linux" and "torch" not in sys.modules and not any(Path(name).exists() for name in _DRIVERS):
        return None
    if find_spec("torch") is None:
        return None
    import torch

    return torch.device("cuda:0") if torch.cuda.is_available() else None


def gpu_of(device: str | None) -> "torch.device | None":
    """The GPU that torch's name of a device stands for, None for the first one there is; None where it is no GPU."""
    if device is None:
        return cuda_device()
    if not device.startswith("cuda"):
        return None
    import torch

    return torch.device(device)


def use_own_stream(where: str) -> None:
    """Let this thread's work on a GPU run in a stream of its own, beside that of other threads: one batch is copied while another
    is computed."""
    if not where.startswith("cuda"):
        return
    import torch

    torch.cuda.set_stream(torch.cuda.Stream(torch.device(where)))  # type: ignore[no-untyped-call]


def free_device_memory(where: "torch.device") -> int | None:
    """Bytes that are free on a GPU; None for a device that has no memory of its own."""
    if where.type != "cuda":
        return None
    import torch

    return int(torch.cuda.mem_get_info(where)[0])


def release_memory(where: str) -> None:
    """Give back what torch keeps of a GPU's memory for later: in pieces it may be too small for the next try."""
    if not where.startswith("cuda"):
        return
    import torch

    torch.cuda.empty_cache()


def in_parts(rows: int, size: int, work: Callable[[slice], T], where: str) -> Iterator[tuple[slice, int, T]]:
    """(slice, rows at a time, `work` of the slice) for slices of `size` rows, or of fewer from where the device has no memory for
    as many.

    Raises:
        What `work` raises; a lack of memory only for a single row.
    """
    at = 0
    while at < rows:
        some = slice(at, min(at + size, rows))
        try:
            result = work(some)
        except (RuntimeError, MemoryError) as err:
            if not out_of_memory(err) or some.stop - at == 1:
                raise
            size = (some.stop - at) // 2
        else:
            at = some.stop
            yield some, size, result
            continue
        release_memory(where)  # now that the error is gone, which held what did fit
