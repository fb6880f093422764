"""Work on the Ray cluster that Ray finds: $RAY_ADDRESS, one started on this machine, or its own.

Every node needs plada, and must reach files under the same path or URL. What a node raises on purpose arrives as it is; a task
whose worker dies is done again.
"""

import logging
import os
import signal
import socket
import threading
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from plada.common.failures import first_line
from plada.common.packages import require
from plada.errors import PladaError, RequestError, ResourceError, UnknownName

LOCAL, RAY = "local", "ray"
ENGINES = (LOCAL, RAY)
LIVES = 5  # workers that may die on one task before the work is given up
_KNOCK_SECONDS = 10.0


def check_engine(engine: str) -> None:
    """Raises UnknownName: no engine of that name."""
    if engine not in ENGINES:
        raise UnknownName("engine", engine, ENGINES)


@contextmanager
def ray_cluster(purpose: str) -> Iterator[Any]:
    """The module `ray`, connected to a cluster; one that was started here is stopped behind it.

    Raises:
        MissingExtra: ray is not installed. ResourceError: no cluster answers.
    """
    require("ray", extra="ray", purpose=purpose)
    import ray

    own = not ray.is_initialized()
    if own:
        try:
            _knock(os.environ.get("RAY_ADDRESS", ""))
            with _own_signals(), warnings.catch_warnings():
                # Ray starts other programs by a fork, in which nothing of Lance's is touched.
                warnings.filterwarnings("ignore", "lance is not fork-safe")
                ray.init(log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, OSError, RuntimeError, ValueError) as err:
            raise ResourceError(
                f"Ray: no cluster answers ({first_line(err)}). Start one with `ray start --head`, or unset RAY_ADDRESS"
            ) from err
    try:
        yield ray
    finally:
        if own:
            ray.shutdown()


def places(resource: str) -> int:
    """How many tasks can use one CPU, or one GPU, of the cluster at once.

    Raises:
        ResourceError: none, so that every task would be waited for in vain.
    """
    import ray

    there = int(ray.cluster_resources().get(resource, 0))
    if there < 1:
        raise ResourceError(
            f"Ray: the cluster has no {resource} to give. Start its nodes with --num-{resource.lower()}s, or "
            + ("leave out --device" if resource == "GPU" else "leave out --engine ray")
        )
    return there


def in_order(references: Iterable[Any], ahead: int, remedy: str) -> Iterator[Any]:
    """The results of Ray's `references` in their order. They are taken from the iterator, which begins the work, `ahead` at a time.

    Raises:
        PladaError: what a node raised on purpose. RequestError: a node lacks plada, or something that it needs.
        ResourceError: workers keep dying; `remedy` says what to do.
    """
    import ray
    from ray.exceptions import RayError, RayTaskError

    left = iter(references)
    waiting = deque(islice(left, ahead))
    while waiting:
        try:
            result = ray.get(waiting.popleft())
        except RayTaskError as err:
            if isinstance(err.cause, PladaError):
                raise err.cause from None
            if isinstance(err.cause, ImportError):
                raise RequestError(
                    f"Ray: a node cannot do its part ({first_line(err.cause)}). Install the same plada, with the same extras, on "
                    "every node"
                ) from err
            raise
        except RayError as err:
            raise ResourceError(
                f"Ray: a worker died {LIVES + 1} times on the same images ({first_line(err)}). {remedy}"
            ) from err
        waiting.extend(islice(left, 1))
        yield result


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
