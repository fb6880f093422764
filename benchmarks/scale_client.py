"""What a client, and whoever looks at a payload, does with the one that `benchmarks/scale.py` made: seconds and memory of each step.

The reference is the simulated one of that benchmark: a few photographs under 14 197 122 keys.
"""

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import own_memory
from plada.common.arrays import F32, U8
from plada.sources.decode import View
from plada.sources.targets.target import Split
from plada.trainer.evaluation import evaluate_split

READ = 5_000  # pictures that a student's data path decodes, and that are evaluated
CLASSES = 10_000  # of the evaluation
_SIDE = 64  # pixels


def run_client(scratch: Path, payload: Path, photos: Any) -> list[dict[str, Any]]:
    """Every step on `payload`, in this process: name, seconds, of them CPU, GB of its own afterwards, and what came of it."""
    import plada
    from plada.trainer import payload_context, payload_images

    for module in (payload_context, payload_images):
        patched: Any = module
        patched.open_source = lambda *_, **__: photos
    home, out = scratch / "home", scratch / "client"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    labels: list[plada.Payload] = []

    def read() -> str:
        labels.append(plada.read_payload(payload, home=home))
        return f"{len(labels[0]):,} labels"

    def inspect() -> str:
        return f"{len(json.dumps(plada.inspect(payload, home=home).to_dict())):,} bytes of JSON"

    def data() -> str:
        images = payload_images.open_payload_images(
            labels[0], payload_images.ReferenceCopy(location="simulated"), home=home
        )
        images.refuse_lost()
        began, view = time.perf_counter(), View(size=_SIDE)
        from plada.sources.decode import load_pixels

        rows = labels[0].positions[:READ]
        decoded = sum(
            int(load_pixels(images.read, rows[start : start + 1024], view, stage="data")[1].sum())
            for start in range(0, len(rows), 1024)
        )
        return f"{decoded:,} pictures read, hashed, decoded: {decoded / (time.perf_counter() - began):.0f} a second"

    def export() -> str:
        plada.export(payload, to="csv", out=out / "labels.csv", reference="simulated", home=home)
        return f"{(out / 'labels.csv').stat().st_size / 1e6:.1f} MB"

    def report() -> str:
        page = plada.report(payload, out=out / "report.html", reference="simulated", home=home)
        return f"{page.pictures} pictures, {page.bytes / 1e6:.1f} MB"

    def evaluate() -> str:
        weights: F32 = np.random.default_rng(0).standard_normal((3 * 8 * 8, CLASSES), np.float32)

        def logits(pixels: U8) -> F32:
            return np.asarray(pixels[:, ::8, ::8].reshape(len(pixels), -1).astype(np.float32) @ weights, np.float32)

        labelled = np.random.default_rng(1).integers(0, CLASSES, READ)
        split = Split(photos, np.arange(READ), labelled)
        found = evaluate_split(logits, View(size=_SIDE), split, tuple(f"class {number}" for number in range(CLASSES)))
        return f"{READ:,} pictures, {CLASSES:,} classes, {len(json.dumps(found.to_dict())) / 1e6:.1f} MB of JSON"

    steps: dict[str, Callable[[], str]] = {
        "inspect": inspect, "read_payload": read, "data": data, "export csv": export, "report": report,
        "evaluate": evaluate,
    }  # fmt: skip
    found = []
    for name, step in steps.items():
        print(name, file=sys.stderr, flush=True)
        began, used = time.perf_counter(), time.process_time()
        result = step()
        found.append(
            {
                "step": name,
                "seconds": time.perf_counter() - began,
                "cpu_seconds": time.process_time() - used,
                "own_gb": own_memory() / 1e3,
                "result": result,
            }
        )
    return found


def client_table(found: list[dict[str, Any]]) -> list[str]:
    """Markdown of what `run_client` measured."""
    lines = [
        "",
        "With the payload of the first case: what a client does, and whoever looks at it.",
        "",
        "| step | seconds | of them CPU | GB | |",
        "| --- | --- | --- | --- | --- |",
    ]
    return lines + [
        f"| {row['step']} | {row['seconds']:.1f} | {row['cpu_seconds']:.1f} | {row['own_gb']:.2f} | {row['result']} |"
        for row in found
    ]
