"""Listing, manifests, random access and the leak check, on the shared reference and on synthetic manifests.

    python ../shared/data/unpack.py DIR --as tars
    python benchmarks/sources.py --data DIR [--json] [--out docs/benchmarks.md] [--entries 14197122] [--skip-leaks]

The last line with --json holds manifest_ratio, random_access_per_s, leak_recall, leak_false_rate and the rest.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.document import machine, write_section
from plada.common.machine import peak_memory
from plada.sources.formats.listing import ListingWriter, load_listing
from plada.sources.formats.tars import TarCollection, open_tars
from plada.sources.manifest import Block, ManifestWriter, content_hash, key_id, load_manifest
from plada.sources.scan import scan_manifest

ROUNDS = 7
LARGE = 110_000  # bytes: the mean image of ImageNet-1K and -21K


def manifest_speed(tars: Path, scratch: Path) -> dict[str, float]:
    """Images a second of making a manifest file, and of reading and hashing alone; best of ROUNDS.

    Both know where each image lies. Alone: one thread reads it with one system call and hashes it, nothing else. The
    manifest: images are streamed, hashed and measured, rows encoded, written and synced to disk. Listing comes before:
    headers are walked, keys made and sorted.
    """
    listing = open_tars(tars).listing
    parts, offsets, sizes = (array.tolist() for array in (listing.part_of, listing.offsets, listing.sizes))
    places = list(zip(parts, offsets, sizes, strict=True))
    handles = [os.open(tars / part, os.O_RDONLY) for part in listing.parts]
    alone, whole, walked = [], [], []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for part, offset, size in places:
            content_hash(os.pread(handles[part], size, offset))
        alone.append(time.perf_counter() - start)
        start = time.perf_counter()
        collection = open_tars(tars)
        walked.append(time.perf_counter() - start)
        start = time.perf_counter()
        scan_manifest(collection, scratch / "manifest.parquet")
        whole.append(time.perf_counter() - start)
    for handle in handles:
        os.close(handle)
    n = len(places)
    return {
        "images": n,
        "mean_bytes": sum(sizes) / n,
        "alone_per_s": n / min(alone),
        "manifest_per_s": n / min(whole),
        "listing_per_s": n / min(walked),
        "ratio": min(alone) / min(whole),
        "ratio_with_listing": min(alone) / min(made + listed for made, listed in zip(whole, walked, strict=True)),
    }


def large_tars(folder: Path, *, images: int = 4000) -> Path:
    """Tars of members as large as ImageNet's mean image: random bytes behind the header of a JPEG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (500, 375)).save(buffer, "JPEG")
    header = buffer.getvalue()[:600]
    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(images // 500):
        with tarfile.open(folder / f"n{number:08d}.tar", "w") as tar:
            for row in range(500):
                member = tarfile.TarInfo(f"n{number:08d}_{row}.JPEG")
                member.size = int(rng.integers(LARGE // 2, LARGE * 3 // 2))
                tar.addfile(member, io.BytesIO(header + rng.bytes(member.size - len(header))))
    return folder


def random_access(collection: TarCollection, *, reads: int = 200_000) -> float:
    """Images a second read by random position, page cache warm, without decoding."""
    positions = np.random.default_rng(0).integers(0, len(collection), reads).tolist()
    for position in range(len(collection)):
        collection.read(position)
    start = time.perf_counter()
    for position in positions:
        collection.read(position)
    return reads / (time.perf_counter() - start)


def simulate(entries: int, order: str, folder: Path) -> dict[str, float]:
    """List `entries` keys fed in some order, write their manifest with random hashes, open and query both."""
    rng = np.random.default_rng(0)
    found: dict[str, float] = {"entries": entries}
    clock = time.perf_counter()
    spent_feeding = 0.0
    with ListingWriter("simulated", folder=folder / "listing") as writer:
        for first in range(0, entries, 65_536):
            start = time.perf_counter()
            index = np.arange(first, min(first + 65_536, entries), dtype=np.int64)
            # The way shards come: neighbours far apart. 6 700 417 is prime, so every key comes once.
            index = index * 6_700_417 % entries if order == "shuffled" else index
            names = [f"n{synset:08d}/n{synset:08d}_{number:03d}" for synset, number in zip((index // 650).tolist(), (index % 650).tolist(), strict=True)]  # fmt: skip
            keys = pa.array(names, pa.string())
            spent_feeding += time.perf_counter() - start
            writer.add_rows(keys, index % 200_000 + 1000, 0, index * 512)
        listing = writer.finish(("a.tar",), {"simulated": True})
    found["listing_s"] = time.perf_counter() - clock - spent_feeding
    clock = time.perf_counter()
    with ManifestWriter(folder / "manifest.parquet") as manifest_writer:
        for first in range(0, entries, 65_536):
            n = min(65_536, entries - first)
            hashes = rng.integers(0, 256, (n, 16), dtype=np.uint8)
            numbers = rng.choice(np.array([333, 375, 500], np.int32), (2, n))
            rows = slice(first, first + n)
            manifest_writer.write(
                Block(listing.keys[rows], listing.sizes[rows], hashes, numbers[0], numbers[1], [None] * n)
            )
        manifest_writer.finish(key_id(listing.keys))
    found["manifest_s"] = time.perf_counter() - clock
    found["manifest_mb"] = (folder / "manifest.parquet").stat().st_size / 1e6
    found["listing_mb"] = sum(file.stat().st_size for file in (folder / "listing").glob("*")) / 1e6
    found["anonymous_mb"] = anonymous_mb()
    clock = time.perf_counter()
    manifest = load_manifest(folder / "manifest.parquet")
    found["open_ms"] = 1e3 * (time.perf_counter() - clock)
    clock = time.perf_counter()
    load_listing(folder / "listing", lambda _: True)
    found["open_listing_ms"] = 1e3 * (time.perf_counter() - clock)
    positions = rng.integers(0, entries, 1000).tolist()
    clock = time.perf_counter()
    rows_found = [manifest.row(position) for position in positions]
    found["by_position_ms"] = time.perf_counter() - clock
    manifest = load_manifest(folder / "manifest.parquet")
    clock = time.perf_counter()
    assert [manifest.find(row.key) for row in rows_found] == positions
    found["by_key_ms"] = time.perf_counter() - clock
    found["peak_mb"] = (peak_memory() or 0) / (1 << 20)
    return found


def anonymous_mb() -> float:
    """Memory of this process that is no file's, now."""
    lines = Path("/proc/self/status").read_text().splitlines() if Path("/proc/self/status").exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon")), float("nan"))


def simulated(entries: int, order: str) -> dict[str, float]:
    """`simulate` in a process of its own, so that its peak is its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--simulate", str(entries), order, folder]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def text_of(found: dict[str, Any]) -> str:
    """The section for docs/benchmarks.md."""
    speeds = "\n".join(
        f"| {name} | {s['mean_bytes']:,.0f} | {s['alone_per_s']:,.0f} | {s['listing_per_s']:,.0f} | {s['manifest_per_s']:,.0f} | {s['ratio']:.2f} | {s['ratio_with_listing']:.2f} |"
        for name, s in (("shared reference", found["small"]), (f"{found['large']['images']:,} of ImageNet's mean size", found["large"]))
    )  # fmt: skip
    scales = "\n".join(
        f"| {s['entries']:,}, {order} | {s['listing_s']:.1f} | {s['manifest_s']:.1f} | {s['anonymous_mb']:.0f} | {s['peak_mb']:.0f} | {s['manifest_mb']:.0f} | {s['listing_mb']:.0f} | {s['open_ms']:.1f} | {s['open_listing_ms']:.1f} | {s['by_position_ms']:.2f} | {s['by_key_ms']:.2f} |"
        for order, s in found["scale"]
    )  # fmt: skip
    leaks = found.get("leaks")
    kinds = ", ".join(f"{name} {value:.3f}" for name, value in leaks["recalls"].items()) if leaks else ""
    return f"""
## Sources

`python benchmarks/sources.py --data DIR`, on {found["machine"]}.

Manifest over tars, warm, best of {ROUNDS}; images a second. Both sides know where each image lies. "Alone" reads and hashes each in
one thread; the manifest also takes dimensions, encodes rows, writes and syncs the file. Listing (headers, keys, order) comes
before it, once; the last column counts it in.

| tars | bytes an image | alone | listing | manifest | ratio | with listing |
| --- | --- | --- | --- | --- | --- | --- |
{speeds}

Random access by position, warm, without decoding: {found["random_access_per_s"]:,.0f} images/s.

Simulated collections (keys and sizes real, hashes random). Peak is of the whole process with every page of a mapped file
counted; anonymous is what is not a file's. Lookups: mean of 1 000 random ones, nothing decoded before.

| entries | listing s | manifest s | anonymous MB | peak MB | manifest MB | listing MB | open ms | open listing ms | by position ms | by key ms |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
{scales}
""" + (
        f"""
Leak check: {leaks["planted"]} planted near-copies found {leaks["leak_recall"]:.4f} ({kinds}); false alarms among
{leaks["unrelated"]:,} unrelated images {leaks["leak_false_rate"]:.5f}; {leaks["seconds"]:.0f} s.
"""
        if leaks
        else ""
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="where unpack.py laid out the shared data")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, help="write the section into this document")
    parser.add_argument("--entries", type=int, default=14_197_122)
    parser.add_argument("--skip-leaks", action="store_true")
    parser.add_argument("--simulate", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.simulate:
        entries, order, folder = options.simulate
        print(json.dumps(simulate(int(entries), order, Path(folder))))
        return
    if options.data is None or not (options.data / "reference-tars").is_dir():
        parser.error("--data: expected a folder with reference-tars, as unpack.py --as tars lays it out")
    found: dict[str, Any] = {"machine": machine()}
    with tempfile.TemporaryDirectory() as scratch:
        found["small"] = manifest_speed(options.data / "reference-tars", Path(scratch))
        found["large"] = manifest_speed(large_tars(Path(scratch) / "large"), Path(scratch))
    found["random_access_per_s"] = random_access(open_tars(options.data / "reference-tars"))
    found["scale"] = [
        (order, simulated(entries, order))
        for entries, order in ((40_000, "shuffled"), (options.entries, "sorted"), (options.entries, "shuffled"))
    ]
    if not options.skip_leaks:
        from benchmarks.leaks import measure

        found["leaks"] = measure(options.data / "reference-tars", options.data / "targets", seed=0)
    text = text_of(found)
    if options.out:
        write_section(options.out, "sources", text)
    if not options.json:
        print(text)
        return
    summary = {
        "type": "summary",
        "manifest_ratio": found["small"]["ratio"],
        "manifest_ratio_large": found["large"]["ratio"],
        "manifest_ratio_with_listing": found["small"]["ratio_with_listing"],
        "manifest_ratio_large_with_listing": found["large"]["ratio_with_listing"],
        "random_access_per_s": found["random_access_per_s"],
        "manifest_mb": found["scale"][-1][1]["manifest_mb"],
        "peak_mb": max(scale["peak_mb"] for _, scale in found["scale"]),
        "open_ms": found["scale"][-1][1]["open_ms"],
        "by_position_ms": found["scale"][-1][1]["by_position_ms"],
        "by_key_ms": found["scale"][-1][1]["by_key_ms"],
        **{name: found.get("leaks", {}).get(name) for name in ("leak_recall", "leak_false_rate")},
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
