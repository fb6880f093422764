"""Encoders: accuracy of a linear teacher on their embeddings, images a second, and hours for ImageNet-21K.

    python ../shared/data/unpack.py DIR
    python benchmarks/encoders.py --data DIR [--rounds 5] [--json] [--write docs/benchmarks.md]

Accuracy is on the validation images that plada sets aside of each target's training images; the test images are not read.
The head's penalty is chosen on the same images, as `plada select` does. Without weights only the speed of an architecture
can be measured; random weights do for that. Each speed is measured in a process of its own, in one thread, encoding noise that
is ready in memory: images by seconds of CPU time, system time included, so that other jobs disturb it least; the best of
--rounds rounds.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.document import machine, write_section

IMAGES = 14_197_122  # of ImageNet-21K, the winter 2021 release and the one before it
BATCH = 64
CORES = 2  # that hours are given for
SIZES = (64, 96, 128, 160, 224)


@dataclass(frozen=True, slots=True)
class Case:
    """One encoder, as arguments of load_encoder; `trained` if its embeddings mean something."""

    label: str
    options: dict[str, Any] = field(default_factory=dict)
    trained: bool = False


def cases(weights: Path) -> list[Case]:
    mobile = {"name": "timm:mobilenetv2_100", "weights": str(weights), "model_args": {"pad_type": "same"}}
    found = [Case("gradients", {"name": "gradients"}, True)]
    found += [Case(f"timm mobilenetv2_100, {size} px", {**mobile, "image_size": size}, True) for size in SIZES]
    found += [
        Case("timm mobilenetv2_100, 96 px, bf16", {**mobile, "image_size": 96, "precision": "bf16"}, True),
        Case("timm mobilenetv2_100, 96 px, compiled", {**mobile, "image_size": 96, "compiled": True}),
        Case("timm resnet50, 224 px", {"name": "timm:resnet50.random", "image_size": 224}),
        Case(
            "timm vit_small_patch14_dinov2, 224 px", {"name": "timm:vit_small_patch14_dinov2.random", "image_size": 224}
        ),
        Case("open_clip ViT-B-32, 224 px", {"name": "open_clip:ViT-B-32/random"}),
        Case("open_clip ViT-B-32-256, 256 px", {"name": "open_clip:ViT-B-32-256/random"}),
        Case("open_clip ViT-B-32-256, 256 px, bf16", {"name": "open_clip:ViT-B-32-256/random", "precision": "bf16"}),
        Case("open_clip ViT-B-32-256, 256 px, compiled", {"name": "open_clip:ViT-B-32-256/random", "compiled": True}),
    ]
    return found


def rate(options: dict[str, Any], *, rounds: int, kept: bool = True) -> dict[str, float]:
    """Images a second of one core's time, encoding ready pixels in this process, and the process's peak memory in MB."""
    import torch

    from plada.common.machine import peak_memory
    from plada.encoders import encoder as encoders
    from plada.encoders.spec import EncoderSpec

    torch.set_num_threads(1)
    if not kept:
        vars(encoders)["keep_memory"] = lambda: False
    encoder = encoders.load_encoder(EncoderSpec(**options))
    size = encoder.view.size
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, size, size, 3), dtype=np.uint8)
    for _ in range(2):  # the first batches find their memory, or a compiler
        encoder.encode(pixels)
    best = float("inf")
    for _ in range(rounds):
        start, done = time.process_time(), 0
        while not done or time.process_time() - start < 0.7:
            encoder.encode(pixels)
            done += 1
        best = min(best, (time.process_time() - start) / done)
    return {"rate": BATCH / best, "peak": (peak_memory() or 0) / 1e6}


def apart(options: dict[str, Any], *words: str) -> dict[str, Any]:
    """What this module does with one encoder in a process of its own, so that none finds another's memory."""
    command = [sys.executable, __file__, "--one", json.dumps(options), *words]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def accuracies(options: dict[str, Any], targets: Path) -> dict[str, float]:
    """Validation accuracy of a linear teacher on each target, by name."""
    from plada.common.progress import silent
    from plada.common.statistics import accuracy
    from plada.encoders.encoder import load_encoder
    from plada.encoders.spec import EncoderSpec
    from plada.labeler.embedded_target import embed_split
    from plada.networks.linear_head import PENALTY, fit_head
    from plada.sources.targets.target import open_folder_target

    encoder = load_encoder(EncoderSpec(**options))
    found = {}
    for folder in sorted(path for path in targets.iterdir() if path.is_dir()):
        target = open_folder_target(folder)
        train, validation = (
            embed_split(encoder, split, stage="embed", report=silent) for split in (target.train, target.validation)
        )
        mean = train.vectors.mean(axis=0)
        head = fit_head(train.vectors, train.labels, classes=len(target.classes), mean=mean, penalty=PENALTY)
        found[target.name] = accuracy(head.logits(validation.vectors), validation.labels)
    return found


