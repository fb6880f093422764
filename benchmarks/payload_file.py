"""What surrounds the labels of a payload: bytes of the container, of names, of segments and layers, of changes.

    python benchmarks/payload_file.py [--data ../shared/data] [--json]

The contents are the 64 shared ones (docs/benchmarks.md has what the coders make of them). The last line with --json holds
container_bytes, blocks_8_cost, layers_2_cost, diff_share and more.
"""

import argparse
import json
import sys
import tarfile
import zlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.document import machine, write_section
from plada.payload.diff import apply_changes, parse_changes, write_changes
from plada.payload.metadata import write_metadata
from plada.payload.payload import Payload, parse_payload
from plada.payload.shared_context import SharedContext

ROOT = Path(__file__).resolve().parents[1]
KEEPS = ("0.5", "1", "5", "10")
FORMS = (("blocks", 4), ("blocks", 8), ("blocks", 16), ("layers", 2), ("layers", 3), ("layers", 4))
FOLDERS = SharedContext(np.arange(0, 40_001, 200, dtype=np.int64))  # 200 images in each of 200 folders
NOTES = {"recipe": {"image_size": 64, "mirror": False}, "target": "caltech20", "teacher_accuracy": 0.908}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    contents = {path.stem: load(path) for path in sorted((options.data / "codec").glob("*_*_*.npz"))}
    figures: dict[str, Any] = {"container_bytes": container_bytes(contents)}
    lines = ["## The file around the labels", "", f"`python benchmarks/payload_file.py`, on {machine()}.", ""]
    lines += [
        f"Container: {figures['container_bytes']} bytes at most around a body, identities included, names and notes not.",
        "",
    ]
    lines += names_table(options.data, figures)
    lines += progressive_table(contents, figures)
    lines += changes_table(contents, figures)
    write_section(ROOT / "docs" / "benchmarks.md", "payload file", "\n".join(lines))
    print("\n".join(lines))
    if options.json:
        print(json.dumps(figures))


def load(path: Path) -> Payload:
    found = np.load(path)
    names = tuple(str(number) for number in range(int(found["n_classes"])))
    return Payload(
        found["positions"], found["labels"], names, int(found["n_reference"]), bytes(8), bytes(8), rank=found["rank"]
    )


def container_bytes(contents: dict[str, Payload]) -> int:
    """Most bytes around a body."""
    files = [parse_payload(payload.encode(shared=FOLDERS), shared=FOLDERS) for payload in contents.values()]
    return max(file.bytes - file.sections["labels"] for file in files)


def names_table(data: Path, figures: dict[str, Any]) -> list[str]:
    """Class names as they are, deflated as the format has it, and zstd-19; notes before and after."""
    lists = {}
    for path in sorted((data / "targets").glob("*.tar")):
        with tarfile.open(path) as file:
            lists[path.stem] = sorted({name.split("/")[1] for name in file.getnames() if name.count("/") > 1})
    words = [line.split("\t")[1] for line in (data / "words.txt").read_text().splitlines()]
    lists["200 synsets, first name"] = sorted({word.split(",")[0] for word in words})
    lists["200 synsets, all names"] = sorted(words)
    lines = ["Names (bytes of all names of a target):", ""]
    lines += ["| target | classes | as text | zstd-19 | as sent |", "| --- | --- | --- | --- | --- |"]
    for title, names in lists.items():
        text = "\0".join(names).encode()
        frame = zstandard.ZstdCompressor(level=19, write_content_size=False, write_checksum=False).compress(text)[4:]
        lines.append(
            f"| {title} | {len(names)} | {len(text)} | {len(frame)} | {len(write_metadata(tuple(names), {}))} |"
        )
    plain = json.dumps(NOTES, separators=(",", ":")).encode()
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    without = len(packer.compress(plain) + packer.flush())
    figures["notes_bytes"] = len(write_metadata(None, NOTES))
    lines += [
        "",
        f"Notes (recipe of two options, target, teacher's accuracy): {len(plain)} bytes as text, {without} deflated ",
    ]
    return [*lines, f"without the dictionary, {figures['notes_bytes']} as sent.", ""]


