"""Bytes and seconds of the payload's coders, on real contents and at the size of ImageNet-21K.

    python benchmarks/payload.py --codec DIR [--pack128 FILE] [--large] [--json]

DIR holds TARGET_RULE_KEEP.npz (positions, labels, n_reference, n_classes of a reference of 200 folders of 200 images) and
the packs pack64.npy and pack64_other.npy. Bytes are those after the coder's number and k, which the paper's coder is
given as well. Writes the section "Payload" of docs/benchmarks.md.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.document import machine, write_section
from plada.common.machine import peak_memory
from plada.payload.coders import arithmetic, block_model, pack_model
from plada.payload.coders import compiled as fast
from plada.payload.coders.body import decode_body, encode_body
from plada.payload.coders.paper_coders import paper_bytes
from plada.payload.shared_context import SharedContext
from plada.payload.varints import varint

I64 = npt.NDArray[np.int64]
HERE = Path(__file__).resolve().parents[1]
KEEPS = ("0.5", "1", "5", "10")


@dataclass(frozen=True, slots=True)
class Content:
    """One content of DIR and what the paper's coder makes of it."""

    name: str
    keep: str
    positions: I64
    labels: I64
    images: int
    classes: int
    paper: int

    def coded(self, coder: str, shared: SharedContext) -> int:
        """Bytes behind the coder's number and k."""
        body = encode_body(
            self.positions, self.labels, images=self.images, classes=self.classes, coder=coder, shared=shared
        )
        return len(body) - 1 - len(varint(len(self.positions)))


def contents(folder: Path) -> list[Content]:
    """All contents of a folder, in order of their names."""
    found = []
    for path in sorted(folder.glob("*_*_*.npz")):
        data = np.load(path)
        positions, labels = data["positions"].astype(np.int64), data["labels"].astype(np.int64)
        images, classes = int(data["n_reference"]), int(data["n_classes"])
        paper = paper_bytes(positions, labels, images, classes)
        found.append(Content(path.stem, path.stem.rsplit("_", 1)[1], positions, labels, images, classes, paper))
    return found


@contextmanager
def ideal_bits(bits: list[float]) -> Iterator[None]:
    """Add up -log2 p of every bit that the plain functions code meanwhile."""
    real = arithmetic.code

    def code(io: Any, buffer: Any, bit: int, p: int) -> int:
        done = real(io, buffer, bit, p)
        bits[0] -= math.log2((p if done else 65536 - p) / 65536)
        return done

    modules, twins = (arithmetic, block_model, pack_model), fast._twins
    for module in modules:
        module.code = code  # type: ignore[attr-defined]
    fast._twins = lambda steps: {}
    try:
        yield
    finally:
        fast._twins = twins
        for module in modules:
            module.code = real  # type: ignore[attr-defined]


def excess(content: Content, coder: str, shared: SharedContext) -> float:
    """Bytes over the model's own code length, in parts of it, after the two bytes that are allowed."""
    bits = [0.0]
    with ideal_bits(bits):
        size = content.coded(coder, shared)
    ideal = bits[0] / 8
    return max(size - 2 - ideal, 0) / ideal


