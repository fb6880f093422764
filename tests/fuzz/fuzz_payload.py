"""Damage payloads at random and see that nothing but an error comes of it: no wrong label, no hang, no flood of memory.

    python tests/fuzz/fuzz_payload.py --seconds 3600 [--count 100000] [--seed 0] [--crashes DIR]

Seeds are the golden files. Half of the damage is to bytes, which checksums show; the other half is to bodies of sections and
segments, with all checksums made anew, so that it reaches the coders. One process at low priority. The last line is JSON:
executions by outcome, the slowest, the most memory. A damaged file may take a second, or twice the
time of the whole one where that is more. Exit status 1 where something was wrong; the files are then in DIR.
"""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from plada.errors import PladaError, ReferenceMismatch, RequestError
from plada.payload.container import DIFF, PLAN, SIGNATURE, read_container, read_plan, write_container, write_plan
from plada.payload.diff import apply_changes, parse_changes
from plada.payload.payload import Payload, parse_payload
from plada.payload.shared_context import SharedContext
from tests.fuzz.fuzzing import Findings, mutated, run

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
SECONDS, MEGABYTES = 1.0, 256


def golden_context() -> SharedContext:
    """The shared of the golden reference."""
    said = json.loads((GOLDEN / "reference.json").read_text())
    features = np.frombuffer((GOLDEN / said["features"]).read_bytes(), np.int8).reshape(-1, said["dimensions"])
    return SharedContext(np.array(said["blocks"]), features, bytes.fromhex(said["pack_id"]))


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
        findings.add_time(f"{number}-{name}", spent, max(SECONDS, 2 * own[name]))
        if crashes is not None and findings.is_wrong(f"{number}-{name}"):
            crashes.mkdir(parents=True, exist_ok=True)
            (crashes / f"{number}-{name}.plada").write_bytes(bad)
        findings.outcomes[outcome] += 1
    return findings


if __name__ == "__main__":
    sys.exit(run(__doc__.partition("\n")[0], fuzz, MEGABYTES))
