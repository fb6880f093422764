"""`plada select` at the size of ImageNet-21K: seconds by stage, memory of its own, and the longest silence.

    python benchmarks/scale.py [--scratch DIR] [--images N] [--dimension D] [--only CASE,...] [--json]

The index is synthetic: 14 197 122 images in 21 841 folders, embeddings drawn from a mixture with a centre a folder; the target's
embeddings are drawn from the same mixture around some of the centres. All else is the real command: the table, its digests, the
teacher, the pass over all images, the rules, the coder, the leak check of 500 test images. Each case runs in a process of
its own. CLIENT, the last, is what is done with the payload of the first (benchmarks/scale_client.py). DIR (16 GB) is kept and used
again, what was measured there too (--fresh measures all anew). Writes the section "Scale" of docs/benchmarks.md; with --json the last line holds
select_auto_s, select_fixed_s, select_peak_gb, thousand_classes_s, leak_s, silent_s and every case.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.document import conclude, machine
from benchmarks.payload import simulate
from benchmarks.report import make_photos, own_memory, write_keys
from benchmarks.scale_client import client_table, run_client
from plada.common.arrays import F16, F32, I64
from plada.common.progress import Progress
from plada.encoders.encoder import EncoderConfig
from plada.indexer.embed import EmbeddedRows
from plada.indexer.store import Store, shard_rows
from plada.labeler.embedded_target import EmbeddedSplit, EmbeddedTarget
from plada.sources.decode import View
from plada.sources.manifest import content_hash
from plada.sources.reference import manifest_path, save_reference
from plada.sources.targets.target import Split, Target

HERE = Path(__file__).resolve().parents[1]
IMAGES, DIMENSION = 14_197_122, 512
NAME, LOCATION = "synthetic", "simulated:imagenet21k"
PHOTOS, TESTS = 50, 500
_BANK = 65_536  # rows of noise that are drawn once and used again, turned
_SPREAD, _APART = 0.8, 0.2  # of images about their centre, and of centres: a linear teacher is right nine times in ten


@dataclass(frozen=True, slots=True)
class Case:
    """One command: classes of the target, training and validation images of each, rule, bytes."""

    classes: int
    train: int
    validation: int
    rule: str
    budget: int


CASES = {
    "fixed-1MB": Case(101, 750, 50, "herd-sure", 1_000_000),
    "auto-1MB": Case(101, 750, 50, "auto", 1_000_000),
    "fixed-100kB": Case(101, 750, 50, "herd-sure", 100_000),
    "auto-100kB": Case(101, 750, 50, "auto", 100_000),
    "thousand-classes": Case(1000, 950, 50, "herd-sure", 1_000_000),
}


CLIENT = "client"


class Photos:
    """A collection of a few photographs, over and over, under the keys of a file."""

    location = LOCATION

    def __init__(self, keys: Path, photos: Path) -> None:
        with pa.memory_map(str(keys)) as source:
            self.keys = pa.ipc.open_file(source).read_all().column("key")
        self.data = [path.read_bytes() for path in sorted(photos.glob("*.jpg"))]
        self.sizes = np.array([len(data) for data in self.data])[np.arange(len(self.keys)) % len(self.data)]

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, position: int) -> bytes:
        return self.data[position % len(self.data)]

    def stream(self, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
        return ((position, self.read(position)) for position in range(start, stop))


@dataclass(frozen=True, slots=True)
class Mixture:
    """Folders of images, each with a centre of its own; axes have spreads that fall as those of encoders do."""

    bounds: I64
    dimension: int

    def centres(self) -> F32:
        rng = np.random.default_rng(1)
        drawn = rng.standard_normal((len(self.bounds) - 1, self.dimension), np.float32)
        return np.asarray(_APART * self.scale * drawn)

    @property
    def scale(self) -> F32:
        spread = (1 + np.arange(self.dimension)) ** -0.35
        return np.asarray(spread / np.sqrt((spread**2).sum()), np.float32)

    def noise(self, rows: int, seed: int) -> F32:
        drawn = np.random.default_rng(seed).standard_normal((rows, self.dimension), np.float32)
        return np.asarray(_SPREAD * self.scale * drawn)

    def blocks(self, rows: int) -> Iterator[tuple[int, F16]]:
        """(first position, embeddings float16 [rows, d]) of all images; noise is used again with other signs and in other order."""
        centres, bank, images = self.centres(), self.noise(_BANK, 2), int(self.bounds[-1])
        rng = np.random.default_rng(3)
        for start in range(0, images, rows):
            stop = min(start + rows, images)
            folders = np.searchsorted(self.bounds, np.arange(start, stop), "right") - 1
            signs = rng.choice(np.array([-1, 1], np.float32), self.dimension)
            turned = np.roll(bank, int(rng.integers(_BANK)), axis=0)[np.arange(stop - start) % _BANK]
            yield start, (centres[folders] + turned * signs).astype(np.float16)

    def target(self, case: Case) -> EmbeddedTarget:
        """A target whose classes lie beside some of the folders' centres."""
        rng = np.random.default_rng(4)
        folders = rng.choice(len(self.bounds) - 1, case.classes, replace=case.classes >= len(self.bounds))
        middle = self.centres()[folders] + 0.125 * self.noise(case.classes, 5)

        def split(each: int, seed: int) -> EmbeddedSplit:
            labels = np.repeat(np.arange(case.classes), each)
            return EmbeddedSplit(middle[labels] + self.noise(len(labels), seed), labels, 0)

        return EmbeddedTarget(split(case.train, 6), split(case.validation, 7), None)