def simulate(images: int, classes: int, share: float, seed: int) -> tuple[I64, I64, I64]:
    """(bounds, positions, labels) like a choice from ImageNet-21K: blocks of 650 +- 40 %, their rates gamma distributed
    with neighbours alike, one class in most of a block."""
    rng = np.random.default_rng(seed)
    sizes = (650 * (1 + 0.4 * rng.uniform(-1, 1, images // 600))).astype(np.int64)
    bounds = np.append(0, np.cumsum(sizes))
    bounds = np.append(bounds[bounds < images], images)
    sizes = np.diff(bounds)
    rates = rng.gamma(0.12, 1, len(sizes))
    rates *= np.exp(0.7 * np.convolve(rng.normal(size=len(sizes)), np.ones(5) / math.sqrt(5), "same"))
    counts = rng.binomial(sizes, np.minimum(rates / (rates * sizes).sum() * share * images, 0.9))
    positions = np.concatenate(
        [
            first + np.sort(rng.choice(m, n, replace=False))
            for first, m, n in zip(bounds, sizes, counts, strict=False)
            if n
        ]
    ).astype(np.int64)
    usual = rng.integers(0, classes, len(sizes))[np.searchsorted(bounds, positions, "right") - 1]
    labels = np.where(rng.random(len(positions)) < 0.9, usual, rng.integers(0, classes, len(positions)))
    return bounds, positions, labels.astype(np.int64)


def features(images: int, positions: I64, labels: I64, classes: int, seed: int) -> npt.NDArray[np.int8]:
    """64 features of decaying spread; kept images lie about their class's centre."""
    rng = np.random.default_rng(seed)
    spread = 32 / np.sqrt(1 + np.arange(64) / 2)
    made = np.empty((images, 64), np.int8)
    for at in range(0, images, 1 << 18):
        rows = made[at : at + (1 << 18)]
        rows[:] = np.clip(np.rint(rng.standard_normal(rows.shape, np.float32) * spread), -127, 127)
    centres = rng.normal(size=(classes, 64)) * spread * 1.2
    for at in range(0, len(positions), 1 << 16):
        some = slice(at, at + (1 << 16))
        near = centres[labels[some]] + rng.normal(size=(len(labels[some]), 64)) * spread * 0.8
        made[positions[some]] = np.clip(np.rint(near), -127, 127)
    return made


def timed(
    positions: I64, labels: I64, *, images: int, classes: int, coder: str, shared: SharedContext
) -> dict[str, float]:
    """Bytes, seconds to encode and to decode, after a first call on something small."""
    start = time.perf_counter()
    body = encode_body(positions, labels, images=images, classes=classes, coder=coder, shared=shared)
    middle = time.perf_counter()
    found = decode_body(body, images=images, classes=classes, shared=shared)
    end = time.perf_counter()
    assert np.array_equal(found[0], positions) and np.array_equal(found[1], labels)
    return {"bytes": len(body), "encode_s": middle - start, "decode_s": end - middle}


def large(pack: bool) -> tuple[list[str], dict[str, float]]:
    """Lines of a table, and figures, at the size of ImageNet-21K."""
    images = 14_197_122
    lines = ["", "Simulated, 14 197 122 images, compiled functions:", ""]
    lines += [
        "| C | keep | k | paper KiB | coder | KiB | ratio | encode, decode s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    figures: dict[str, float] = {}
    bounds, positions, labels = simulate(20_000, 3, 0.01, 0)
    timed(positions, labels, images=20_000, classes=3, coder="blocks", shared=SharedContext(bounds))
    for classes, share in ((101, 0.01), (10, 0.01), (10_450, 0.01), (101, 0.1)):
        bounds, positions, labels = simulate(images, classes, share, 0)
        paper = paper_bytes(positions, labels, images, classes)
        for coder in ("blocks", "auto"):
            done = timed(positions, labels, images=images, classes=classes, coder=coder, shared=SharedContext(bounds))
            lines.append(
                f"| {classes} | {100 * share:.0f} % | {len(positions)} | {paper / 1024:.1f} | {coder} | {done['bytes'] / 1024:.1f} | "
                f"{done['bytes'] / paper:.3f} | {done['encode_s']:.2f}, {done['decode_s']:.2f} |"
            )
            if (classes, share) == (101, 0.01):
                figures |= {
                    "encode_s": done["encode_s"],
                    "decode_s": done["decode_s"],
                    "ratio_large": done["bytes"] / paper,
                }
    figures["peak_mb"] = (peak_memory() or 0) / (1 << 20)
    if pack:
        bounds, positions, labels = simulate(images, 101, 0.01, 0)
        shared = SharedContext(bounds, features(images, positions, labels, 101, 1))
        paper = paper_bytes(positions, labels, images, 101)
        done = timed(positions, labels, images=images, classes=101, coder="pack", shared=shared)
        lines.append(
            f"| 101 | 1 % | {len(positions)} | {paper / 1024:.1f} | pack (made-up features) | {done['bytes'] / 1024:.1f} | "
            f"{done['bytes'] / paper:.3f} | {done['encode_s']:.1f}, {done['decode_s']:.1f} |"
        )
        figures |= {"pack_encode_s": done["encode_s"], "pack_decode_s": done["decode_s"]}
    return lines, figures


def main() -> None:
    """Measure, write the section, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codec", type=Path, required=True)
    parser.add_argument("--pack128", type=Path)
    parser.add_argument("--large", action="store_true", help="also at the size of ImageNet-21K")
    parser.add_argument("--large-pack", action="store_true", help="also a pack there: 1 GB of memory, minutes")
    parser.add_argument("--every", type=int, default=1, help="only every n-th content, to try the benchmark itself")
    parser.add_argument("--out", type=Path, default=HERE / "docs" / "benchmarks.md")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    all_contents = contents(args.codec)[:: args.every]
    bounds = np.arange(0, all_contents[0].images + 1, 200)
    contexts = {"blocks": ("blocks", SharedContext(bounds)), "even-blocks": ("even-blocks", SharedContext())}
    packs = {
        "pack64": args.codec / "pack64.npy",
        "pack64_other": args.codec / "pack64_other.npy",
        "pack128": args.pack128,
    }
    contexts |= {name: ("pack", SharedContext(bounds, np.load(path))) for name, path in packs.items() if path}
    ratios: dict[str, list[float]] = {name: [] for name in contexts}
    for content in all_contents:
        for name, (coder, shared) in contexts.items():
            ratios[name].append(content.coded(coder, shared) / content.paper)
    lines = [
        f"Payload, `python benchmarks/payload.py`, {len(all_contents)} contents of 40 000 images, {machine()}. Mean ratio to the "
        "paper's coder (the smaller of index list and bitmap with labels, zstd-19), headers excluded:",
        "",
        "| coder | " + " | ".join(f"{keep} %" for keep in KEEPS) + " | all | worst |",
        "| --- |" + " --- |" * (len(KEEPS) + 2),
    ]
    for name, values in ratios.items():
        row = [np.mean([v for v, c in zip(values, all_contents, strict=True) if c.keep == keep]) for keep in KEEPS]
        cells = " | ".join(f"{v:.3f}" for v in [*row, np.mean(values), max(values)])
        lines.append(f"| {name} | {cells} |")
    over = {
        name: max(excess(content, *contexts[name]) for content in all_contents[:: 1 if name == "blocks" else 8])
        for name in ("blocks", "pack64")
    }
    lines += ["", "Real bytes over the model's own code length, beyond 2 bytes, at most: "
              + ", ".join(f"{name} {100 * value:.3f} %" for name, value in over.items()) + "."]  # fmt: skip
    figures: dict[str, float] = {
        "ratio_plain": float(np.mean(ratios["blocks"])),
        "ratio_even": float(np.mean(ratios["even-blocks"])),
        "worst_ratio_plain": max(ratios["blocks"]),
        "ratio_pack": float(np.mean(ratios["pack64"])),
        "ratio_other": float(np.mean(np.minimum(ratios["pack64_other"], ratios["blocks"]))),
        "excess_over_ideal": max(over.values()),
    }
    if "pack128" in ratios:
        figures["ratio_128"] = float(np.mean(ratios["pack128"]))
    if args.large or args.large_pack:
        more, numbers = large(args.large_pack)
        lines += more
        figures |= numbers
    text = "\n".join(lines)
    write_section(args.out, "Payload", text)
    print(text)
    if args.json:
        print(json.dumps({name: round(value, 5) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
