"""`plada index` beside clip-retrieval's `inference`: the same images, the same open_clip architecture with random weights.

Each in its own environment, in turns, on a folder of files and on WebDataset shards. plada is told nothing but the encoder;
clip-retrieval runs with the settings that were fastest in a short trial, its README's own among them. Rates leave loading
out on both sides: for clip-retrieval all seconds that it counts itself, which also leaves out writing the result; for plada
what its summary says. Wall clock is of the whole commands.
"""

import json
import subprocess
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.indexing_rate import Network, forward
from benchmarks.indexing_run import ROOT, run, some_images

DRIVER = ROOT / "benchmarks" / "clip_retrieval_driver.py"
MODEL = "open_clip:ViT-B-32/random"
README = (256, 8)  # batch_size, num_prepro_workers: the defaults in its README
SETTINGS = (README, (64, 2), (16, 2))
LONGEST = 7200.0  # seconds that one run of it may take


def peer(python: Path, source: Path, out: Path, form: str, setting: tuple[int, int]) -> dict[str, float]:
    """Run clip-retrieval's inference: its counters, and the wall clock of the process.

    Raises:
        RuntimeError: it failed, or made another number of embeddings than it counted.
    """
    start = time.monotonic()
    found = _drive(python, "infer", str(source), str(out), form, *map(str, setting))
    found["wall"] = time.monotonic() - start
    if found["images"] != found["counted"]:
        raise RuntimeError(f"clip-retrieval counted {found['counted']} images and wrote {found['images']} embeddings")
    return found


def _drive(python: Path, *words: str) -> dict[str, Any]:
    done = subprocess.run([str(python), str(DRIVER), *words], capture_output=True, text=True, timeout=LONGEST)
    if done.returncode != 0:
        raise RuntimeError(f"clip-retrieval by {python}: exit status {done.returncode}\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(
    python: Path, tars: Path, folder: Path, *, images: int, rounds: int, seconds: float, device: str
) -> dict[str, Any]:
    """Compare on `images` images in both forms, `rounds` times each in turns."""
    files, shards = some_images(tars, images, folder / "images", per_shard=max(1, images // 16))
    few, _ = some_images(tars, max(64, images // 4), folder / "few", per_shard=64)
    batches = (256, 1024) if device == "cuda" else (8, 16, 64)
    network = Network(encoder=MODEL, device=device, batches=batches)
    own = [forward(network, seconds=seconds)]
    theirs = [_drive(python, "forward", ",".join(map(str, batches)), str(seconds))]
    trials = {}
    for setting in SETTINGS:
        tried = peer(python, few, folder / f"trial-{setting[0]}-{setting[1]}", "files", setting)
        trials[setting] = tried["images"] / tried["seconds"]
    best = max(trials, key=lambda setting: trials[setting])
    forms: dict[str, Any] = {}
    for form, source in (("files", files), ("webdataset", shards)):
        runs = []
        for number in range(rounds):
            other = peer(python, source, folder / f"peer-{form}-{number}", form, best)
            ended = run(
                [str(source), "--name", "peer", "--encoder", MODEL, "--device", device], folder / f"{form}-{number}"
            )
            assert ended.summary is not None
            if other["images"] != ended.summary["images"]:
                raise RuntimeError(
                    f"{form}: plada saw {ended.summary['images']} images, clip-retrieval {other['images']}"
                )
            runs.append((ended.summary["images_per_second"], other["images"] / other["seconds"],
                         ended.seconds, other["wall"], other["read"] / other["seconds"]))  # fmt: skip
        forms[form] = {
            "ratio": median(mine / theirs for mine, theirs, *_ in runs),
            "ratios": [mine / theirs for mine, theirs, *_ in runs],
            "wall_ratio": median(other / mine for _, _, mine, other, _ in runs),
            "plada": [run[0] for run in runs],
            "clip_retrieval": [run[1] for run in runs],
            "plada_wall": [run[2] for run in runs],
            "clip_retrieval_wall": [run[3] for run in runs],
            "clip_retrieval_reading": [run[4] for run in runs],
        }
    own.append(forward(network, seconds=seconds))
    theirs.append(_drive(python, "forward", ",".join(map(str, batches)), str(seconds)))
    return {
        "clip_retrieval_ratio": min(form["ratio"] for form in forms.values()),
        "images": images,
        "rounds": rounds,
        "setting": list(best),
        "trials": {f"{batch}, {workers}": rate for (batch, workers), rate in trials.items()},
        "forms": forms,
        "forward_plada": {n: [rates[n] for rates in own] for n in batches},
        "forward_clip_retrieval": {n: [rates[str(n)] for rates in theirs] for n in batches},
        "versions": _versions(python),
    }


def _versions(python: Path) -> dict[str, str]:
    code = (
        "import importlib.metadata as m, json; "
        "print(json.dumps({p: m.version(p) for p in ('clip-retrieval', 'torch', 'open_clip_torch', 'webdataset')}))"
    )
    found: dict[str, str] = json.loads(subprocess.run([str(python), "-c", code], capture_output=True, text=True).stdout)
    return found
