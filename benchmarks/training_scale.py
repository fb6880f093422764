"""`plada train` on 1.3 million images of ImageNet-21K: what it takes until the first step, and to resume.

    python benchmarks/training_scale.py [--scratch DIR] [--reference N] [--images K] [--json]

The reference is simulated: 14 197 122 keys in 21 841 folders with a whole manifest, mapped from a file as a listing is; each image is
one of 200 JPEG files. All else is the real call: identity, comparison of the listing, the file of decoded pixels, checkpoints. Listing
itself is measured by benchmarks/sources.py. The student is small_cnn; its run is stopped after its first steps, as by Ctrl-C, and
started again. DIR is kept and used again. Writes the section "Training-scale" of docs/benchmarks.md; with --json the last line holds
check_s, missing_s, missing_reads, first_step_s, resume_s and peak_gb.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import plada
from benchmarks.document import conclude, machine
from benchmarks.payload import simulate
from benchmarks.report import make_photos, own_memory, write_keys
from benchmarks.scale import watch_memory
from plada.common.arrays import I64
from plada.common.progress import Progress
from plada.errors import ReferenceMismatch
from plada.networks.network import NetworkSpec
from plada.payload.payload import Payload
from plada.sources.manifest import Block, ManifestWriter, content_hash, key_id, load_manifest
from plada.sources.reference import manifest_path, save_reference
from plada.trainer.payload_images import PayloadImages, ReferenceCopy, open_payload_images
from plada.trainer.run import RunOptions

HERE = Path(__file__).resolve().parents[1]
REFERENCE, IMAGES, CLASSES = 14_197_122, 1_300_000, 1000
LOST = 100  # images that a copy lacks
_ROWS = 65_536
_SIDE = 24  # pixels of an image
_STEPS = 3  # steps after which the run is stopped


class Copy:
    """A client's copy: keys from a file, without the rows `lost`; images are a few photographs, over and over."""

    location = "simulated:training"

    def __init__(self, keys: Path, photos: Path, lost: I64 | None = None) -> None:
        with pa.memory_map(str(keys)) as source:
            whole = pa.ipc.open_file(source).read_all().column("key")
        self.data = [path.read_bytes() for path in sorted(photos.glob("*.jpg"))]
        sizes = np.array([len(data) for data in self.data])[np.arange(len(whole)) % len(self.data)]
        kept = np.ones(len(whole), np.bool_)
        kept[lost if lost is not None else []] = False
        self.keys = whole if lost is None else whole.filter(pa.array(kept))
        self.sizes: I64 = sizes[kept]
        self.reads = 0

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, position: int) -> bytes:
        self.reads += 1
        return self.data[position % len(self.data)]

    def stream(self, start: int, stop: int) -> Any:
        return ((position, self.read(position)) for position in range(start, stop))


def prepare(scratch: Path, reference: int, images: int) -> Payload:
    """Keys, photographs and manifest in `scratch`, where they are not there already, and a payload of `images` of them."""
    bounds, positions, labels = simulate(reference, CLASSES, min(1.0, 1.6 * images / reference), 0)
    kept = np.sort(np.random.default_rng(1).permutation(len(positions))[:images])
    positions, labels = positions[kept], labels[kept]
    make_photos(scratch / "photos")
    if not (scratch / "keys.arrow").exists():
        write_keys(bounds, scratch / "keys.arrow")
    copy: Any = Copy(scratch / "keys.arrow", scratch / "photos")
    path = manifest_path(scratch / "home", copy)
    if not path.exists():
        hashes = np.array([list(content_hash(data)) for data in copy.data], np.uint8)
        with ManifestWriter(path) as writer:
            for first in range(0, reference, _ROWS):
                keys = copy.keys.slice(first, _ROWS).combine_chunks()
                rows = np.arange(first, first + len(keys))
                wide, high = np.full(len(keys), 500, np.int32), np.full(len(keys), 375, np.int32)
                writer.write(Block(keys, copy.sizes[rows], hashes[rows % len(hashes)], wide, high, [None] * len(keys)))
            writer.finish(key_id(copy.keys))
        save_reference(scratch / "home", "training", copy, load_manifest(path))
    manifest = load_manifest(path)
    names = tuple(f"class {number}" for number in range(CLASSES))
    return Payload(positions, labels, names, reference, manifest.key_id, manifest.content_id)


