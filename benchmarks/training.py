"""The client's loop: its rate against tensors already in memory, and SIGKILL at random moments.

    python ../shared/data/unpack.py DIR --as tars
    python benchmarks/training.py --data DIR [--device cuda] [--out docs/benchmarks.md] [--json]

loop_ratio is the rate at which `plada.networks.loop.fit` trains on images that it reads by position from tars, hashed, decoded
and resized, over its rate with the same images in memory, for the recipe's 20 epochs: one that reads (first_ratio) and
nineteen that find the pixels on disk (later_ratio), each measured alone. again_ratio is without that file; held_ratio is that of the loop on
images in memory over forward, backward and optimiser alone on one normalised tensor (augmentation and everything else is the
loop's). Rounds alternate; the ratio is of the medians. resumed_identical counts the kills after which `plada train`, started
again until it was done, wrote the bytes of a run that nobody broke. The last line with --json holds all figures.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

import plada
from benchmarks.document import machine, write_section
from plada.networks.data import ImagesInMemory, LabelledImages, load_images
from plada.networks.loop import fit
from plada.networks.network import (
    Network,
    NetworkSpec,
    build_network,
    normalise,
    pick_device,
    to_device,
    to_floats,
    view_of,
)
from plada.networks.recipe import TRAINED_BODY, Recipe
from plada.networks.step import parameter_groups
from plada.payload.payload import Payload

ROOT = Path(__file__).resolve().parents[1]
NETWORK, ARGUMENTS = "mobilenetv2_100", {"pad_type": "same"}


def network_of(data: Path, size: int) -> Network:
    weights = data / "weights" / f"{NETWORK}.safetensors"
    return build_network(NetworkSpec(name=NETWORK, weights=weights, model_args=ARGUMENTS, image_size=size), classes=10)


def timed(work: Callable[[], int]) -> tuple[float, float]:
    """Images a second, and images a second of processor time, of `work`, which returns how many it was."""
    start, spent = time.perf_counter(), time.process_time()
    images = work()
    return images / (time.perf_counter() - start), images / (time.process_time() - spent)


def rates(data: Path, home: Path, images: int, size: int, rounds: int, device: str | None) -> dict[str, Any]:
    """Rates of the loop on streamed images, on images in memory, and of the network alone; images a second."""
    recipe = TRAINED_BODY.changed({"epochs": 1})
    reference = plada.open_images(data / "reference-tars", home=home)
    positions = np.sort(np.random.default_rng(0).choice(len(reference), images, replace=False))
    labels = np.arange(images) % 10
    network = network_of(data, size)

    def opened(memory: int, cache: Path | None = None) -> LabelledImages:
        view = view_of(network)
        return load_images(reference.read, positions, labels, view, where="the reference", memory=memory, cache=cache)

    def loop(source: LabelledImages) -> int:
        fit(network, source, recipe=recipe, seed=0, device=device)
        return images // recipe.batch_size * recipe.batch_size

    held, again, later = opened(1 << 40), opened(0), opened(0, home)
    assert isinstance(held, ImagesInMemory)
    kinds = {
        "first": lambda: loop(opened(0, home)),
        "later": lambda: loop(later),
        "again": lambda: loop(again),
        "held": lambda: loop(held),
        "alone": bare_steps(network, held, recipe, images // recipe.batch_size, device),
    }
    loop(later)  # fills the file; the first steps also load code and find memory
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, kind in kinds.items():
            found[name].append(timed(kind))
    best = {name: median(rate for rate, _ in values) for name, values in found.items()}
    processor = {name: median(rate for _, rate in values) for name, values in found.items()}

    def run(rates: dict[str, float]) -> float:
        epochs = TRAINED_BODY.epochs
        return epochs / (1 / rates["first"] + (epochs - 1) / rates["later"]) / rates["held"]

    return {
        "loop_ratio": run(best),
        "loop_ratio_by_processor_time": run(processor),
        "again_ratio_by_processor_time": processor["again"] / processor["held"],
        **{f"{name}_ratio": best[name] / best["held"] for name in ("first", "later", "again")},
        "held_ratio": best["held"] / best["alone"],
        **{f"{name}_images_per_second": value for name, value in best.items()},
        "rounds": {name: [round(rate, 1) for rate, _ in values] for name, values in found.items()},
        "images": images,
        "size": size,
        "batch_size": recipe.batch_size,
    }


def bare_steps(
    network: Network, held: ImagesInMemory, recipe: Recipe, steps: int, device: str | None
) -> Callable[[], int]:
    """Forward, backward, optimiser on one batch of normalised tensors, again and again."""
    import torch

    where = pick_device(device)
    module = to_device(network.module, where)
    inputs = normalise(network, to_floats(held.pixels[: recipe.batch_size], where))
    answers = torch.from_numpy(held.labels[: recipe.batch_size]).to(where)

    def run() -> int:
        optimiser = torch.optim.AdamW(parameter_groups(network, recipe), lr=0.0)
        module.train()
        for part in module.modules():
            if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
                part.eval()
        for _ in range(steps):
            with torch.autocast(where.type, torch.bfloat16, enabled=where.type == "cuda"):
                outputs = module(inputs)
            loss = torch.nn.functional.cross_entropy(outputs.float(), answers)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
            optimiser.step()
        if where.type == "cuda":
            torch.cuda.synchronize(where)
        return steps * recipe.batch_size

    return run


def kills(folder: Path, count: int, seed: int) -> dict[str, Any]:
    """`plada train` of a small student, killed `count` times at random moments and started again, until it is done."""
    home, rng = folder / "home", np.random.default_rng(seed)
    images = plada.open_images("glyphs:count=400", home=home)
    payload = Payload(
        np.arange(400),
        np.arange(400) % 3,
        ("a", "b", "c"),
        400,
        images.manifest.key_id,
        images.manifest.content_id,
    )
    payload.save(folder / "k.plada")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def command(out: str) -> list[str]:
        options = ["--recipe", "epochs=10", "--recipe", "ema=0.9", "--recipe", "mixup=0.2", "--checkpoint-seconds", "0"]
        return [
            sys.executable, "-m", "plada", "train", "k.plada", "--reference", "glyphs:count=400", "--student", "small_cnn",
            "-o", out, "--home", str(home), "--json", *options,
        ]  # fmt: skip

    def run(out: str, after: float | None) -> tuple[bool, float]:
        """(whether it came to its end, seconds from its first step on). `after`: seconds after its first checkpoint, or
        after the start where there is one already."""
        start, checkpoint = time.perf_counter(), folder / f"{out}.checkpoint"
        with subprocess.Popen(
            command(out), cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            stamp = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
            while process.poll() is None and not (checkpoint.exists() and checkpoint.stat().st_mtime_ns != stamp):
                time.sleep(0.01)
            start = time.perf_counter()
            try:
                process.wait(after)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        return process.returncode == 0, time.perf_counter() - start

    done, seconds = run("whole", None)
    assert done, "the unbroken run failed"
    whole = (folder / "whole").read_bytes()
    moments: list[float] = []
    identical = rest = build = 0
    while len(moments) < count:
        out, build = f"killed-{build}", build + 1
        fallen = 0
        while True:
            after = float(rng.uniform(0, seconds / 2)) if len(moments) < count else None
            done, spent = run(out, after)
            if done:
                break
            moments.append(round(spent, 3))
            fallen += 1
        same = (folder / out).read_bytes() == whole
        identical += fallen if same else 0
        rest += len(list(folder.glob(f"{out}.*")))
    return {
        "resumed_identical": identical,
        "kills": len(moments),
        "killed_after_seconds": moments,
        "unbroken_seconds": round(seconds, 2),
        "files_left": rest,
        "builds": build,
    }


def text_of(found: dict[str, Any], device: str) -> str:
    lines = [
        "## Training",
        "",
        f"`python benchmarks/training.py --data DIR`, {machine()}, {device}.",
        "",
    ]
    if "loop_ratio" in found:
        lines += [
            f"{NETWORK} from its weights at {found['size']} px, batches of {found['batch_size']}, one epoch of {found['images']}",
            f"images, medians of {len(found['rounds']['held'])} rounds in turn; images a second:",
            "",
            "| images | rate |",
            "| --- | --- |",
            f"| read from tars by position, hashed, decoded, resized | {found['again_images_per_second']:.1f} |",
            f"| the same, and written to the file of pixels (first epoch) | {found['first_images_per_second']:.1f} |",
            f"| from the file of pixels (later epochs) | {found['later_images_per_second']:.1f} |",
            f"| in memory | {found['held_images_per_second']:.1f} |",
            f"| none: forward, backward, optimiser on one tensor | {found['alone_images_per_second']:.1f} |",
            "",
            f"loop_ratio {found['loop_ratio']:.3f} over 20 epochs (first {found['first_ratio']:.3f}, later {found['later_ratio']:.3f};"
            f" without the file {found['again_ratio']:.3f}).",
            f"By processor time, which other processes disturb less: {found['loop_ratio_by_processor_time']:.3f}; without the "
            f"file {found['again_ratio_by_processor_time']:.3f}.",
            f"The loop in memory against the bare network: {found['held_ratio']:.3f}.",
            "",
        ]
    if "kills" in found:
        lines += [
            f"`plada train` killed with SIGKILL at {found['kills']} random moments ({', '.join(map(str, found['killed_after_seconds']))} s",
            f"after its first step; unbroken it takes {found['unbroken_seconds']} s), a checkpoint after every step: "
            f"{found['resumed_identical']} ended",
            f"in the bytes of the unbroken run; {found['files_left']} files were left beside the models.",
        ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--only", choices=("rate", "kills"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found: dict[str, Any] = {"loop_ratio": None, "resumed_identical": None}
    with tempfile.TemporaryDirectory() as folder:
        if options.only != "kills":
            found.pop("loop_ratio")
            found |= rates(
                options.data, Path(folder) / "home", options.images, options.size, options.rounds, options.device
            )
        if options.only != "rate":
            found |= kills(Path(folder), options.kills, options.seed)
    measured = {name: value for name, value in found.items() if value is not None}
    text = text_of(measured, options.device or "CPU")
    if options.out is not None:
        write_section(options.out, "training", text)
    print(text)
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
