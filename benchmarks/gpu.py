"""What a GPU is worth: an index end to end, training, exact search, a linear fit, and `select` with a teacher that is a network.

    python benchmarks/gpu.py [--device cuda] [--images N] [--vectors N] [--weights FILE] [--photos DIR] [--json]
    python benchmarks/gpu.py --plan              # what it wants to show, without measuring
    python benchmarks/gpu.py --device cpu --small --out OUT.md   # the same code in seconds, on the CPU: the figures mean nothing

Without a GPU it says so and ends with status 2. The index is made with open_clip's ViT-B-32 (random weights unless --weights names a
file), of photographs in DIR, or of 200 that are made here, linked as often as there are --images. The student is ResNet-18 from random
weights. Writes the section "GPU" of docs/benchmarks.md: one table of what is measured, what it wants to show, and what came out; with --json the
last line holds all figures.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import plada
from benchmarks.document import conclude, machine
from benchmarks.report import make_photos
from benchmarks.training import bare_steps
from plada.common.arrays import F16, F32, I64
from plada.common.progress import Progress
from plada.encoders.encoder import Encoder, load_encoder
from plada.encoders.spec import EncoderSpec
from plada.indexer import feeders
from plada.labeler.teachers import TeacherSpec
from plada.networks.data import ImagesInMemory
from plada.networks.linear_head import fit_head
from plada.networks.loop import fit
from plada.networks.network import NetworkSpec, build_network
from plada.networks.recipe import Recipe
from plada.retrieval.device_search import KeptVectors
from plada.retrieval.knn import exact_search

HERE = Path(__file__).resolve().parents[1]
ENCODER, STUDENT = "open_clip:ViT-B-32/random", "resnet18"
MISSING = (
    "benchmarks/gpu.py: torch sees no GPU on this machine, so nothing was measured. Run it where there is one (`plada doctor` says "
    "what torch sees), or with --device cpu --small to try the code"
)
GOALS: Mapping[str, tuple[str, str]] = {
    "index": ("index, images/s end to end", "at least 0.8 of the forward passes alone: the GPU does not wait for the decoders"),
    "forward": ("forward passes alone, images/s", "what the GPU can do at the batch size of the index"),
    "limit": ("slower side of the index", "`encode`; where it is `decode`, more cores are needed, not another GPU"),
    "streams": ("two streams against one, images/s", "above 1: one batch is copied while another is computed"),
    "batch": ("a batch that does not fit", "the same vectors, from smaller batches, and a note"),
    "train": ("training, images/s", "at least 0.9 of forward, backward and optimiser alone on one tensor"),
    "bare": ("forward, backward, optimiser alone, images/s", "what the GPU can do at the recipe's batch size"),
    "kept": ("pixels kept on the GPU against sent, images/s", "above 1"),
    "search": ("exact search, ms a query", "below the time that the CPU takes, by more than ten times"),
    "search_cpu": ("the same on the CPU, ms a query", "for comparison; the vectors lie in memory"),
    "batch_search": ("exact search, queries/s of 256", "a thousand or more"),
    "same": ("results that are those of the CPU, bit for bit", "all"),
    "fit": ("linear fit of a teacher, s", "below the CPU's, by more than five times"),
    "fit_cpu": ("the same on the CPU, s", "for comparison"),
    "agree": ("labels that both heads agree on", "0.999 or more"),
    "select": ("`select` with a fine-tuned teacher, s", "minutes on a CPU, seconds here"),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured."""

    images: int
    vectors: int
    dimension: int
    labelled: int  # images of a linear fit
    classes: int
    trained: int  # images of the student
    side: int
    batch: int
    rounds: int
    glyphs: int


LARGE = Sizes(
    images=20_000, vectors=2_000_000, dimension=512, labelled=80_000, classes=101, trained=4096, side=224, batch=256,
    rounds=3, glyphs=20_000,
)  # fmt: skip
SMALL = Sizes(
    images=96, vectors=3000, dimension=32, labelled=600, classes=5, trained=32, side=32, batch=16, rounds=1, glyphs=300
)


