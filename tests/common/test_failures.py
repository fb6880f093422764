"""What failures say, and which of them mean that memory ran out."""

import pytest

from plada.common.failures import device_failed, first_line, out_of_memory
from plada.common.machine import cores, free_memory


class OutOfMemoryError(RuntimeError):
    """torch's class has this name."""


@pytest.mark.parametrize(
    ("err", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("\n  two"), "two"),
        (ValueError(), "ValueError"),
        (KeyError("name"), "'name'"),
    ],
)
def test_the_first_line_says_something(err: Exception, line: str) -> None:
    assert first_line(err) == line


@pytest.mark.parametrize(
    ("err", "full"),
    [
        (MemoryError(), True),
        (OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"), True),
        (RuntimeError("CUDA driver error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasSgemm(handle, opa)`"), False),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), True),
        (
            RuntimeError("Error: 'err == cudaSuccess' failed: Failed to cudaMalloc 8 bytes (error 2 out of memory)"),
            True,
        ),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"), True),
        (RuntimeError("CUDA error: no kernel image is available for execution on the device"), False),
        (RuntimeError("shapes differ"), False),
    ],
)
def test_memory_that_ran_out_is_recognised(err: Exception, full: bool) -> None:
    assert out_of_memory(err) is full


@pytest.mark.parametrize(
    ("err", "device"),
    [
        (RuntimeError("CUDA error: no kernel image is available for execution on the device"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"), True),
        (RuntimeError("NCCL error in: ProcessGroupNCCL.cpp:1"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x512 and 1024x10)"), False),
        (ValueError("CUDA"), False),
    ],
)
def test_a_device_that_fails_is_told_from_other_errors(err: Exception, device: bool) -> None:
    assert device_failed(err) is device


def test_a_machine_has_processors_and_memory() -> None:
    assert cores() >= 1
    assert (free_memory() or 1) > 0
