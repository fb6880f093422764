"""End to end against the forward pass alone: `plada index` beside the same network on tensors that are ready, in turns.

Each round measures the forward rate, runs `plada index` into an empty home, and measures the forward rate again; the ratio of
a round is its end-to-end rate over the mean of both, so that a machine that slows down slows both sides. The forward rate is
that of the batch size that was fastest over all rounds: of the network as its library makes it in one process with torch's own
threads (rate_ratio); the same with its batch norms folded, as plada runs it on a CPU (rate_ratio_folded); and of as many
processes as cores with one thread each, folded (rate_ratio_together), which is what the cores can do at best.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.indexing_run import ROOT, Ended, run

FORWARD = ROOT / "benchmarks" / "indexing_forward.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """An encoder as both sides are told of it. `batches` are the batch sizes that the forward pass is tried with."""

    encoder: str
    weights: Path | None = None
    model_args: Mapping[str, str] | None = None
    image_size: int | None = None
    device: str = "cpu"
    batches: tuple[int, ...] = (8, 16, 32, 64)

    def arguments(self) -> list[str]:
        """Options that `plada index` and indexing_forward.py have in common."""
        words = ["--encoder", self.encoder, "--device", self.device]
        words += ["--weights", str(self.weights)] if self.weights else []
        words += ["--image-size", str(self.image_size)] if self.image_size else []
        return words + [word for pair in (self.model_args or {}).items() for word in ("--model-arg", "=".join(pair))]


def forward(network: Network, *, seconds: float, malloc: str = "plada", fold: bool = False) -> dict[int, float]:
    """Images a second of the forward pass for each batch size, in one process with torch's own number of threads."""
    words = [*network.arguments(), "--batches", ",".join(map(str, network.batches)), "--seconds", str(seconds)]
    words += ["--malloc", malloc, *(["--fold"] if fold else [])]
    done = subprocess.run([sys.executable, str(FORWARD), *words], capture_output=True, text=True, check=True)
    return {int(n): rate for n, rate in json.loads(done.stdout.splitlines()[-1]).items()}


def forward_together(network: Network, *, processes: int, batch: int, seconds: float) -> float:
    """Images a second that several processes of one thread each reach together, folded, all of them warm before any begins."""
    words = [
        *network.arguments(),
        "--batches",
        str(batch),
        "--seconds",
        str(seconds),
        "--threads",
        "1",
        "--wait",
        "--fold",
    ]
    running = [
        subprocess.Popen(
            [sys.executable, str(FORWARD), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for _ in range(processes)
    ]  # fmt: skip
    for process in running:
        assert process.stdout is not None
        process.stdout.readline()
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return float(sum(json.loads(process.communicate()[0])[str(batch)] for process in running))


def prepare_rate(tars: Path, view: Mapping[str, Any], *, processes: int) -> float:
    """Images a second of all that comes before the network and nothing else: read, hash, decode, fingerprint, resize; in
    `processes` processes, each on a run of positions of its own. `view` is what index.json says of the encoder's view."""
    from plada.sources.formats.tars import open_tars

    n = len(open_tars(tars))
    edges = [n * part // processes for part in range(processes + 1)]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        list(pool.map(_prepare, [(tars, dict(view), 0, 64)] * processes))  # imports are not counted
        parts = list(pairwise(edges))
        start = time.perf_counter()
        list(pool.map(_prepare, [(tars, dict(view), first, last) for first, last in parts]))
        return n / (time.perf_counter() - start)


def _prepare(task: tuple[Path, dict[str, Any], int, int]) -> int:
    from plada.errors import Unreadable
    from plada.sources.decode import View, decode
    from plada.sources.formats.tars import open_tars
    from plada.sources.leaks.fingerprints import fingerprint
    from plada.sources.manifest import content_hash

    tars, options, first, last = task
    view, total = View(**options), 0
    for _, data in open_tars(tars).stream(first, last):
        content_hash(data)
        try:
            image = decode(data)
        except Unreadable:
            continue
        fingerprint(image)
        total += int(view.of(image)[0, 0, 0])
    return total


def fastest(sides: Sequence[Mapping[int, float]]) -> int:
    """The batch size with the highest median rate."""
    return max(sides[0], key=lambda n: median(rates[n] for rates in sides))


@dataclass(frozen=True, slots=True)
class _Side:
    """Forward rates by batch size: of one process; of one with batch norms folded; of as many as cores, folded, one thread each."""

    plain: dict[int, float]
    folded: dict[int, float]
    together: dict[int, float]


def _forwards(network: Network, seconds: float) -> _Side:
    plain = forward(network, seconds=seconds)
    if network.device != "cpu":
        return _Side(plain, {}, {})
    cores = os.cpu_count() or 1
    together = {n: forward_together(network, processes=cores, batch=n, seconds=seconds) for n in network.batches}
    return _Side(plain, forward(network, seconds=seconds, fold=True), together)


def _ratios(ends: Sequence[float], sides: Sequence[Mapping[int, float]]) -> list[float]:
    """Each round's end-to-end rate over the mean forward rate before and after it, at the fastest batch size."""
    if not sides[0]:
        return []
    best = fastest(sides)
    return [
        end / ((before[best] + after[best]) / 2) for end, (before, after) in zip(ends, pairwise(sides), strict=True)
    ]


def measure(
    network: Network, tars: Path, folder: Path, *, rounds: int, seconds: float, options: Sequence[str] = ()
) -> dict[str, Any]:
    """The rates of one network over `tars`; `folder` takes the indexes. `options` go to `plada index` as they are."""
    sides, taken = [_forwards(network, seconds)], list[tuple[Ended, float]]()
    for number in range(rounds):
        load = os.getloadavg()[0]
        ended = run([str(tars), "--name", "rate", *network.arguments(), *options], folder / f"round-{number}")
        taken.append((ended, load))
        sides.append(_forwards(network, seconds))
    summaries = [ended.summary for ended, _ in taken if ended.summary is not None]
    ends = [summary["images_per_second"] for summary in summaries]
    alone, folded, together = ([getattr(side, kind) for side in sides] for kind in ("plain", "folded", "together"))
    info = json.loads((folder / "round-0" / "indexes" / "rate" / "index.json").read_text())
    return {
        "encoder": network.encoder,
        "device": network.device,
        "images": info["images"],
        "rounds": rounds,
        "rate_ratio": median(ratios := _ratios(ends, alone)),
        "ratios": ratios,
        "rate_ratio_folded": median(own) if (own := _ratios(ends, folded)) else None,
        "rate_ratio_together": median(strict) if (strict := _ratios(ends, together)) else None,
        "ratios_folded": own,
        "ratios_together": strict,
        "end_to_end": ends,
        "forward": {n: [rates[n] for rates in alone] for n in network.batches},
        "forward_folded": {n: [rates[n] for rates in folded] for n in folded[0]},
        "forward_together": {n: [rates[n] for rates in together] for n in together[0]},
        "forward_default_malloc": forward(network, seconds=seconds, malloc="default"),
        "prepare": prepare_rate(tars, info["encoder"]["view"], processes=os.cpu_count() or 1),
        "wall": [info["images"] / ended.seconds for ended, _ in taken],
        "cpu_ms": [1e3 * ended.cpu_seconds / info["images"] for ended, _ in taken],
        "stages": [dict(summary["seconds"]) for summary in summaries],
        "load_average": [load for _, load in taken],
    }