def make_index(scratch: Path, images: int, dimension: int) -> Mixture:
    """The synthetic index in `scratch`/home, if it is not there already."""
    bounds = simulate(images, 2, 0.01, 0)[0]
    mixture, home, photos = Mixture(bounds, dimension), scratch / "home", scratch / "photos"
    if not photos.exists():
        make_photos(photos, PHOTOS)
    if not (scratch / "keys.arrow").exists():
        write_keys(bounds, scratch / "keys.arrow")
    store = Store(home / "indexes" / NAME, "images-0")
    if store.info() is not None:
        return mixture
    collection: Any = Photos(scratch / "keys.arrow", photos)
    hashes = np.array([list(content_hash(data)) for data in collection.data], np.uint8)
    begun = store.begin({"images": images, "dimension": dimension}, restart=True)
    assert begun == 0
    for start, vectors in mixture.blocks(shard_rows(images)):
        rows = np.arange(start, start + len(vectors))
        store.append(
            EmbeddedRows(
                start=start, vectors=vectors, hashes=hashes[rows % len(hashes)], sizes=collection.sizes[rows],
                width=np.full(len(rows), 500, np.int32), height=np.full(len(rows), 375, np.int32),
                fingerprints=np.random.default_rng(start).integers(0, 256, (len(rows), 64), np.uint8),
                status=[""] * len(rows),
            ),
            collection.keys.slice(start, len(rows)).combine_chunks(),
        )  # fmt: skip
    path = manifest_path(home, collection)
    path.parent.mkdir(parents=True, exist_ok=True)
    encoder = EncoderConfig(name="none", dimension=dimension, view=asdict(View(size=224)), model_args={})
    info = {
        "name": NAME, "images": images, "dimension": dimension, "reference": {"location": LOCATION, "name": NAME},
        "encoder": asdict(encoder),
    }  # fmt: skip
    manifest, _ = store.finish(collection.keys, info, path)
    save_reference(home, NAME, collection, manifest)
    return mixture


@dataclass(slots=True)
class Listener:
    """Hears progress: the longest silence, and what was said last before it."""

    silence: float = 0.0
    silent_after: str = "the start"
    last: float = field(default_factory=time.monotonic)
    stage: str = "the start"

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self.last > self.silence:
            self.silence, self.silent_after = now - self.last, self.stage
        self.last, self.stage = now, f"{progress.stage} {progress.note}".strip()


def watch_memory(peak: list[float]) -> None:
    """Keep in peak[0] the most bytes that this process has had that are no pages of files."""

    def watch() -> None:
        while True:
            peak[0] = max(peak[0], own_memory() * 1e6)
            time.sleep(0.1)

    threading.Thread(target=watch, daemon=True).start()


def run_case(scratch: Path, mixture: Mixture, case: Case, out: Path) -> dict[str, Any]:
    """Run the command, in this process."""
    import plada
    from plada.api import select as command
    from plada.retrieval import index as retrieval

    peak = [0.0]
    watch_memory(peak)
    images: Any = Photos(scratch / "keys.arrow", scratch / "photos")
    names = tuple(f"class {number}" for number in range(case.classes))
    embedded = mixture.target(case)
    tests: Any = _test_pictures()
    empty = Split(images, np.arange(len(embedded.train.labels)), embedded.train.labels)
    kept = Split(images, np.arange(len(embedded.validation.labels)), embedded.validation.labels)
    shown = Split(tests, np.arange(TESTS), np.arange(TESTS) % case.classes)
    target = Target("synthetic", names, empty, kept, shown)
    # Embeddings are given, and the simulated images have no path: all else is the real command.
    patched: Any = command
    patched.named_target = lambda _: target
    patched.embed_target = lambda *_, **__: embedded
    opened: Any = retrieval
    opened.open_source = lambda *_, **__: images
    listener = Listener()
    began, used = time.monotonic(), time.process_time()
    selection = plada.select(
        NAME, target="synthetic", budget=case.budget, rule=case.rule, out=out, home=scratch / "home", report=listener
    )
    listener(Progress("end", 0, None, 0))
    return {
        **asdict(case),
        "images": selection.report.images,
        "bytes": selection.report.bytes,
        "chosen_rule": selection.report.rule,
        "seconds": time.monotonic() - began,
        "cpu_seconds": time.process_time() - used,
        "peak_gb": peak[0] / 1e9,
        "silent_s": listener.silence,
        "silent_after": listener.silent_after,
        "stages": dict(selection.report.seconds),
    }


