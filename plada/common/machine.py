"""What this machine has: processors and memory."""

import os
import sys
from pathlib import Path


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int | None:
    """Bytes of memory that are available; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)


def peak_memory() -> int | None:
    """The most bytes of memory that this process has held; None where the system does not say.

    Linux counts what the parent held when it started this process into `ru_maxrss`, so /proc is asked first.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        lines = []
    peak = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), None)
    return _peak("RUSAGE_SELF") if peak is None else peak


def peak_memory_of_children() -> int | None:
    """The most bytes that one ended child of this process has held; None where the system does not say."""
    return _peak("RUSAGE_CHILDREN")


def _peak(who: str) -> int | None:
    try:
        import resource  # Windows has none
    except ImportError:
        return None
    used = resource.getrusage(getattr(resource, who)).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024  # macOS counts bytes, others KiB
