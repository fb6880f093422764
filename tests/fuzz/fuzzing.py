"""What fuzzers share: damage to bytes, what came of it, and the command line that runs one."""

import argparse
import json
import os
import resource
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from plada.payload.varints import varint

EDGES = (0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF)


@dataclass
class Findings:
    """What came of it. `wrong`: (name, what) of what should not have happened; times are of this process's processor."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[str, str]] = field(default_factory=list)
    slowest: float = 0.0
    slowest_of: str = ""

    def add_time(self, name: str, spent: float, limit: float) -> None:
        """Note how long one execution took; more than `limit` seconds are wrong."""
        if spent > self.slowest:
            self.slowest, self.slowest_of = spent, name
        if spent > limit:
            self.wrong.append((name, f"took {spent:.2f} s"))

    def is_wrong(self, name: str) -> bool:
        """Whether the execution of this name, the last one, was wrong."""
        return bool(self.wrong) and self.wrong[-1][0] == name


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Some bits, bytes or stretches changed, left out, doubled, or exchanged for numbers at an edge."""
    bad = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        size = len(bad)
        if not size:
            break
        at = int(rng.integers(size))
        kind = int(rng.integers(7))
        if kind == 0:
            bad[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            bad[at] = int(rng.integers(256))
        elif kind == 2:
            bad[at] = int(rng.choice(EDGES))
        elif kind == 3:
            del bad[at : at + int(rng.integers(1, 9))]
        elif kind == 4:
            bad[at:at] = bad[at : at + int(rng.integers(1, 33))]
        elif kind == 5:
            bad[at : at + 1] = varint(int(rng.integers(1 << int(rng.integers(1, 36)))))
        else:
            del bad[at:]
    return bytes(bad)


def most_memory() -> float:
    """The most memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(about: str, fuzz: Callable[[float, int, int, Path], Findings], megabytes: int) -> int:
    """The command line of a fuzzer: its exit status, 1 where something was wrong or memory grew by more than `megabytes`."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--count", type=int, default=1 << 62)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--crashes", type=Path, default=Path("fuzz-crashes"))
    options = parser.parse_args()
    os.nice(19)
    before = most_memory()
    found = fuzz(options.seconds, options.count, options.seed, options.crashes)
    grown = most_memory() - before
    for name, what in found.wrong[:20]:
        print(f"{name}: {what}")
    summary = {
        "executions": sum(found.outcomes.values()), "outcomes": dict(found.outcomes.most_common()), "wrong": len(found.wrong),
        "slowest_s": round(found.slowest, 3), "slowest_of": found.slowest_of, "megabytes": round(grown),
    }  # fmt: skip
    print(json.dumps(summary))
    return 1 if found.wrong or grown > megabytes else 0