def _test_pictures() -> Any:
    """500 pictures that have nothing to do with the reference's."""
    from PIL import Image

    from benchmarks.leaks import Held

    def stored(seed: int) -> bytes:
        coarse = np.random.default_rng(10_000 + seed).integers(0, 255, (7, 9, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC).save(file, "JPEG")
        return file.getvalue()

    return Held(None, tuple(f"{seed:03d}" for seed in range(TESTS)), tuple(stored(seed) for seed in range(TESTS)))


def main() -> None:
    """Make the index, run the cases, write the section, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", type=Path)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--dimension", type=int, default=DIMENSION)
    parser.add_argument("--only", default=",".join((*CASES, CLIENT)))
    parser.add_argument("--fresh", action="store_true", help="measure what was measured in DIR once more")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=HERE / "docs" / "benchmarks.md")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as fresh:
        scratch = args.scratch or Path(fresh)
        scratch.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        mixture = make_index(scratch, args.images, args.dimension)
        if args.one == CLIENT:
            photos = Photos(scratch / "keys.arrow", scratch / "photos")
            print(json.dumps(run_client(scratch, scratch / f"{next(iter(CASES))}.plada", photos)))
            return
        if args.one is not None:
            print(json.dumps(run_case(scratch, mixture, CASES[args.one], scratch / f"{args.one}.plada")))
            return
        print(f"index ready after {time.monotonic() - began:.0f} s", file=sys.stderr)
        kept = scratch / "measured.json"
        found: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() and not args.fresh else {}
        for name in args.only.split(","):
            if name in found:
                continue
            command = [sys.executable, __file__, "--scratch", str(scratch), "--images", str(args.images), "--one", name]
            done = subprocess.run(
                [*command, "--dimension", str(args.dimension)], stdout=subprocess.PIPE, text=True, check=True
            )
            found[name] = json.loads(done.stdout.splitlines()[-1])
            kept.write_text(json.dumps(found))
            print(json.dumps({name: found[name]}), file=sys.stderr, flush=True)
    conclude(args.out, "Scale", table(found, args.images, args.dimension), summary(found), as_json=args.json)


def table(found: dict[str, Any], images: int, dimension: int) -> list[str]:
    """The section's text."""
    lines = [
        "## Scale",
        "",
        f"`python benchmarks/scale.py`, {machine()}, load {os.getloadavg()[0]:.1f} at the end. `select` from {images:,} images "
        f"with embeddings of {dimension} numbers, a synthetic index, for synthetic targets. Memory is the process's own, without pages "
        "of files; silence is the longest time between two reports of progress.",
        "",
        "| case | classes x images | rule | budget | images | seconds | of them CPU | GB | silence | after | stages |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in (name for name in CASES if name in found):
        row = found[name]
        stages = ", ".join(f"{stage} {seconds:.0f}" for stage, seconds in row["stages"].items() if seconds >= 0.5)
        lines.append(
            f"| {name} | {row['classes']} x {row['train'] + row['validation']} | {row['chosen_rule']} | {row['budget']:,} | "
            f"{row['images']:,} | {row['seconds']:.0f} | {row['cpu_seconds']:.0f} | {row['peak_gb']:.1f} | {row['silent_s']:.1f} | "
            f"{row['silent_after']} | {stages} |"
        )
    return lines + (client_table(found[CLIENT]) if CLIENT in found else [])


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """The figures of the last line."""
    cases = [found[name] for name in CASES if name in found]
    named = {"select_auto_s": "auto-1MB", "select_fixed_s": "fixed-1MB", "thousand_classes_s": "thousand-classes"}
    return {
        **{name: round(found[case]["seconds"], 1) for name, case in named.items() if case in found},
        "select_peak_gb": round(max((row["peak_gb"] for row in cases), default=0), 2),
        "leak_s": round(max((row["stages"]["leaks"] for row in cases), default=0), 1),
        "silent_s": round(max((row["silent_s"] for row in cases), default=0), 1),
        "cases": found,
    }


if __name__ == "__main__":
    main()
