"""Search and scan at the sizes that count: exact and approximate over a million and over 14.2 million, scan and opening of the latter.

    python benchmarks/search_speed.py --out DIR [--images N] [--rows N] [--search-only] [--json] [--document]

The stores are synthetic (benchmarks/search_stores.py), written by plada's own Store into DIR and used again where they are
there already: 1.1 GB for each million searched and as much for its approximate index; for the scan 2.3 GB, and 1.8 GB for the flat
file. `--search-only --images 14200000` takes more than an hour and 31 GB. Rates are those of `Index.search`, end to end: the table
streamed from the page cache, keys looked up, hits made. With --json the last line holds exact_qps, ann_recall, ann_speedup,
scan_ratio and more.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.document import machine, write_section
from benchmarks.search_stores import held_out, make_index

QUERIES = 1024
_TIMES = 5  # each figure is the median of so many, taken in turns
_BLOCK = 16_384  # rows of a block, of scan and flat file alike


def search_figures(home: Path, *, images: int = 1_000_000, dimension: int = 512, seed: int = 0) -> dict[str, Any]:
    """exact_qps, exact_latency_ms, ann_qps, ann_recall (of 10, against exact), ann_speedup (median of ratios of neighbouring
    runs), ann_latency_ms, and what building took; queries are held out, 1 024 at a time."""
    import plada

    name = f"search-{images}-{dimension}-{seed}"
    folder = make_index(home, name, images, dimension, seed=seed)
    index = plada.open_index(folder, home=home)
    made = folder / "ann" / "ann.json"
    ann = json.loads(made.read_text()) if made.exists() else plada.make_ann(index, seed=seed)
    queries = held_out(QUERIES, dimension, seed=seed)
    began = time.perf_counter()
    plada.open_index(folder, home=home).search(queries[:1], 10, exact=False)
    opened = time.perf_counter() - began
    exact, near = index.search(queries, 10), index.search(queries, 10, exact=False)  # the first run loads what there is
    recall = np.mean([len(set(one) & set(other)) / 10 for one, other in zip(exact, near, strict=True)])
    pairs = [
        (_seconds(lambda: index.search(queries, 10)), _seconds(lambda: index.search(queries, 10, exact=False)))
        for _ in range(_TIMES)
    ]
    alone = [
        (_seconds(lambda: index.search(queries[:1], 10)), _seconds(lambda: index.search(queries[:1], 10, exact=False)))
        for _ in range(_TIMES)
    ]
    slow, quick = np.median(pairs, axis=0)
    return {
        "search_images": images,
        "search_dimension": dimension,
        "exact_qps": QUERIES / float(slow),
        "exact_latency_ms": 1e3 * float(np.median(alone, axis=0)[0]),
        "ann_qps": QUERIES / float(quick),
        "ann_latency_ms": 1e3 * float(np.median(alone, axis=0)[1]),
        "ann_recall": float(recall),
        "ann_open_seconds": opened,
        "ann_speedup": float(np.median([one / other for one, other in pairs])),
        "ann_bytes": ann["bytes"],
        "ann_seconds": ann["seconds"],
        "ann_parameters": ann["parameters"],
    }


def scan_figures(home: Path, *, images: int = 14_200_000, dimension: int = 64, seed: int = 0) -> dict[str, Any]:
    """open_seconds (a fresh process: imports, `open_index`, the first vector and key), scan_gb_s, scan_ratio, scan_peak_gb.

    The flat file holds the same bytes. `scan_ratio` is against np.fromfile of all of it, both from the page cache;
    `scan_ratio_blocks` against np.fromfile block by block, where each block lands in the processor's cache and no memory is
    ever new; `scan_ratio_cold` against the latter with both put out of the page cache first, so that the disk is read. Each
    is the median of ratios of neighbouring runs.

    The peak is of a process of its own that opens, scans and searches: VmRSS less RssFile, looked at every 10 ms, that is
    without pages of mapped files (code of libraries here), which the system takes back when it likes.
    """
    import plada

    name = f"scan-{images}-{dimension}-{seed}"
    folder = make_index(home, name, images, dimension, seed=seed)
    index, flat = plada.open_index(folder, home=home), home / f"{name}.f16"
    if not flat.exists() or flat.stat().st_size != 2 * dimension * images:
        with flat.open("wb") as file:
            for _, vectors in index.scan():
                file.write(np.ascontiguousarray(vectors).tobytes())
    size = flat.stat().st_size

    def whole() -> None:
        np.fromfile(flat, np.float16)

    def blocks() -> None:
        with flat.open("rb") as file:
            while len(np.fromfile(file, np.float16, _BLOCK * dimension)):
                pass

    def scan() -> None:
        rows = sum(len(vectors) for _, vectors in index.scan(_BLOCK))
        assert rows == images

    for once in (blocks, scan):
        once()
    runs = np.array([[_seconds(one) for one in (whole, blocks, scan)] for _ in range(_TIMES)])
    cold = np.array([[_cold(one, flat, folder) for one in (blocks, scan)] for _ in range(3)])
    opened = [_child(_OPEN, folder, home) for _ in range(3)]
    rates = size / 1e9 / np.median(runs, axis=0)
    return {
        "scan_images": images,
        "scan_dimension": dimension,
        "open_seconds": float(np.median([one["seconds"] for one in opened])),
        "raw_gb_s": float(rates[0]),
        "raw_blocks_gb_s": float(rates[1]),
        "raw_cold_gb_s": size / 1e9 / float(np.median(cold[:, 0])),
        "scan_gb_s": float(rates[2]),
        "scan_ratio": float(np.median(runs[:, 0] / runs[:, 2])),
        "scan_ratio_blocks": float(np.median(runs[:, 1] / runs[:, 2])),
        "scan_ratio_cold": float(np.median(cold[:, 0] / cold[:, 1])),
        "scan_peak_gb": _child(_PEAK, folder, home)["peak"] / 1e9,
    }


def _cold(read: Callable[[], None], *places: Path) -> float:
    """Seconds of reading files that are not in the page cache (where the system has a way to say so)."""
    for place in places:
        for path in [place] if place.is_file() else place.rglob("*"):
            if path.is_file() and hasattr(os, "posix_fadvise"):
                with path.open("rb") as file:
                    os.fsync(file.fileno())
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return _seconds(read)


_OPEN = """
import json, sys, time
start = time.perf_counter()
import plada
index = plada.open_index(sys.argv[1], home=sys.argv[2])
index.keys([len(index) - 1]), index.vectors([len(index) // 2])
print(json.dumps({"seconds": time.perf_counter() - start}))
"""
_PEAK = """
import json, sys, threading, time
import plada
def status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))
def anonymous():
    return status("VmRSS") - status("RssFile")
