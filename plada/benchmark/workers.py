"""All jobs of a benchmark, in this process or in several."""

import os
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, wait

from plada.benchmark.jobs import BenchJob, measure
from plada.common.packages import require
from plada.common.progress import Progress, Report, Tracker
from plada.errors import ResourceError

_SECONDS = 0.5  # between two checks of how far the workers are, and of whether the parent still lives


def measure_all(jobs: Sequence[BenchJob], workers: int, report: Report) -> int:
    """Measure what is missing of all jobs, in processes of one thread each; returns the number of new rows."""
    unfinished = [job for job in jobs if job.missing()]
    tracker = Tracker("bench", _missing(unfinished), report)
    workers = min(workers, len(unfinished))
    if workers > 1:
        return _measure_in_processes(unfinished, workers, tracker)

    seen: dict[str, int] = {}

    def advance(progress: Progress) -> None:
        if not progress.note and progress.done:
            tracker.advance(progress.done - seen.get(progress.stage, 0))
            seen[progress.stage] = progress.done

    return sum(measure(job, advance) for job in unfinished)


def _missing(jobs: Sequence[BenchJob]) -> int:
    return sum(len(job.missing()) for job in jobs)


def _measure_in_processes(jobs: Sequence[BenchJob], workers: int, tracker: Tracker) -> int:
    require("loky", extra="cpu", purpose="worker processes")
    from loky import ProcessPoolExecutor
    from loky.process_executor import BrokenProcessPool

    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    total = _missing(jobs)
    pool = ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(os.getpid(),), env=one_thread)
    try:
        futures = [pool.submit(measure, job) for job in jobs]
        done = 0
        while True:
            finished, unfinished = wait(futures, timeout=_SECONDS, return_when=FIRST_EXCEPTION)
            now = total - _missing(jobs)
            if now > done:
                tracker.advance(now - done)
                done = now
            for future in finished:
                future.result()
            if not unfinished:
                return done
    except BrokenProcessPool as err:
        raise ResourceError(
            "bench: a worker process was killed, mostly for want of memory. Run the same command again with fewer --workers; "
            "what is finished is kept"
        ) from err
    finally:
        pool.shutdown(wait=True, kill_workers=True)


def _start_worker(parent: int) -> None:
    """Leave Ctrl-C to the parent, and end when the parent has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