def timed(work: Callable[[], Any]) -> float:
    """Seconds of `work`."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def until_a_step(payload: Payload, copy: Any, scratch: Path) -> float:
    """Seconds from the call of `train` to its first step; the run is then stopped, with a checkpoint."""
    start, first, steps = time.perf_counter(), list[float](), 0

    def report(progress: Progress) -> None:
        nonlocal steps
        if progress.stage == "train" and progress.done and not progress.note:
            first.append(time.perf_counter() - start)
            steps += 1
            if steps == _STEPS:
                os.kill(os.getpid(), signal.SIGINT)

    student = NetworkSpec(name="small_cnn", image_size=_SIDE)
    options = RunOptions(checkpoint_seconds=3600.0)
    recipe = {"epochs": 2, "supersample": 1}
    with patch("plada.trainer.payload_images.open_source", lambda *_, **__: copy):
        try:
            plada.train(
                payload, reference=copy.location, student=student, recipe=recipe, out=scratch / "model", run=options,
                device="cpu", home=scratch / "home", report=report,
            )  # fmt: skip
        except KeyboardInterrupt:
            return first[0]
    raise RuntimeError("the run came to its end")


def measure(scratch: Path, reference: int, images: int) -> dict[str, Any]:
    """All figures."""
    payload = prepare(scratch, reference, images)
    keys, photos = scratch / "keys.arrow", scratch / "photos"
    whole: Any = Copy(keys, photos)
    chosen = np.sort(np.random.default_rng(0).choice(payload.positions, min(LOST, len(payload)), replace=False))
    lacking: Any = Copy(keys, photos, chosen)
    place = ReferenceCopy(location=whole.location)

    def opened(copy: Any) -> PayloadImages:
        with patch("plada.trainer.payload_images.open_source", lambda *_, **__: copy):
            return open_payload_images(payload, place, home=scratch / "home")

    def refused() -> None:
        try:
            with patch("plada.trainer.payload_images._READ_FIRST", 0):  # also in a small trial of this benchmark
                opened(lacking)
        except ReferenceMismatch as err:
            assert f"{len(chosen)} of the payload's images are missing" in str(err), err
        else:
            raise RuntimeError("missing images were not refused")

    before, peak = own_memory() * 1e6, [0.0]
    watch_memory(peak)
    found: dict[str, Any] = {"reference": reference, "images": len(payload)}
    found["check_s"] = timed(lambda: opened(whole))
    found["missing_s"], found["missing_reads"] = timed(refused), lacking.reads
    for name in ("model", "model.checkpoint"):
        (scratch / name).unlink(missing_ok=True)
    found["first_step_s"] = until_a_step(payload, whole, scratch)
    found["checkpoint_bytes"] = (scratch / "model.checkpoint").stat().st_size
    found["resume_s"] = until_a_step(payload, whole, scratch)
    found["peak_gb"] = (peak[0] - before) / 1e9
    found["decoded"] = whole.reads
    return found


def main() -> None:
    """Measure, write the section, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", type=Path)
    parser.add_argument("--reference", type=int, default=REFERENCE)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--out", type=Path, default=HERE / "docs" / "benchmarks.md")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        scratch = args.scratch or Path(temporary)
        scratch.mkdir(parents=True, exist_ok=True)
        found = measure(scratch, args.reference, args.images)
    lines = [
        "## Training-scale",
        "",
        f"`python benchmarks/training_scale.py`, {machine()}. A payload of {found['images']:,} images of a simulated reference of "
        f"{found['reference']:,}, whose listing is there; small_cnn at {_SIDE} pixels on the CPU. Memory is the process's own, without "
        "pages of files, beyond what it held before.",
        "",
        "| what | |",
        "| --- | --- |",
        f"| identity, and the listing compared | {found['check_s']:.1f} s |",
        f"| a copy that lacks {LOST} of the images is refused, with their number and the first five | {found['missing_s']:.1f} s, "
        f"{found['missing_reads']} images read |",
        f"| from the call to the first step | {found['first_step_s']:.1f} s |",
        f"| from the call to the first step of a run that resumes | {found['resume_s']:.1f} s |",
        f"| memory | {found['peak_gb']:.2f} GB |",
    ]
    conclude(args.out, "Training-scale", lines, found, as_json=args.json)


if __name__ == "__main__":
    main()
