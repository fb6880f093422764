"""What failures say, and which of them mean that memory ran out."""

import pytest

from plada.common.failures import first_line, out_of_memory
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
        (RuntimeError("shapes differ"), False),
    ],
)
def test_memory_that_ran_out_is_recognised(err: Exception, full: bool) -> None:
    assert out_of_memory(err) is full


def test_a_machine_has_processors_and_memory() -> None:
    assert cores() >= 1
    assert (free_memory() or 1) > 0