def seconds_of(work: Callable[[], Any]) -> float:
    """Seconds of `work`, which ends when the device has."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def link_photos(source: Path, images: int, folder: Path) -> Path:
    """A folder of so many images, which are links to those in `source`."""
    photos = sorted(path for path in source.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    for number in range(images):
        path = folder / f"n{number % 100:08d}" / f"{number:08d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(photos[number % len(photos)], path)
    return folder


def index_figures(spec: EncoderSpec, photos: Path, home: Path, device: str, sizes: Sizes) -> dict[str, Any]:
    """Rates of the index and of its encoder alone, and what a batch that does not fit does."""
    notes: list[str] = []

    def rate(name: str, batch: int) -> tuple[float, Any]:
        def heard(progress: Progress) -> None:
            if progress.note:
                notes.append(progress.note)

        made = plada.index(
            photos, name=name, encoder=spec, device=device, batch_size=batch, workers=max(2, (os.cpu_count() or 2) - 1),
            home=home, report=heard,
        )  # fmt: skip
        return made.images_per_second, made

    encoder = load_encoder(spec, device=device)
    two, made = rate("two", sizes.batch)
    with patch.object(feeders, "LANES", 1), patch("plada.indexer.workers.LANES", 1):
        one, _ = rate("one", sizes.batch)
    where = made.where
    return {
        "index": two,
        "forward": forward_rate(encoder, sizes),
        "streams": two / one,
        "limit": max(("read", "decode", "encode"), key=lambda stage: where[stage]),
        "batch": halved(encoder, sizes),
        "notes": notes,
    }


def forward_rate(encoder: Encoder, sizes: Sizes) -> float:
    """Images a second of the encoder on batches that are there."""
    pixels = np.random.default_rng(0).integers(0, 255, (sizes.batch, encoder.view.size, encoder.view.size, 3), np.uint8)
    encoder.encode(pixels)
    times = 10 * sizes.rounds
    return times * sizes.batch / seconds_of(lambda: [encoder.encode(pixels) for _ in range(times)])


def halved(encoder: Encoder, sizes: Sizes) -> str:
    """What becomes of a batch for which the device has no memory: torch may use six tenths of what it took."""
    import torch

    from plada.networks.device import in_parts

    if not encoder.where.startswith("cuda"):
        return "not tried without a GPU"
    pixels = np.random.default_rng(0).integers(0, 255, (sizes.batch, encoder.view.size, encoder.view.size, 3), np.uint8)
    torch.cuda.reset_peak_memory_stats(encoder.where)
    whole = encoder.encode(pixels)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(encoder.where).total_memory
    torch.cuda.set_per_process_memory_fraction(
        0.6 * torch.cuda.max_memory_allocated(encoder.where) / total, encoder.where
    )
    try:
        parts = list(in_parts(len(pixels), len(pixels), lambda some: encoder.encode(pixels[some]), encoder.where))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, encoder.where)
    cosines = (np.concatenate([part for _, _, part in parts]) * whole).sum(axis=1)
    return f"{parts[-1][1]} at a time, least cosine {float(cosines.min()):.4f}"


def training_figures(student: str, device: str, sizes: Sizes) -> dict[str, Any]:
    """Rates of the loop with pixels that are kept on the device and sent to it, and of the network alone."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (sizes.trained, sizes.side, sizes.side, 3), np.uint8)
    held = ImagesInMemory(pixels, rng.integers(0, 10, sizes.trained))
    recipe = Recipe(epochs=1, batch_size=min(sizes.batch, sizes.trained // 2))
    network = build_network(NetworkSpec(name=student, image_size=sizes.side), classes=10)
    images = sizes.trained // recipe.batch_size * recipe.batch_size

    def loop() -> None:
        fit(network, held, recipe=recipe, seed=0, device=device)

    def sent() -> None:
        with patch("plada.networks.loop.on_device", lambda images, *_: images):
            loop()

    loop()
    kept, copied = (min(seconds_of(work) for _ in range(sizes.rounds)) for work in (loop, sent))
    alone = bare_steps(network, held, recipe, sizes.trained // recipe.batch_size, device)
    return {
        "train": images / kept,
        "kept": copied / kept,
        "bare": images / min(seconds_of(alone) for _ in range(sizes.rounds)),
    }


def search_figures(device: str, sizes: Sizes) -> dict[str, Any]:
    """Exact search over vectors that stay on the device, and on the CPU over the same in memory."""
    import torch

    rng = np.random.default_rng(0)
    vectors = np.empty((sizes.vectors, sizes.dimension), np.float16)
    for start in range(0, sizes.vectors, 65_536):
        block = rng.standard_normal((min(65_536, sizes.vectors - start), sizes.dimension), np.float32)
        vectors[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    queries = vectors[:256].astype(np.float32)

    def blocks() -> Iterator[tuple[I64, F16]]:
        for start in range(0, sizes.vectors, 16_384):
            yield np.arange(start, min(start + 16_384, sizes.vectors)), vectors[start : start + 16_384]

    kept = KeptVectors(blocks(), sizes.vectors, sizes.dimension, torch.device(device))
    kept.search(queries[:1], 10)
    single = min(seconds_of(lambda: kept.search(queries[:1], 10)) for _ in range(5))
    there = kept.search(queries[:16], 10)
    here = exact_search(blocks(), queries[:16], 10)
    return {
        "search": 1000 * single,
        "search_cpu": 1000
        * min(seconds_of(lambda: exact_search(blocks(), queries[:1], 10)) for _ in range(sizes.rounds)),
        "batch_search": 256 / min(seconds_of(lambda: kept.search(queries, 10)) for _ in range(sizes.rounds)),
        "same": bool(there[0].tobytes() == here[0].tobytes() and np.array_equal(there[1], here[1])),
    }


def fit_figures(device: str, sizes: Sizes) -> dict[str, Any]:
    """The linear fit of a teacher on the device and on the CPU."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, sizes.classes, sizes.labelled)
    centres = 0.2 * rng.standard_normal((sizes.classes, sizes.dimension), np.float32)
    vectors = centres[labels] + rng.standard_normal((sizes.labelled, sizes.dimension), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    mean: F32 = vectors.mean(axis=0)
    heads, found = [], {}
    for name, where in (("fit_cpu", "cpu"), ("fit", device)):
        start = time.perf_counter()
        heads.append(fit_head(vectors, labels, classes=sizes.classes, mean=mean, penalty=1e-4, device=where))
        found[name] = time.perf_counter() - start
    one, other = (head.logits(vectors).argmax(axis=1) for head in heads)
    return {**found, "agree": float((one == other).mean())}


def select_figures(student: str, home: Path, device: str, sizes: Sizes) -> dict[str, Any]:
    """`select` for the digits with a fine-tuned network as teacher."""
    plada.index(f"glyphs:count={sizes.glyphs}", name="glyphs", home=home, workers=0)
    kind = f"finetune:{student}" if sizes is not SMALL else "linear"  # which takes minutes on a CPU
    teacher = TeacherSpec(names=kind, image_size=None if kind == "linear" else 64, force=True)
    return {
        "select": seconds_of(
            lambda: plada.select(
                "glyphs", target="digits", budget="1kB", rule="balanced", teacher=teacher, device=device, home=home
            )
        )
    }


def table(found: Mapping[str, Any], device: str) -> list[str]:
    """The section's lines; without figures a plan."""
    head = (
        f"`python benchmarks/gpu.py`, {machine()}, {device}."
        if found
        else "`python benchmarks/gpu.py` has not run: no machine with a GPU was at hand. What it wants to show:"
    )
    lines = ["## GPU", "", head, "", "| what | wants to show | measured |", "| --- | --- | --- |"]
    for name, (what, goal) in GOALS.items():
        value = found.get(name, "")
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        lines.append(f"| {what} | {goal} | {shown} |")
    return lines


def device_name(device: str) -> str | None:
    """What a device is called; None where it is not there."""
    import torch

    if device == "cpu":
        return "CPU"
    return torch.cuda.get_device_name(device) if torch.cuda.is_available() else None


def main() -> int:
    """Measure, write the section, print. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--small", action="store_true", help="miniature sizes and networks")
    parser.add_argument("--plan", action="store_true", help="write what it wants to show, and measure nothing")
    parser.add_argument("--images", type=int)
    parser.add_argument("--vectors", type=int)
    parser.add_argument("--photos", type=Path, help="a folder of images [default: 200 that are made here]")
    parser.add_argument("--weights", type=Path, help="of the encoder [default: random ones]")
    parser.add_argument("--encoder", default=ENCODER)
    parser.add_argument("--student", default=STUDENT)
    parser.add_argument("--out", type=Path, default=HERE / "docs" / "benchmarks.md")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.plan:
        conclude(options.out, "GPU", table({}, ""), {}, as_json=options.json)
        return 0
    name = device_name(options.device)
    if name is None:
        print(MISSING, file=sys.stderr)
        if options.json:
            print(json.dumps({"measured": False, "reason": MISSING}))
        return 2
    sizes = SMALL if options.small else LARGE
    changed = {key: value for key in ("images", "vectors") if (value := getattr(options, key)) is not None}
    sizes = replace(sizes, **changed) if changed else sizes
    encoder, student = options.encoder, options.student
    if options.small:
        encoder, student = (encoder, student) if encoder != ENCODER else ("timm:test_vit.random", "test_resnet")
    spec = EncoderSpec(name=encoder, weights=options.weights)
    with tempfile.TemporaryDirectory(dir=options.photos.parent if options.photos else None) as temporary:
        folder = Path(temporary)
        source = options.photos or make_photos(folder / "made", 8 if options.small else 200)
        photos = link_photos(source, sizes.images, folder / "photos")
        found: dict[str, Any] = {"measured": True, "device": name}
        parts: list[Callable[[], dict[str, Any]]] = [
            lambda: index_figures(spec, photos, folder / "home", options.device, sizes),
            lambda: training_figures(student, options.device, sizes),
            lambda: search_figures(options.device, sizes),
            lambda: fit_figures(options.device, sizes),
            lambda: select_figures(student, folder / "home", options.device, sizes),
        ]
        for figures in parts:
            found |= figures()
            print(f"{len(found)} figures", file=sys.stderr, flush=True)
    conclude(options.out, "GPU", table(found, name), found, as_json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
