"""What the failures of libraries say, on one line, and which of them mean that memory ran out."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from plada.errors import PladaError


def first_line(err: BaseException) -> str:
    """The first line of an error's message that is not empty; the name of its class where there is none."""
    return next((line.strip() for line in str(err).splitlines() if line.strip()), type(err).__name__)


# What torch, cuBLAS, cuDNN and FAISS say where memory has run out. A handle of cuBLAS that cannot be made has no room, either.
_FULL = re.compile(
    "can't allocate memory"
    "|(CUDA|HIP|MPS|CUDA driver)[a-z ]*( error)?:? out of memory|cudaErrorMemoryAllocation"
    "|CUBLAS_STATUS_ALLOC_FAILED|CUBLAS_STATUS_NOT_INITIALIZED.*(cublasCreate|cublasLtCreate)"
    "|CUDNN_STATUS_ALLOC_FAILED|CUDNN_STATUS_INTERNAL_ERROR_(DEVICE|HOST)_ALLOCATION_FAILED"
    "|cudaMalloc.*out of memory|alloc fail.*cudaMalloc",
    re.DOTALL,
)
_DEVICE = re.compile(
    "CUDA|cuda(Error|Success|Malloc|Memcpy)|cuDNN|CUDNN_|CUBLAS_|cuBLAS|CUSOLVER|NCCL|NVML|NVIDIA|HIP error"
)


def out_of_memory(err: BaseException) -> bool:
    """Whether a device, or the machine, had no memory left. torch says so by a class of its own, which need not be imported
    to be recognised, or in words, and passes on what cuBLAS and cuDNN say."""
    return (
        isinstance(err, MemoryError) or type(err).__name__ == "OutOfMemoryError" or _FULL.search(str(err)) is not None
    )


def device_failed(err: BaseException) -> bool:
    """Whether a GPU or its libraries are to blame for an error, for whatever reason but memory."""
    return not out_of_memory(err) and (
        type(err).__name__ == "AcceleratorError"
        or (isinstance(err, RuntimeError) and _DEVICE.search(str(err)) is not None)
    )


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """Make a RuntimeError of a panic: a library in Rust ends in one on some damaged files, and Python gets it as something that
    is no Exception, so that nobody catches it."""
    try:
        yield
    except BaseException as err:
        if type(err).__name__ != "PanicException":
            raise
        raise RuntimeError(first_line(err)) from err


@contextmanager
def explained(kinds: tuple[type[Exception], ...], explain: Callable[[BaseException], PladaError]) -> Iterator[None]:
    """Raise what `explain` makes of an error of these kinds, or of a panic; errors of our own pass."""
    try:
        with panics_as_errors():
            yield
    except PladaError:
        raise
    except kinds as err:
        raise explain(err) from err
