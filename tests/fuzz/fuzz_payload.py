"""Damage payloads at random and see that nothing but an error comes of it: no wrong label, no hang, no flood of memory.

    python tests/fuzz/fuzz_payload.py --seconds 3600 [--count 100000] [--seed 0] [--crashes DIR]

Seeds are the golden files. Half of the damage is to bytes, which checksums show; the other half is to bodies of sections and
segments, with all checksums made anew, so that it reaches the coders. One process at low priority. The last line is JSON:
executions by outcome, the slowest, the most memory. A damaged file may take a second, or twice the
time of the whole one where that is more. Exit status 1 where something was wrong; the files are then in DIR.
"""

import argparse
import json
import os
import resource
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from plada.errors import PladaError, ReferenceMismatch, RequestError
from plada.payload.container import DIFF, PLAN, SIGNATURE, read_container, read_plan, write_container, write_plan
from plada.payload.diff import apply_changes, parse_changes
from plada.payload.payload import Payload, parse_payload
from plada.payload.shared_context import SharedContext
from plada.payload.varints import varint

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
SECONDS, MEGABYTES = 1.0, 256
EDGES = (0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF)


@dataclass
class Findings:
    """What came of it. `wrong`: (name, what) of what should not have happened; times are of this process's processor."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[str, str]] = field(default_factory=list)
    slowest: float = 0.0
    slowest_of: str = ""


def golden_context() -> SharedContext:
    """The shared of the golden reference."""
    said = json.loads((GOLDEN / "reference.json").read_text())
    features = np.frombuffer((GOLDEN / said["features"]).read_bytes(), np.int8).reshape(-1, said["dimensions"])
    return SharedContext(np.array(said["blocks"]), features, bytes.fromhex(said["pack_id"]))


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


def mended(data: bytes, rng: np.random.Generator) -> bytes:
    """One body, or the header's numbers, changed, and all checksums right."""
    file = read_container(data)
    sections = {kind: body for kind, body in file.sections.items() if kind != SIGNATURE}
    segments = [segment or b"" for segment in file.segments]
    header = file.header
    if not rng.integers(4):
        header = replace(
            header, reference=1 << int(rng.integers(29)), classes=int(rng.integers(1, 1 << int(rng.integers(1, 17))))
        )
    choice = int(rng.integers(len(sections) + len(segments)))
    if choice < len(sections):
        kind = list(sections)[choice]
        sections[kind] = mutated(sections[kind], rng)
    else:
        segments[choice - len(sections)] = mutated(segments[choice - len(sections)], rng)
        kind, _ = read_plan(sections[PLAN])
        sections[PLAN] = write_plan(kind, [len(segment) for segment in segments])
    return write_container(header, sections, segments)


def try_one(
    data: bytes,
    original: bytes,
    truth: Payload,
    old: Payload | None,
    shared: SharedContext,
    *,
    right: bool,
    partial: bool,
) -> str:
    """The outcome of one file; raises AssertionError where labels came out that nobody sent.

    `right`: its checksums are, so that it may say something else; it must then say it in a well-formed way.
    """
    try:
        if old is not None:
            found = apply_changes(old, parse_changes(data), shared=shared)
        else:
            found = parse_payload(data, shared=shared, partial=partial).payload
    except (PladaError, ReferenceMismatch, RequestError) as err:
        return type(err).__name__
    if right:
        again = parse_payload(found.encode("gaps-zstd")).payload
        assert again.digest() == found.digest(), "what came out cannot be written again"
        return "other content"
    if data == original:
        return "unchanged"
    assert partial and old is None, "damage was not noticed"
    places = np.searchsorted(truth.positions, found.positions)
    assert np.array_equal(truth.positions[np.minimum(places, len(truth) - 1)], found.positions), "wrong images"
    assert np.array_equal(truth.labels[places], found.labels), "wrong labels"
    assert found.classes == truth.classes, "wrong names"
    return "a part"


def fuzz(
    seconds: float, count: int, seed: int, crashes: Path | None = None, *, without: tuple[str, ...] = ()
) -> Findings:
    """Damage golden files, all but those `without`, for so long, or so many times; the first limit counts."""
    rng, shared, findings = np.random.default_rng(seed), golden_context(), Findings()
    files = {path.stem: path.read_bytes() for path in sorted(GOLDEN.glob("*.plada")) if path.stem not in without}
    old = parse_payload(files["v2-gaps-zstd"], shared=shared).payload
    truths: dict[str, Payload] = {}
    own: dict[str, float] = {}
    for name, data in files.items():
        for _ in range(2):  # the first time, what is loaded and compiled once is
            start = time.process_time()
            if DIFF in read_container(data).sections:
                truths[name] = apply_changes(old, parse_changes(data), shared=shared)
            else:
                truths[name] = parse_payload(data, shared=shared).payload
            own[name] = time.process_time() - start
    names = list(files)
    end = time.monotonic() + seconds
    for number in range(count):
        if time.monotonic() > end:
            break
        name = names[int(rng.integers(len(names)))]
        data = files[name]
        right = bool(rng.integers(2))
        bad = mended(data, rng) if right else mutated(data, rng)
        base = old if name.startswith("v2-changes") else None
        partial = bool(rng.integers(2))
        known = shared if rng.integers(4) else SharedContext()
        start = time.process_time()
        try:
            outcome = try_one(bad, data, truths[name], base, known, right=right, partial=partial)
        except Exception as err:
            outcome = "WRONG"
            findings.wrong.append((f"{number}-{name}", f"{type(err).__name__}: {err}"))
        spent = time.process_time() - start
        if spent > findings.slowest:
            findings.slowest, findings.slowest_of = spent, f"{number}-{name}"
        if spent > max(SECONDS, 2 * own[name]):
            findings.wrong.append((f"{number}-{name}", f"took {spent:.2f} s"))
        if crashes is not None and findings.wrong and findings.wrong[-1][0] == f"{number}-{name}":
            crashes.mkdir(parents=True, exist_ok=True)
            (crashes / f"{number}-{name}.plada").write_bytes(bad)
        findings.outcomes[outcome] += 1
    return findings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--count", type=int, default=1 << 62)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--crashes", type=Path, default=Path("fuzz-crashes"))
    options = parser.parse_args()
    os.nice(19)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = fuzz(options.seconds, options.count, options.seed, options.crashes)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    for name, what in found.wrong[:20]:
        print(f"{name}: {what}")
    summary = {
        "executions": sum(found.outcomes.values()), "outcomes": dict(found.outcomes.most_common()), "wrong": len(found.wrong),
        "slowest_s": round(found.slowest, 3), "slowest_of": found.slowest_of, "megabytes": round(grown),
    }  # fmt: skip
    print(json.dumps(summary))
    return 1 if found.wrong or grown > MEGABYTES else 0


if __name__ == "__main__":
    sys.exit(main())
