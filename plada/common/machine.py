"""What this machine has: processors and memory."""

import math
import os
import sys
import time
from pathlib import Path

_SAMPLE = 0.2  # seconds for which others are watched


def cores() -> int:
    """Processors that this process may use, also within a container that has a share of the machine alone."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return here if quota is None else max(1, min(here, math.ceil(quota)))


def cpu_quota(root: Path = Path("/sys/fs/cgroup"), groups: Path = Path("/proc/self/cgroup")) -> float | None:
    """Processors' worth of time that the control group of this process may use; None where there is no limit."""
    quotas = []
    try:
        lines = [line.split(":", 2) for line in groups.read_text().splitlines()]
    except OSError:
        return None
    for number, controllers, path in (line for line in lines if len(line) == 3):
        if number != "0" and "cpu" not in controllers.split(","):
            continue
        base = root if number == "0" else root / controllers
        own = base / path.strip("/")
        for folder in (own, *(above for above in own.parents if above.is_relative_to(base))):
            quotas += _quota_of(folder)
    return min(quotas, default=None)


def _quota_of(folder: Path) -> list[float]:
    """The limit that a folder of a control group says, in either version's files; empty without one."""
    try:
        if (folder / "cpu.max").exists():
            used, period = (folder / "cpu.max").read_text().split()
        else:
            used, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return [int(used) / int(period)] if used != "max" and int(used) > 0 else []
    except (OSError, ValueError, ZeroDivisionError):
        return []


def free_cores(seconds: float = _SAMPLE) -> int:
    """Processors that this process may use and no other uses at the moment, at least 1. It takes `seconds` to see."""
    before, spent = _idle_time(), time.process_time()
    time.sleep(seconds)
    after, spent = _idle_time(), time.process_time() - spent
    if before is None or after is None or after[1] <= before[1]:
        return cores()
    # In processors: those that stood idle, and what this process itself used meanwhile.
    idle = (after[0] - before[0]) / (after[1] - before[1]) * after[2] + spent / seconds
    return max(1, min(cores(), round(idle)))


def _idle_time(path: Path = Path("/proc/stat")) -> tuple[int, int, int] | None:
    """(idle ticks, all ticks, processors) of the processors that this process may use; None where the system does not say."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    mine = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    try:
        rows = [line.split() for line in path.read_text().splitlines()]
        counts = [list(map(int, row[1:9])) for row in rows if row and row[0] in mine]
    except (OSError, ValueError):
        return None
    if not counts or any(len(row) < 5 for row in counts):
        return None
    return sum(row[3] + row[4] for row in counts), sum(map(sum, counts)), len(counts)


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
