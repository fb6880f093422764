"""`plada report` at the size of ImageNet-21K: seconds and memory of the page of a payload of 142 000 images.

    python benchmarks/report.py [--scratch DIR] [--photos DIR] [--images N] [--json]

The reference is simulated: 14 197 122 keys in 21 841 folders with a whole manifest, mapped from a file as a listing is;
each image is one of the JPEG files in DIR (without one, of 200 that are made here, 500 x 375 pixels). Reading, hashing,
decoding and shrinking the pictures that are shown is as always, but for the disk. DIR is kept and used again. The page
is written by a process of its own. Writes the section "Report" of docs/benchmarks.md.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from benchmarks.document import machine, write_section
from benchmarks.payload import simulate
from plada.common.files import whole_file
from plada.common.machine import peak_memory
from plada.payload.payload import Payload
from plada.payload.shared_context import SharedContext
from plada.sources.manifest import Block, ManifestWriter, content_hash, key_id, load_manifest
from plada.sources.reference import manifest_path, save_reference

HERE = Path(__file__).resolve().parents[1]
IMAGES = 14_197_122
CLASSES = (101, 10_450)
_ROWS = 65_536


class Simulated:
    """A collection whose keys lie in a file and whose images are a few photographs, over and over."""

    location = "simulated:imagenet21k"

    def __init__(self, keys: Path, photos: Path) -> None:
        with pa.memory_map(str(keys)) as source:
            self.keys = pa.ipc.open_file(source).read_all().column("key")
        self.files = sorted(photos.glob("*.jpg"))
        self.sizes = np.full(len(self.keys), -1, np.int64)

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, position: int) -> bytes:
        return self.files[position % len(self.files)].read_bytes()


def make_photos(folder: Path, count: int = 200) -> Path:
    """JPEG files of 500 x 375 pixels with as much detail as photographs have."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        rng = np.random.default_rng(number)
        layers = [Image.fromarray(rng.integers(0, 255, (side, side, 3), np.uint8)) for side in (4, 24, 120)]
        large = [np.asarray(layer.resize((500, 375), Image.Resampling.BICUBIC), np.float32) for layer in layers]
        mixed = 0.55 * large[0] + 0.3 * large[1] + 0.15 * large[2]
        Image.fromarray(mixed.astype(np.uint8)).save(folder / f"{number:03d}.jpg", quality=85)
    return folder


