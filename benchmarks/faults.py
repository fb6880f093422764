"""Faults: turned bits, kills, outputs that cannot be written, hostile files. Nothing may be wrong, lost or run silently.

    python benchmarks/faults.py [--out docs/benchmarks.md] [--json] [--only flips,kills,outputs,hostile]

Everything is made here, in a temporary folder, of small pictures and an encoder without weights. The last line with --json holds
flips_caught, flips, kills_survived, kills, outputs_checked, hostile_refused, hostile and what was wrong; what was not measured
is null. The exit status is 1 where anything was wrong.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import faults_flips, faults_hostile, faults_kills, faults_outputs
from benchmarks.document import machine, write_section
from benchmarks.faults_material import make

PARTS = ("flips", "kills", "outputs", "hostile")
HEADLINES = ("flips_caught", "flips", "kills_survived", "kills", "outputs_checked", "hostile_refused", "hostile")
WRONG = ("flips_missed", "kills_wrong", "outputs_wrong", "hostile_wrong")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default=",".join(PARTS), help="parts, commas between")
    parser.add_argument("--flips", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="document whose section is written anew")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(options.only.split(","), flips=options.flips, kills=options.kills, seed=options.seed)
    lines = report(figures)
    if options.out is not None:
        write_section(options.out, "faults", "\n".join(lines))
    print("\n".join(lines))
    if options.json:
        print(json.dumps({**dict.fromkeys(HEADLINES), **figures}))
    sys.exit(any(figures.get(name) for name in WRONG))


def measure(parts: Sequence[str], *, flips: int, kills: int, seed: int) -> dict[str, Any]:
    """The figures of all parts asked for; each has material of its own, which it may spoil."""
    figures: dict[str, Any] = {"seed": seed}
    for part in parts:
        with TemporaryDirectory(prefix="plada-faults-") as name:
            material = make(Path(name) / "made")
            match part:
                case "flips":
                    figures |= faults_flips.measure(material, flips=flips, seed=seed)
                case "kills":
                    figures |= faults_kills.measure(material, kills=kills, seed=seed)
                case "outputs":
                    figures |= faults_outputs.measure(material)
                case "hostile":
                    figures |= faults_hostile.measure(material)
                case _:
                    sys.exit(f"--only {part}: expected some of {', '.join(PARTS)}")
    return figures


def report(figures: Mapping[str, Any]) -> list[str]:
    """The section of the document."""
    lines = ["## Faults", "", f"`python benchmarks/faults.py`, on {machine()}, seed {figures['seed']}.", ""]
    if "flips" in figures:
        lines += [
            f"Bits turned in files that are believed later: {figures['flips']}; refused, made again or without effect: "
            f"{figures['flips_caught']}.", "", "| file | flips | refused by an error | right result | wrong |", "| --- | --- | --- | --- | --- |",
        ]  # fmt: skip
        for name, counts in figures["flips_by_kind"].items():
            refused, right = counts.get(faults_flips.REFUSED, 0), counts.get(faults_flips.RIGHT, 0)
            total = sum(counts.values())
            lines.append(f"| {name} | {total} | {refused} | {right} | {total - refused - right} |")
        lines.append("")
    if "kills" in figures:
        lines += [
            f"SIGKILL at random moments: {figures['kills']}; nothing half-written, and the same bytes after the same command: "
            f"{figures['kills_survived']}.", "",
            *faults_kills.lines(figures), "",
        ]  # fmt: skip
    if "outputs_checked" in figures:
        lines += [
            f"Outputs that cannot be written (read-only, full and nearly full disks, folders, devices; {figures['outputs_how']}): "
            f"{figures['outputs_checked']} checked, {len(figures['outputs_wrong'])} wrong.", "",
            *(f"- left out: {text}" for text in figures["outputs_left_out"]),
        ]  # fmt: skip
    if "hostile" in figures:
        kinds = ", ".join(f"{count} {name}s" for name, count in figures["hostile_by_kind"].items())
        lines += [
            f"Hostile inputs: {figures['hostile']} ({kinds}); refused or shown as text: {figures['hostile_refused']}.",
            "",
        ]
    lines += [f"- wrong: {text}" for name in WRONG for text in figures.get(name, ())]
    return lines


if __name__ == "__main__":
    main()
