"""The tasks of a build on the Ray cluster that Ray finds: $RAY_ADDRESS, one started on this machine, or its own.

Every node needs plada and must reach the images, and the weights, under the same path or URL. Rows come back to the process
that started the build, which is the only one that writes.
"""

import json
import logging
import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache
from itertools import islice

from plada.common.failures import first_line
from plada.common.packages import require
from plada.encoders.encoder import Encoder
from plada.encoders.spec import EncoderSpec
from plada.errors import PladaError, ResourceError
from plada.indexer.embed import Task, TaskResult, embed
from plada.indexer.workers import LIVES, Plan, Run, load_in_worker

_KNOCK_SECONDS = 10.0
_AHEAD = 2  # tasks for each that the cluster can do at once


@contextmanager
def ray_workers(spec: EncoderSpec, where: str, plan: Plan) -> Iterator[Run]:
    """A pool of Ray tasks; each takes one core, or one GPU where `where` is one. A task whose worker dies is done again.

    Raises:
        MissingExtra: ray is not installed. ResourceError: no cluster answers, or a task's workers keep dying.
    """
    require("ray", extra="ray", purpose="--engine ray")
    import ray
    from ray.exceptions import RayError, RayTaskError

    own = not ray.is_initialized()
    if own:
        try:
            _knock(os.environ.get("RAY_ADDRESS", ""))
            with _own_signals():
                ray.init(log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, OSError, RuntimeError, ValueError) as err:
            raise ResourceError(
                f"Ray: no cluster answers ({first_line(err)}). Start one with `ray start --head`, or unset RAY_ADDRESS"
            ) from err
    gpus = 0 if where == "cpu" else 1
    remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=LIVES)(_embed_on_node)
    resources = ray.cluster_resources()
    places = max(1, int(resources.get("GPU" if gpus else "CPU", 1)))
    arguments = json.dumps(asdict(spec), default=str), "cuda:0" if gpus else "cpu", plan.batch_size

    def run(tasks: Iterable[Task]) -> Iterator[TaskResult]:
        left = iter(tasks)
        waiting = deque(remote.remote(task, *arguments) for task in islice(left, _AHEAD * places))
        while waiting:
            try:
                result = ray.get(waiting.popleft())
            except RayTaskError as err:
                if isinstance(err.cause, PladaError):
                    raise err.cause from None
                raise
            except RayError as err:
                raise ResourceError(
                    f"Ray: a worker died {LIVES + 1} times on the same images ({first_line(err)}). Run the same command again "
                    "with a smaller --batch-size; what is finished is kept"
                ) from err
            waiting.extend(remote.remote(task, *arguments) for task in islice(left, 1))
            yield result

    try:
        yield run
    finally:
        if own:
            ray.shutdown()


def _embed_on_node(task: Task, spec: str, device: str, batch_size: int) -> TaskResult:
    return embed(task, _encoder(spec, device), batch_size)


@lru_cache(maxsize=1)
def _encoder(spec: str, device: str) -> Encoder:
    """The encoder of a spec in JSON, loaded once in each worker of Ray."""
    return load_in_worker(EncoderSpec(**json.loads(spec)), device, threads=1)


def _knock(address: str) -> None:
    """Raise OSError if nobody listens at HOST:PORT; Ray itself would go on trying for ten minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_KNOCK_SECONDS).close()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep what a polite kill does here: Ray would put its own in place."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