def write_keys(bounds: npt.NDArray[np.int64], path: Path) -> None:
    """Keys as ImageNet-21K has them, folder by folder, in an Arrow file."""

    def blocks() -> Iterator[list[str]]:
        for number, (first, last) in enumerate(itertools.pairwise(bounds)):
            folder = f"n{number:08d}"
            yield [f"{folder}/{folder}_{row:05d}" for row in range(int(last - first))]

    schema = pa.schema([("key", pa.string())])
    with whole_file(path) as part, pa.OSFile(str(part), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        waiting: list[str] = []
        for block in blocks():
            waiting += block
            if len(waiting) >= _ROWS:
                writer.write_batch(pa.record_batch([pa.array(waiting, pa.string())], schema=schema))
                waiting = []
        writer.write_batch(pa.record_batch([pa.array(waiting, pa.string())], schema=schema))


def prepare(scratch: Path, photos: Path, images: int, classes: int) -> None:
    """Keys, manifest, payload and table in `scratch`, where they are not there already."""
    bounds, positions, labels = simulate(images, classes, 0.01, 0)
    if not (scratch / "keys.arrow").exists():
        write_keys(bounds, scratch / "keys.arrow")
    collection: Any = Simulated(scratch / "keys.arrow", photos)
    path = manifest_path(scratch / "home", collection)
    if not path.exists():
        hashes = np.array([list(content_hash(file.read_bytes())) for file in collection.files], np.uint8)
        with ManifestWriter(path) as writer:
            for first in range(0, images, _ROWS):
                keys = collection.keys.slice(first, _ROWS).combine_chunks()
                rows = np.arange(first, first + len(keys))
                sizes = np.full(len(keys), 40_000, np.int64)
                width, height = np.full(len(keys), 500, np.int32), np.full(len(keys), 375, np.int32)
                shown = hashes[rows % len(hashes)]
                writer.write(Block(keys, sizes, shown, width, height, [None] * len(keys)))
            writer.finish(key_id(collection.keys))
        save_reference(scratch / "home", "imagenet21k", collection, load_manifest(path))
    if (scratch / f"{classes}.parquet").exists():
        return
    manifest = load_manifest(path)
    names = tuple(f"class {number}" for number in range(classes))
    payload = Payload(positions, labels, names, images, manifest.key_id, manifest.content_id)
    payload.save(scratch / f"{classes}.plada", "blocks", shared=SharedContext(bounds))
    write_table(payload, manifest.keys_at(positions), scratch / f"{classes}.parquet")


def write_table(payload: Payload, keys: Sequence[str], path: Path) -> None:
    """A selection's table with made-up scores."""
    from plada.common.statistics import class_ranks
    from plada.selection.table import write_table as write

    scores = np.random.default_rng(0).gamma(3.0, size=len(payload))
    best = np.argsort(-scores)
    ranks = np.empty(len(payload), np.int64)
    ranks[best] = class_ranks(payload.labels[best])
    columns = {
        "position": payload.positions.astype(np.uint32), "key": keys, "label": payload.labels.astype(np.int32),
        "score": scores, "class_rank": ranks.astype(np.int32),
    }  # fmt: skip
    counts = dict(zip(payload.classes, (100 * count for count in payload.class_counts()), strict=True))
    said = {
        "report": {"budget": 1_000_000, "rule": "herd-even", "reference_counts": counts},
        "asked": {"target": "food"},
    }
    write(pa.table(columns), path, said)


def run_one(scratch: Path, photos: Path, classes: int) -> dict[str, float]:
    """Write the page, in this process."""
    import plada
    from plada.trainer import payload_images as chosen

    collection: Any = Simulated(scratch / "keys.arrow", photos)
    opened: Any = chosen
    opened.open_source = lambda spec, home, **_: collection
    start, used = time.perf_counter(), time.process_time()
    made = plada.report(
        scratch / f"{classes}.plada", out=scratch / f"{classes}.html", reference="simulated",
        selection=scratch / f"{classes}.parquet", home=scratch / "home",
    )  # fmt: skip
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - used,
        "peak_mb": (peak_memory() or 0) / 1e6,
        "own_mb": own_memory(),
        "page_mb": made.bytes / 1e6,
        "images": float(made.images or 0),
        "pictures": float(made.pictures),
    }


def own_memory() -> float:
    """MB of this process that are no pages of files, now: the keys of the reference are mapped, and count until they are
    needed elsewhere. Linux alone knows; 0 elsewhere."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(float(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024 / 1e6


def measure(scratch: Path, photos: Path, classes: int) -> dict[str, float]:
    """The same in a process of its own, so that memory is the report's alone."""
    command = [sys.executable, __file__, "--scratch", str(scratch), "--photos", str(photos), "--one", str(classes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure, write the section, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", type=Path)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--images", type=int, default=IMAGES, help="fewer, to try the benchmark itself")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=HERE / "docs" / "benchmarks.md")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.one is not None:
        print(json.dumps(run_one(args.scratch, args.photos, args.one)))
        return
    with tempfile.TemporaryDirectory() as fresh:
        scratch = args.scratch or Path(fresh)
        photos = args.photos or make_photos(scratch / "photos")
        lines = [
            f"Report, `python benchmarks/report.py`, {machine()}, load {os.getloadavg()[0]:.0f} when it began. A payload of 1 % of a simulated reference of {args.images:,} "
            "images, whose pictures are JPEG files of 500 x 375 pixels; with the selection's table:",
            "",
            "| classes | images | pictures | page MB | seconds | of them CPU | peak MB | at the end, without pages of files |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        figures: dict[str, float] = {}
        for classes in CLASSES:
            prepare(scratch, photos, args.images, classes)
            found = measure(scratch, photos, classes)
            lines.append(
                f"| {classes} | {found['images']:.0f} | {found['pictures']:.0f} | {found['page_mb']:.2f} | {found['seconds']:.1f} | "
                f"{found['cpu_seconds']:.1f} | {found['peak_mb']:.0f} | {found['own_mb']:.0f} |"
            )
            figures |= {f"{name}_{classes}": value for name, value in found.items()}
    text = "\n".join(lines)
    write_section(args.out, "Report", text)
    print(text)
    if args.json:
        print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
