"""The leak check: planted near-copies found, and false alarms among images that have nothing to do with each other.

    python ../shared/data/unpack.py DIR
    python benchmarks/leaks.py --data DIR [--seed 0] [--json]

Half of the copies are test images made of reference images, half are reference images made of the targets' test images.
Those test images, all of them, are the unrelated ones: whatever they match in the reference beside their own copy is a
false alarm, real duplicates included. The last line with --json holds leak_recall and leak_false_rate.
"""

import argparse
import io
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image, ImageOps

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from plada.sources.collection import Collection
from plada.sources.decode import decode
from plada.sources.formats.folder import open_folder
from plada.sources.formats.tars import open_tars
from plada.sources.leaks.fingerprints import scan_fingerprints
from plada.sources.leaks.leaks import Leaks, find_leaks, read_tests

PLANTED = 500
Change = Callable[[Image.Image, np.random.Generator], Image.Image]


@dataclass(frozen=True, slots=True)
class Held:
    """A collection whose images are partly those of another, partly held in memory behind them."""

    base: Collection | None
    names: tuple[str, ...]
    data: tuple[bytes, ...]
    location: str = "memory"

    def __len__(self) -> int:
        return (len(self.base) if self.base is not None else 0) + len(self.data)

    @property
    def keys(self) -> Any:
        own = pa.array(self.names, pa.string())
        if self.base is None:
            return own
        chunks = self.base.keys.chunks if isinstance(self.base.keys, pa.ChunkedArray) else [self.base.keys]
        return pa.chunked_array([*(chunk.cast(pa.string()) for chunk in chunks), own])

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        return np.full(len(self), -1, np.int64)

    def read(self, position: int) -> bytes:
        first = len(self) - len(self.data)
        return self.data[position - first] if self.base is None or position >= first else self.base.read(position)

    def stream(self, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
        return ((position, self.read(position)) for position in range(start, stop))


def crop(image: Image.Image, keep: float, rng: np.random.Generator) -> Image.Image:
    """The share `keep` of width and height, anywhere, every other time at a corner; half of them enlarged again."""
    (width, height), corner = image.size, rng.random() < 0.5
    size = (round(keep * width), round(keep * height))
    slack = (width - size[0], height - size[1])
    left, top = (int(rng.choice([0, room]) if corner else rng.integers(room + 1)) for room in slack)
    cut = image.crop((left, top, left + size[0], top + size[1]))
    return cut.resize(image.size, Image.Resampling.BICUBIC) if rng.random() < 0.5 else cut


def stored(image: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def through_64(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    # The shared reference is 64 pixels wide: for it, half of that is what 64 is for larger images.
    small = 64 if max(image.size) > 64 else 32
    return image.resize((small, small), Image.Resampling.BICUBIC).resize(image.size, Image.Resampling.BICUBIC)


KINDS: dict[str, tuple[Change, int]] = {  # what is done, and the quality of the JPEG that is kept
    "jpeg50": (lambda image, rng: image, 50),
    "resized": (through_64, 90),
    "cropped": (lambda image, rng: crop(image, 0.9, rng), 90),
    "mirrored": (lambda image, rng: ImageOps.mirror(image), 90),
}
MORE: dict[str, tuple[Change, int]] = {  # reported, not counted
    "cropped-tenth-of-area": (lambda image, rng: crop(image, 0.9**0.5, rng), 90),
    "flipped": (lambda image, rng: ImageOps.flip(image), 90),
    "grey": (lambda image, rng: image.convert("L").convert("RGB"), 90),
    "mirrored-jpeg50": (lambda image, rng: ImageOps.mirror(image), 50),
    "cropped-mirrored-jpeg50": (lambda image, rng: ImageOps.mirror(crop(image, 0.9, rng)), 50),
}


def measure(reference_tars: Path, targets: Path, *, seed: int = 0) -> dict[str, Any]:
    """Plant PLANTED copies (and as many of MORE) and look for them; see the module's text."""
    rng = np.random.default_rng(seed)
    reference = open_tars(reference_tars)
    folders = [open_folder(folder / "test") for folder in sorted(targets.iterdir()) if (folder / "test").is_dir()]
    originals = [
        (f"{Path(folder.location).parent.name}/{folder.keys[position]}", folder.read(position))
        for folder in folders
        for position in range(len(folder))
    ]
    plan = [(name, change, direction) for table in (KINDS, MORE) for name, change in table.items()
            for direction in ("test", "reference") for _ in range(PLANTED // len(KINDS) // 2 + 1)]  # fmt: skip
    counts = {name: PLANTED // len(table) for table in (KINDS, MORE) for name in table}
    plan = _cut(plan, counts)
    picks = {"test": iter(rng.choice(len(reference), len(plan), replace=False).tolist()),
             "reference": iter(rng.choice(len(originals), len(plan), replace=False).tolist())}  # fmt: skip
    copies: dict[str, list[tuple[str, int, bytes]]] = {"test": [], "reference": []}
    for name, (change, quality), direction in plan:
        source = next(picks[direction])
        data = reference.read(source) if direction == "test" else originals[source][1]
        copies[direction].append((name, source, stored(change(decode(data), rng), quality)))
    tests = Held(None, *_named([*originals, *((f"copy/{n}", data) for n, (_, _, data) in enumerate(copies["test"]))]))
    holding = Held(reference, *_named([(f"~copy/{n}", data) for n, (_, _, data) in enumerate(copies["reference"])]))
    start = time.perf_counter()
    fingerprints, readable = scan_fingerprints(holding, range(len(holding)))
    looked = time.perf_counter() - start
    found = find_leaks(read_tests(tests, np.arange(len(tests))), holding, [fingerprints])
    seconds = time.perf_counter() - start
    return {**_judged(found, copies, originals, len(reference)), "seconds": seconds, "seconds_looks": looked,
            "reference": len(holding), "unreadable": int((~readable).sum()), "seed": seed}  # fmt: skip


def _cut(plan: list[Any], counts: dict[str, int]) -> list[Any]:
    """At most counts[name] of each kind, half of them in each direction."""
    left = {(name, way): count // 2 + (count % 2 if way == "test" else 0) for name, count in counts.items()
            for way in ("test", "reference")}  # fmt: skip
    kept = []
    for entry in plan:
        if left[entry[0], entry[2]] > 0:
            left[entry[0], entry[2]] -= 1
            kept.append(entry)
    return kept


def _named(images: Sequence[tuple[str, bytes]]) -> tuple[tuple[str, ...], tuple[bytes, ...]]:
    return tuple(name for name, _ in images), tuple(data for _, data in images)


def _judged(
    found: Leaks, copies: dict[str, list[tuple[str, int, bytes]]], originals: list[tuple[str, bytes]], images: int
) -> dict[str, Any]:
    pairs = {(leak.test, leak.position): leak for leak in found.found}
    planted = [(name, len(originals) + n, source) for n, (name, source, _) in enumerate(copies["test"])]
    planted += [(name, source, images + n) for n, (name, source, _) in enumerate(copies["reference"])]
    hits: dict[str, list[bool]] = {}
    for name, test, position in planted:
        hits.setdefault(name, []).append((test, position) in pairs)
    own = {(test, position) for _, test, position in planted}
    strangers = [leak for pair, leak in pairs.items() if pair not in own and leak.test < len(originals)]
    false = sorted({leak.test for leak in strangers if leak.position < images})
    counted = [hit for name in KINDS for hit in hits[name]]
    return {
        "leak_recall": float(np.mean(counted)),
        "leak_false_rate": len(false) / len(originals),
        "planted": len(counted),
        "unrelated": len(originals),
        "recalls": {name: float(np.mean(values)) for name, values in hits.items()},
        "missed": [(name, test, position) for name, test, position in planted if (test, position) not in pairs],
        "flagged": [(leak.test_key, leak.key, leak.score) for leak in strangers if leak.position < images],
        # Copies of one target's images that match another image of a target: the same sign, the same leaf.
        "alike": [(leak.test_key, originals[copies["reference"][leak.position - images][1]][0], leak.score)
                  for leak in strangers if leak.position >= images],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="what unpack.py made: reference-tars and targets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.data / "reference-tars", options.data / "targets", seed=options.seed)
    if options.json:
        print(json.dumps({"type": "summary", **found}))
        return
    for name, value in found.items():
        print(f"{name:18s} {value}")


if __name__ == "__main__":
    main()
