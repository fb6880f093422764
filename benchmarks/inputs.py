"""Odd inputs: pictures, archives, tables, targets and options that real collections and people bring, each with its documented answer.

    python benchmarks/inputs.py [--out docs/benchmarks.md] [--json] [--only pictures,archives,tables,targets,options]

Everything is made here, in a temporary folder. The last line with --json holds cases, right, tracebacks (exceptions that are no
PladaError) and silent (wrong answers given without a word). The exit status is 1 where anything was not right.
"""

import argparse
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import inputs_archives, inputs_options, inputs_pictures, inputs_tables, inputs_targets
from benchmarks.document import machine, write_section
from benchmarks.faults_material import Material, make
from benchmarks.inputs_material import KINDS, Case, World
from plada.errors import PladaError

RIGHT, TRACEBACK, SILENT, OTHER = "right", "traceback", "silent", "another answer"
CASES: tuple[Case, ...] = (
    *inputs_pictures.CASES, *inputs_archives.CASES, *inputs_tables.CASES, *inputs_targets.CASES, *inputs_options.CASES,
)  # fmt: skip
SHOWN = 200  # letters of what was found


@dataclass
class Outcomes:
    """How the cases of each kind ended, and what of each that was not right."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def total(self, outcome: str) -> int:
        return sum(counts[outcome] for counts in self.counts.values())


def judge(case: Case, world: World) -> tuple[str, str]:
    """(outcome, what was found) of one case."""
    try:
        found = case.ask(world)
    except PladaError as err:
        if case.error is not None and type(err) is case.error and re.search(case.says, str(err)):
            return RIGHT, ""
        return OTHER, f"{type(err).__name__}: {err}"
    except Exception as err:
        return TRACEBACK, f"{type(err).__name__}: {err}"
    if case.error is not None:
        return SILENT, f"no {case.error.__name__}, but {found!r}"
    if case.says:
        return (RIGHT, "") if re.search(case.says, str(found)) else (SILENT, f"'{case.says}' is not said in {found}")
    return (RIGHT, "") if found == case.answer else (SILENT, f"{found!r}, not {case.answer!r}")


def measure(kinds: Sequence[str]) -> Outcomes:
    """Try every case of these kinds, each in a folder of its own; the home is a temporary one."""
    outcomes = Outcomes({kind: Counter() for kind in kinds})
    with TemporaryDirectory(prefix="plada-inputs-") as name:
        root = Path(name)
        os.environ["PLADA_HOME"] = str(root / "home")
        material = make(root / "made") if "options" in kinds else Material(root / "made")
        for number, case in enumerate(CASES):
            if case.kind in kinds:
                place = root / f"{number:03d}"
                place.mkdir()
                outcome, found = judge(case, World(place, material))
                outcomes.counts[case.kind][outcome] += 1
                if outcome != RIGHT:
                    outcomes.wrong.append(f"{case.kind}, {case.name}: {outcome}: {found[:SHOWN]}")
    return outcomes


def report(outcomes: Outcomes) -> list[str]:
    """The section of the document."""
    columns = (RIGHT, TRACEBACK, SILENT, OTHER)
    lines = [
        "## Inputs", "", f"`python benchmarks/inputs.py`, on {machine()}.", "",
        "Odd inputs with their documented answers: the right value, or an error of the right class that says what to do.", "",
        f"| kind | cases | {' | '.join(columns)} |", f"| --- |{' ---: |' * 5}",
    ]  # fmt: skip
    for kind, counts in outcomes.counts.items():
        lines.append(f"| {kind} | {counts.total()} | {' | '.join(str(counts[name]) for name in columns)} |")
    total = sum(counts.total() for counts in outcomes.counts.values())
    lines.append(f"| all | {total} | {' | '.join(str(outcomes.total(name)) for name in columns)} |")
    return [*lines, *([""] if outcomes.wrong else []), *(f"- {text}" for text in outcomes.wrong)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default=",".join(KINDS), help="kinds, commas between")
    parser.add_argument("--out", type=Path, help="document whose section is written anew")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    kinds = options.only.split(",")
    if unknown := sorted(set(kinds) - set(KINDS)):
        sys.exit(f"--only {','.join(unknown)}: expected some of {', '.join(KINDS)}")
    outcomes = measure(kinds)
    lines = report(outcomes)
    if options.out is not None:
        write_section(options.out, "inputs", "\n".join(lines))
    print("\n".join(lines))
    if options.json:
        cases = sum(counts.total() for counts in outcomes.counts.values())
        figures = {
            name: outcomes.total(outcome)
            for name, outcome in (("right", RIGHT), ("tracebacks", TRACEBACK), ("silent", SILENT))
        }
        print(json.dumps({"cases": cases, **figures}))
    sys.exit(bool(outcomes.wrong))


if __name__ == "__main__":
    main()