def measure(data: Path, *, rounds: int) -> dict[str, Any]:
    listed = cases(data / "weights" / "mobilenetv2_100.safetensors")
    rows = []
    for case in listed:
        row: dict[str, Any] = {"label": case.label, **apart(case.options, "--rounds", str(rounds))}
        row["hours"] = IMAGES / row["rate"] / 3600 / CORES
        if case.trained:
            row["accuracies"] = apart(case.options, "--targets", str(data / "targets"))
            row["mean"] = float(np.mean(list(row["accuracies"].values())))
        rows.append(row)
        print(json.dumps(row), file=sys.stderr)
    memory = []
    for label in ("timm mobilenetv2_100, 96 px",):
        options = next(case.options for case in listed if case.label == label)
        words = ["--rounds", str(rounds)]
        pairs = [(apart(options, *words, "--given-back"), apart(options, *words)) for _ in range(2)]
        off, on = (max((pair[at] for pair in pairs), key=lambda one: one["rate"]) for at in (0, 1))
        memory.append({"label": label, "given_back": off, "kept": on, "ratio": on["rate"] / off["rate"]})
        print(json.dumps(memory[-1]), file=sys.stderr)
    return {"rows": rows, "memory": memory}


def document(found: dict[str, Any]) -> str:
    names = list(found["rows"][0]["accuracies"])
    lines = [
        "## Encoders",
        "",
        f"`python benchmarks/encoders.py --data DIR`, on {machine()}. Images a second and core of encoding",
        f"alone (CPU time), batches of {BATCH} in memory, fp32 unless said; hours are for {IMAGES:,} images on {CORES} such cores, without",
        "reading and decoding. Accuracy in % of a linear teacher on the",
        "targets' validation images; none where there are no weights at hand (random ones are as fast).",
        "",
        "| encoder | images/s/core | hours | mean | " + " | ".join(names) + " |",
        "| --- " * (len(names) + 4) + "|",
    ]
    for row in found["rows"]:
        cells = [f"{100 * row['accuracies'][name]:.1f}" for name in names] if "mean" in row else [""] * len(names)
        mean = f"{100 * row['mean']:.1f}" if "mean" in row else ""
        lines.append(
            f"| {row['label']} | {row['rate']:,.0f} | {row['hours']:,.1f} | {mean} | " + " | ".join(cells) + " |"
        )
    lines += [
        "",
        "Memory that glibc keeps between batches (`plada.networks.network.keep_memory`), without and with; the best of two pairs:",
        "",
        "| encoder | images/s/core given back | kept | ratio | peak MB given back | kept |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['label']} | {row['given_back']['rate']:,.0f} | {row['kept']['rate']:,.0f} | {row['ratio']:.2f} | "
        f"{row['given_back']['peak']:,.0f} | {row['kept']['peak']:,.0f} |"
        for row in found["memory"]
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="what unpack.py made: weights and targets")
    parser.add_argument("--rounds", type=int, default=5, help="of 0.7 seconds or more each; the best counts")
    parser.add_argument("--write", type=Path, help="the document that gets the section")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--targets", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--given-back", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        asked = json.loads(options.one)
        if options.targets:
            print(json.dumps(accuracies(asked, options.targets)))
        else:
            print(json.dumps(rate(asked, rounds=options.rounds, kept=not options.given_back)))
        return
    if options.data is None:
        parser.error("--data DIR is needed")
    found = measure(options.data, rounds=options.rounds)
    if options.write:
        write_section(options.write, "encoders", document(found))
    print(json.dumps({"type": "summary", **found}) if options.json else document(found))


if __name__ == "__main__":
    main()
