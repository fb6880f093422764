"""One pass of a linear teacher over 14.2 million synthetic embeddings with 1 000 classes.

    python benchmarks/selection_scan.py [--images 14197122] [--dimension 64] [--classes 1000] [--folder TMP] [--json]

Compared with reading the same file alone, and with reading it and the matrix product alone (the same blocks, nothing done
with the logits), by processor time: that of a thread that computes is what the pass costs, whatever else the machine does.
Run with OMP_NUM_THREADS=1. The shortlist is that of a fine-tuned teacher, 5 % of the images, for SHORTLISTED classes;
the pass that scores all images, of as many classes, stands beside it. `scores` are the other scores of the images that stay, from their embeddings. The file, 1.8 GB of
float16, is made in a temporary folder and deleted.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.document import conclude, machine
from plada.common.machine import peak_memory
from plada.labeler.label import SHARE
from plada.labeler.scan import scan_linear, score_all
from plada.labeler.shortlist import find_shortlist
from plada.networks.linear_head import Head

BLOCK = 16_384
SHORTLISTED = 101  # classes: those of Food-101
ROWS = 512  # as plada.labeler.scan multiplies them, and faster than larger blocks


def blocks(path: Path, images: int, dimension: int) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float16]]]:
    """(positions, vectors) of the file, block by block, read as a file is, not mapped."""
    with path.open("rb") as file:
        for start in range(0, images, BLOCK):
            count = min(BLOCK, images - start)
            yield (
                np.arange(start, start + count),
                np.fromfile(file, np.float16, count * dimension).reshape(-1, dimension),
            )


def draw_head(dimension: int, classes: int) -> Head:
    """A teacher that is as good as any: weights drawn at random."""
    weight = np.random.default_rng(1).normal(size=(dimension, classes)).astype(np.float32) * 10
    return Head(np.zeros(dimension, np.float32), weight, np.zeros(classes, np.float32))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=14_197_122)
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--depth", type=int, default=200)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    head, few = (draw_head(options.dimension, classes) for classes in (options.classes, SHORTLISTED))
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "vectors.f16"
        with path.open("wb") as file:
            base = rng.normal(size=(BLOCK * 16, options.dimension)).astype(np.float32)
            base /= np.linalg.norm(base, axis=1, keepdims=True)
            for start in range(0, options.images, len(base)):
                # The same noise, turned: new vectors at the speed of a disk.
                turned = np.roll(base[: options.images - start], start // len(base), axis=1)
                turned.astype(np.float16).tofile(file)
        began = time.process_time()
        for _ in blocks(path, options.images, options.dimension):
            pass
        read = time.process_time() - began
        inputs, out = np.empty((ROWS, options.dimension), np.float32), np.empty((ROWS, options.classes), np.float32)
        began = time.process_time()
        for _, vectors in blocks(path, options.images, options.dimension):
            for start in range(0, len(vectors), ROWS):
                some = vectors[start : start + ROWS]
                inputs[: len(some)] = some
                np.matmul(inputs[: len(some)], head.weight, out=out[: len(some)])
        product = time.process_time() - began
        before = peak_memory() or 0
        began = time.process_time()
        found = scan_linear(blocks(path, options.images, options.dimension), head, depth=options.depth)
        spent = time.process_time() - began
        began = time.process_time()
        score_all(blocks(path, options.images, options.dimension), head, ("margin", "energy"))
        scores = time.process_time() - began
        peak = peak_memory() or 0
        began, at = time.process_time(), time.monotonic()
        score_all(blocks(path, options.images, options.dimension), few, ("margin",))
        small, small_wall = time.process_time() - began, time.monotonic() - at
        began, at = time.process_time(), time.monotonic()
        shown = find_shortlist(
            blocks(path, options.images, options.dimension), few.logits, classes=SHORTLISTED, images=options.images,
            share=SHARE,
        )  # fmt: skip
        shortlist, shortlist_wall = time.process_time() - began, time.monotonic() - at
    result = {
        "images": options.images,
        "read_s": round(read, 2),
        "product_s": round(product, 2),
        "scan_s": round(spent, 2),
        "scores_s": round(scores, 2),
        "share_of_read": round(read / spent, 3),
        "share_of_product": round(product / spent, 3),
        "kept": len(found.positions),
        "shortlist_s": round(shortlist, 2),
        "shortlist_of_scan": round(shortlist / small, 2),
        "shortlist_of_scan_wall": round(shortlist_wall / small_wall, 2),
        "peak_mb": round(peak / (1 << 20)),
        "before_mb": round(before / (1 << 20)),
    }
    lines = [
        "## One pass of a linear teacher",
        "",
        f"`python benchmarks/selection_scan.py`, {machine()}. {options.images} vectors of {options.dimension} float16, {options.classes} "
        f"classes, {options.depth} images of each kept. Processor time of one thread.",
        "",
        "| reading alone, s | reading and matrix product, s | the pass by margins, s | with energies, everything kept, s | share of the product | peak, MB |",
        "| --- | --- | --- | --- | --- | --- |",
        f"| {read:.1f} | {product:.1f} | {spent:.1f} | {scores:.1f} | {result['share_of_product']:.2f} | {result['peak_mb']} |",
        "",
        f"With {SHORTLISTED} classes: the pass that keeps the margins of all images takes {small:.1f} s; the shortlist of {SHARE:.0%} for a fine-tuned teacher, "
        f"{len(shown.positions):,} images, is ready after {shortlist:.1f} s, {shortlist / small:.2f} times as long ({shortlist_wall / small_wall:.2f} by the clock).",
    ]
    conclude(options.out, "selection-scan", lines, result, as_json=options.json)


if __name__ == "__main__":
    main()
