"""The tasks of a build on a Ray cluster (plada.common.cluster).

Without GPUs a task reads, decodes and embeds on one core. With GPUs tasks on all cores of the cluster read and decode, and one
actor for each GPU embeds: pixels go from node to node through Ray's store, rows come back to the process that started the
build, which is the only one that writes.
"""

import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any

import numpy as np

from plada.common.cluster import LIVES, in_order, places, ray_cluster
from plada.encoders.encoder import Encoder, load_encoder
from plada.encoders.spec import EncoderSpec
from plada.indexer.embed import PreparedTask, Task, TaskResult, embed, encode_prepared, prepare
from plada.indexer.workers import Plan, Run, load_in_worker
from plada.sources.decode import View

_AHEAD = 2  # tasks for each that the cluster can do at once
_STORE = (
    0.3  # of Ray's store that decoded pixels may take, with those in hand; what is beyond would be spilled to a disk
)
_REMEDY = "Run the same command again with a smaller --batch-size; what is finished is kept"
_loading = threading.Lock()  # two batches are embedded at a time, and the encoder is loaded once


def encoder_to_build(spec: EncoderSpec, device: str | None) -> Encoder:
    """The encoder as the process that starts a build needs it. The GPUs of the cluster need not be here: where `device` names one
    that this machine lacks, it is loaded on the CPU, in the precision of a GPU, and `where` is `cuda`.

    Raises:
        As load_encoder.
    """
    if device is None or not device.startswith(("cuda", "all")) or spec.name == "gradients" or _has_gpu():
        encoder = load_encoder(spec, device="cuda" if device == "all" else device)
        on_gpu = encoder.where != "cpu" or (device is not None and device.startswith(("cuda", "all")))
        return replace(encoder, where="cuda") if on_gpu else encoder
    return replace(load_encoder(replace(spec, precision=spec.precision or "fp16"), device="cpu"), where="cuda")


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@contextmanager
def ray_workers(spec: EncoderSpec, encoder: Encoder, plan: Plan) -> Iterator[Run]:
    """A pool of Ray's workers. A task whose worker dies is done again, and so is what a dead actor had in hand.

    Raises:
        MissingExtra: ray is not installed. ResourceError: no cluster answers, it has no CPU or GPU, or workers keep dying.
    """
    plain = replace(spec, precision=encoder.config.precision)  # every node computes in the same
    said = json.dumps(asdict(plain), default=str)
    with ray_cluster("--engine ray") as ray:
        cpus = places("CPU")
        if encoder.where == "cpu":
            remote = ray.remote(num_cpus=1, max_retries=LIVES)(_embed_on_node)
            yield lambda tasks: in_order(
                (remote.remote(task, said, plan.batch_size) for task in tasks), _AHEAD * cpus, _REMEDY
            )
            return
        gpus = places("GPU")
        # No core is theirs: on a node with as many GPUs as cores none would be left to decode.
        kind = ray.remote(num_cpus=0, num_gpus=1, max_restarts=LIVES, max_task_retries=LIVES, max_concurrency=2)(
            _GpuEncoder
        )
        actors = [kind.remote(said, plan.batch_size) for _ in range(gpus)]
        decode = ray.remote(num_cpus=1, max_retries=LIVES)(_prepare_on_node)
        store = int(_STORE * ray.cluster_resources().get("object_store_memory", 1 << 30))
        ahead = min(_AHEAD * (cpus + gpus), max(gpus + 1, store // (plan.chunk * encoder.view.size**2 * 3)))

        def begun(tasks: Iterable[Task]) -> Iterator[Any]:
            view, in_hand = asdict(encoder.view), [set[Any]() for _ in actors]
            for task in tasks:
                for mine in in_hand:
                    if mine:
                        mine.difference_update(ray.wait(list(mine), num_returns=len(mine), timeout=0)[0])
                least = min(range(gpus), key=lambda number: len(in_hand[number]))
                pixels = decode.remote(task, view, encoder.config.dimension)
                result = actors[least].encode.remote(pixels)
                in_hand[least].add(result)
                yield result

        yield lambda tasks: in_order(begun(tasks), ahead, _REMEDY)


def _embed_on_node(task: Task, spec: str, batch_size: int) -> TaskResult:
    return embed(task, _encoder(spec, "cpu"), batch_size)


def _prepare_on_node(task: Task, view: dict[str, Any], dimension: int) -> PreparedTask:
    return prepare(task, View(**view), dimension)


class _GpuEncoder:
    """Has one GPU of the cluster, and embeds what tasks have decoded."""

    def __init__(self, spec: str, batch_size: int) -> None:
        # The encoder is loaded by the first task, so that what is wrong with it arrives as an error of a task.
        self._spec, self._batch_size = spec, batch_size

    def encode(self, prepared: PreparedTask) -> TaskResult:
        with _loading:
            encoder = _encoder(self._spec, "cuda:0")
        rows = prepared.result.rows
        # What comes out of Ray's store cannot be written to.
        writable = replace(rows, vectors=np.zeros(rows.vectors.shape, rows.vectors.dtype))
        own = PreparedTask(replace(prepared.result, rows=writable), prepared.places, prepared.pixels)
        result = encode_prepared(own, encoder, self._batch_size)
        self._batch_size = min(self._batch_size, result.batch_size or self._batch_size)
        return result


@lru_cache(maxsize=1)
def _encoder(spec: str, device: str) -> Encoder:
    """The encoder of a spec in JSON, loaded once in each worker of Ray."""
    return load_in_worker(EncoderSpec(**json.loads(spec)), device, threads=1)