def progressive_table(contents: dict[str, Payload], figures: dict[str, Any]) -> list[str]:
    """Bytes of progressive files over those of plain ones, mean and range by keep rate."""
    lines = [
        "Progressive files, bytes over those of a plain file in percent: mean [range] over 16 contents; client has the manifest:",
        "",
    ]
    lines += [f"| form | {' | '.join(f'keep {keep} %' for keep in KEEPS)} |", "| --- | --- | --- | --- | --- |"]
    plain = {name: len(payload.encode(shared=FOLDERS)) for name, payload in contents.items()}
    for form, count in FORMS:
        cells, all_costs = [], []
        for keep in KEEPS:
            costs = []
            for name, payload in contents.items():
                if name.endswith(f"_{keep}"):
                    size = len(payload.encode(shared=FOLDERS, progressive=form, segments=count))
                    costs.append(100 * (size / plain[name] - 1))
            cells.append(f"+{np.mean(costs):.1f} [{min(costs):.1f} to {max(costs):.1f}]")
            all_costs += costs
        figures[f"{form}_{count}_cost"] = round(float(np.mean(all_costs)) / 100, 4)
        lines.append(f"| {count} {'segments of blocks' if form == 'blocks' else 'layers'} | {' | '.join(cells)} |")
    return [*lines, ""]


def changes_table(contents: dict[str, Payload], figures: dict[str, Any]) -> list[str]:
    """Bytes of changes beside those of the whole new payload."""
    kinds = (
        "nothing",
        "2 % other labels",
        "2 % removed",
        "2 % added",
        "all three",
        "10 % of each",
        "a class added",
        "a class renamed",
    )
    shares: dict[str, list[tuple[int, int]]] = {kind: [] for kind in kinds}
    for name, new in contents.items():
        if name.endswith("_1"):
            for kind, old, made in updates(new, contents.get(f"{name}0", new)):
                data = write_changes(old, made, shared=FOLDERS)
                assert apply_changes(old, parse_changes(data), shared=FOLDERS).digest() == made.digest()
                shares[kind].append((len(data), len(made.encode(shared=FOLDERS))))
    lines = ["Changes between two payloads of 400 images, mean of 16 contents at keep 1 %:", ""]
    lines += ["| what changes | bytes of the changes | of the new payload | share |", "| --- | --- | --- | --- |"]
    for kind, pairs in shares.items():
        small, whole = (float(np.mean(column)) for column in zip(*pairs, strict=True))
        lines.append(f"| {kind} | {small:.0f} | {whole:.0f} | {small / whole:.2f} |")
        if kind == "all three":
            figures["diff_share"] = round(small / whole, 4)
    return [*lines, ""]


def updates(new: Payload, more: Payload) -> Iterable[tuple[str, Payload, Payload]]:
    """(what changes, old, new): images come from `more`, the same rule's choice of ten times as many."""
    rng = np.random.default_rng(0)
    yield "nothing", new, new
    spare = np.setdiff1d(more.positions, new.positions)
    for kind, relabel, remove, add in (
        ("2 % other labels", 0.02, 0.0, 0.0), ("2 % removed", 0.0, 0.02, 0.0), ("2 % added", 0.0, 0.0, 0.02),
        ("all three", 0.02, 0.02, 0.02), ("10 % of each", 0.1, 0.1, 0.1),
    ):  # fmt: skip
        count = len(new)
        stays = np.ones(count, bool)
        stays[rng.choice(count, round(remove * count), replace=False)] = False
        labels = new.labels.copy()
        rows = rng.choice(count, round(relabel * count), replace=False)
        labels[rows] = (labels[rows] + rng.integers(1, max(len(new.classes), 2), len(rows))) % len(new.classes)
        added = rng.choice(spare, min(round(add * count), len(spare)), replace=False)
        positions = np.concatenate([new.positions[stays], added])
        labels = np.concatenate([labels[stays], more.labels[np.searchsorted(more.positions, added)]])
        order = np.argsort(positions)
        yield kind, new, replace(new, positions=positions[order], labels=labels[order], rank=None)
    last = new.labels == len(new.classes) - 1
    if len(new.classes) > 1:
        names = (*new.classes[:-1], "a new class")
        old = replace(
            new, positions=new.positions[~last], labels=new.labels[~last], classes=new.classes[:-1], rank=None
        )
        yield "a class added", old, replace(new, classes=names, rank=None)
    yield "a class renamed", new, replace(new, classes=("another name", *new.classes[1:]))


if __name__ == "__main__":
    main()