seen, done = [0], False
def watch():
    while not done:
        seen[0] = max(seen[0], anonymous())
        time.sleep(0.01)
watcher = threading.Thread(target=watch)
watcher.start()
index = plada.open_index(sys.argv[1], home=sys.argv[2])
for _ in index.scan():
    pass
index.search(index.vectors(range(0, len(index), len(index) // 100)), 10)
done = True
watcher.join()
print(json.dumps({"peak": seen[0]}))
"""


def _child(code: str, folder: Path, home: Path) -> dict[str, Any]:
    """The JSON that a fresh process prints."""
    done = subprocess.run([sys.executable, "-c", code, folder, home], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def text(found: dict[str, Any]) -> str:
    """The section of docs/benchmarks.md about search and scan."""
    return f"""## Search and scan

`python benchmarks/search_speed.py --out DIR --document`, {machine()}.

{_searched(found)}

{found["scan_images"]} x {found["scan_dimension"]}: opened in {found["open_seconds"]:.2f} s (fresh process, imports included); scan {found["scan_gb_s"]:.2f} GB/s,
that is {found["scan_ratio"]:.2f} of np.fromfile of a flat file ({found["raw_gb_s"]:.2f} GB/s) and {found["scan_ratio_blocks"]:.2f} of the same block by
block in the processor's cache ({found["raw_blocks_gb_s"]:.1f} GB/s); from the disk {found["scan_ratio_cold"]:.2f} of the flat file's
{found["raw_cold_gb_s"]:.2f} GB/s. Peak {found["scan_peak_gb"]:.2f} GB.
"""


def search_text(found: dict[str, Any]) -> str:
    """The section of docs/benchmarks.md about search of another number of images."""
    return f"""## Search of {found["search_images"]:,} images

`python benchmarks/search_speed.py --out DIR --search-only --images {found["search_images"]} --document`, {machine()}.

{_searched(found)} Opening it for a first query took
{found["ann_open_seconds"]:.2f} s.
"""


def _searched(found: dict[str, Any]) -> str:
    return f"""Over {found["search_images"]} x {found["search_dimension"]} (an overlapping mixture of low rank), {QUERIES} queries held out, through
`Index.search`: exact {found["exact_qps"]:.0f} queries/s in a batch, {found["exact_latency_ms"]:.0f} ms alone; approximate
{found["ann_qps"]:.0f} queries/s, {found["ann_latency_ms"]:.1f} ms alone, recall@10 {found["ann_recall"]:.3f}: {found["ann_speedup"]:.1f} times
the exact rate. Building it took {sum(found["ann_seconds"].values()):.0f} s and {found["ann_bytes"] / 1e9:.2f} GB."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where the stores are kept")
    parser.add_argument("--images", type=int, default=1_000_000, help="of the search, 512 numbers each")
    parser.add_argument("--rows", type=int, default=14_200_000, help="of the scan, 64 numbers each")
    parser.add_argument("--search-only", action="store_true", help="no scan; the section is one of its own")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--document", action="store_true", help="write docs/benchmarks.md")
    options = parser.parse_args()
    found = search_figures(options.out, images=options.images)
    if options.search_only:
        section, written = f"search-{options.images}", search_text(found)
    else:
        found |= scan_figures(options.out, images=options.rows)
        section, written = "search", text(found)
    if options.document:
        write_section(Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md", section, written)
    print(json.dumps(found) if options.json else written)


if __name__ == "__main__":
    main()
