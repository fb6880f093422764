"""The same payload on any number of threads: every rule of `auto`, and `auto` itself, on real targets.

    python benchmarks/threads.py [--threads 1,2,8] [--budget 400] [--index NAME] [--json] TARGET...

Each target is run once for each number of threads, in a process of its own, which sets what OpenMP, OpenBLAS and MKL read. Payloads
are compared byte by byte. Writes the section "Threads" of docs/benchmarks.md; with --json the last line holds cases and equal.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.document import conclude, machine
from plada.errors import BudgetTooSmall
from plada.selection.auto import CANDIDATES
from plada.selection.rules.registry import AUTO

HERE = Path(__file__).resolve().parents[1]
VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
RULES = (*CANDIDATES, AUTO)


def payload_digests(index: str | None, target: str, budget: int) -> dict[str, str]:
    """SHA-256 of the payload of each rule, in this process."""
    import plada

    opened = plada.open_index(index)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for rule in RULES:
            file = Path(folder) / f"{rule}.plada"
            try:
                plada.select(opened, target=target, budget=budget, rule=rule, out=file)
            except BudgetTooSmall as err:  # of many classes
                plada.select(opened, target=target, budget=2 * err.least, rule=rule, out=file)
            found[rule] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def main() -> None:
    """Compare, write the section, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--threads", default="1,2,8")
    parser.add_argument("--budget", type=int, default=400)
    parser.add_argument("--index")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=HERE / "docs" / "benchmarks.md")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(payload_digests(args.index, args.targets[0], args.budget)))
        return
    numbers, differing, cases = args.threads.split(","), [], 0
    for target in args.targets:
        named = ["--index", args.index] if args.index else []
        command = [sys.executable, __file__, "--one", "--budget", str(args.budget), *named, target]
        found = []
        for threads in numbers:
            environment = {**os.environ, **dict.fromkeys(VARIABLES, threads)}
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
        cases += len(RULES)
        differing += [f"{Path(target).name} by {rule}" for rule in RULES if len({one[rule] for one in found}) > 1]
        print(f"{Path(target).name}: {cases - len(differing)} of {cases} equal so far", file=sys.stderr, flush=True)
    lines = [
        "## Threads",
        "",
        f"`python benchmarks/threads.py`, {machine()}. Payloads of {args.budget} bytes (twice the least of many classes) for {len(args.targets)} targets by {len(RULES)} rules "
        f"({', '.join(RULES)}), each made with {args.threads.replace(',', ', ')} threads: {cases - len(differing)} of {cases} are the same bytes.",
        *(["", f"Different: {', '.join(differing)}."] if differing else []),
    ]
    conclude(args.out, "Threads", lines, {"cases": cases, "equal": cases - len(differing)}, as_json=args.json)


if __name__ == "__main__":
    main()
