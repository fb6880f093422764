"""`plada index` killed with SIGKILL at random moments and continued with the same command, against a run that nobody broke.

Only the main process is killed; what it started must end by itself. A build is continued until it is finished, then the next
begins, until there were as many kills as asked for. A kill counts as survived when the build it fell into ended like the
unbroken run in every row and in index.json but for times, when no committed row was lost by it, when the continuation set out
to embed exactly what was not committed, when no more than the shard in flight was embedded twice, and when no process was left.
"""

import hashlib
import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.indexing_run import Ended, Running, arguments_of, processes_of, run, start, wait

NAME = "kill"
TIMES = (
    "seconds",
    "images_per_second",
    "where",
    "version",
    "table",
    "digest",
)  # of index.json; two runs differ in these
GONE_WITHIN = 10.0  # seconds that a process may outlive the one that started it


@dataclass(slots=True)
class Kill:
    """One kill: when, rows committed before that run and after the kill, images embedded by its last progress line."""

    after: float
    stage: str
    before: int
    kept: int
    embedded: int
    outlived: float  # seconds until the last process that the run had started was gone
    wrong: list[str] = field(default_factory=list)


def committed(home: Path) -> int:
    """Rows in the store now, finished or not, as LanceDB counts them."""
    folder = home / "indexes" / NAME
    tables = {path.parent.parent.stem for path in folder.glob("images*.lance/_versions/*.manifest")}
    if not tables:
        return 0
    import lancedb

    (table,) = tables
    return int(lancedb.connect(folder).open_table(table).count_rows())


def fingerprint(home: Path) -> dict[str, str]:
    """Digest of every column of the store in order, of index.json without times, and of the manifest."""
    import lancedb

    folder = home / "indexes" / NAME
    info = json.loads((folder / "index.json").read_text())
    data = lancedb.connect(folder).open_table(info["table"]).to_lance()
    found = {
        "index.json": _digest(json.dumps({k: v for k, v in info.items() if k not in TIMES}, sort_keys=True).encode())
    }
    for name in data.schema.names:
        digest = hashlib.sha256()
        for batch in data.to_batches(columns=[name], batch_size=4096, scan_in_order=True):
            column = batch.column(0)
            if name == "vector":
                digest.update(np.packbits(column.is_valid().to_numpy(zero_copy_only=False)).tobytes())
                digest.update(np.ascontiguousarray(column.flatten().to_numpy(zero_copy_only=False)).tobytes())
            else:
                digest.update(json.dumps([v.hex() if isinstance(v, bytes) else v for v in column.to_pylist()]).encode())
        found[name] = digest.hexdigest()
    manifests = sorted((home / "references").glob("*/manifest.parquet"))
    found["manifest"] = _digest(b"".join(path.read_bytes() for path in manifests))
    return found


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def measure(
    source: Path, arguments: Sequence[str], folder: Path, *, kills: int, worker_kills: int, seed: int
) -> dict[str, Any]:
    """Kill `kills` times, and `worker_kills` times a process that the main one started; see the module's text."""
    command = [str(source), "--name", NAME, *arguments]
    whole = run(command, folder / "whole")
    assert whole.summary is not None
    images = int(whole.summary["images"])
    info = json.loads((folder / "whole" / "indexes" / NAME / "index.json").read_text())
    wanted = fingerprint(folder / "whole")
    shard = int(info["shards"]["rows"]) if "shards" in info else max(1024, images // 16)
    embedding = images / whole.summary["images_per_second"]
    startup = max(whole.seconds - embedding, 0.0)
    rng, done, survived = np.random.default_rng(seed), list[Kill](), 0
    builds, differences = 0, list[str]()
    while len(done) < kills:
        home, own, ended = folder / f"build-{builds}", list[Kill](), None
        builds += 1
        while ended is None:
            left = kills - len(done) - len(own)
            # Any moment of the run that begins now, as long as that will take.
            lasts = startup + embedding * (images - committed(home)) / images
            moment = float(rng.uniform(0, lasts)) if left else None
            ended = _once(command, home, moment, images, shard, own, startup)
        wrong = _compare(home, wanted, ended)
        differences += wrong
        survived += 0 if wrong else sum(not kill.wrong for kill in own)
        done += own
    # Progress lines come once a second: what was committed since the last one is not counted.
    repeated = [max(0, kill.embedded - (kill.kept - kill.before)) for kill in done]
    return {
        "kills": len(done),
        "kills_survived": survived,
        "builds": builds,
        "images": images,
        "shard": shard,
        "embedded_twice": sum(repeated),
        "embedded_twice_most": max(repeated),
        "outlived_most": max(kill.outlived for kill in done),
        "kills_by_stage": {stage: sum(kill.stage == stage for kill in done) for stage in ("start", "embed", "end")},
        "unbroken_seconds": whole.seconds,
        "wrong": [text for kill in done for text in kill.wrong] + differences,
        "seed": seed,
        **_workers(command, folder, wanted, whole.seconds, count=worker_kills, rng=rng),
    }


def _once(
    command: Sequence[str],
    home: Path,
    moment: float | None,
    images: int,
    shard: int,
    kills: list[Kill],
    startup: float,
) -> Ended | None:
    """Start or continue a build: how it ended, or None where it was killed after `moment` seconds, noted in `kills`."""
    before = committed(home)
    running = start(command, home)
    alive = _until(running, moment)
    wrong = _told(running, images - before)
    if not alive:
        ended = wait(running)
        if ended.code != 0:
            wrong.append(f"exit status {ended.code}: {ended.log[-300:]}")
        if wrong and kills:
            kills[-1].wrong += wrong
        return ended
    os.kill(running.process.pid, signal.SIGKILL)
    killed = time.monotonic()
    while (left := processes_of(running.mark)) and time.monotonic() - killed < GONE_WITHIN:
        time.sleep(0.05)
    outlived = time.monotonic() - killed
    for process in left:
        wrong.append(f"still there {GONE_WITHIN:.0f} s after the kill: {arguments_of(process)[:200]}")
        os.kill(process, signal.SIGKILL)
    wait(running)
    kept, embedded = committed(home), running.embedded()
    if kept < before:
        wrong.append(f"{before} rows were committed, {kept} are there after a kill")
    if kept % shard and kept != images:
        wrong.append(f"{kept} rows after a kill: no whole number of shards of {shard}")
    if embedded - (kept - before) > 2 * shard:
        wrong.append(f"{embedded} images embedded, {kept - before} kept: more than what was in flight is lost")
    total = running.total()
    assert moment is not None
    early = total is None and kept == before and moment < startup
    stage = "start" if early else "end" if embedded == total else "embed"
    kills.append(Kill(moment, stage, before, kept, embedded, outlived, wrong))
    return None


def _until(running: Running, moment: float | None) -> bool:
    """Wait for `moment` (None: for ever) or for the end of the run: whether it still runs."""
    while True:
        if _ended(running):
            return False
        if moment is not None and time.monotonic() - running.started >= moment:
            return True
        time.sleep(0.005)


def _ended(running: Running) -> bool:
    """Whether the process has ended, without reaping it: `wait` wants its CPU seconds."""
    return os.waitid(os.P_PID, running.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _told(running: Running, missing: int) -> list[str]:
    """What is wrong with the number of images that a run set out to embed."""
    total = running.total()
    return [] if total in (None, missing) else [f"{missing} images were not committed, {total} were to be embedded"]


def _compare(home: Path, wanted: dict[str, str], ended: Ended) -> list[str]:
    if ended.code != 0:
        return [f"the build did not end well: {ended.log[-300:]}"]
    found = fingerprint(home)
    return [f"{name} differs from the unbroken run's" for name in wanted if found.get(name) != wanted[name]]


def _workers(
    command: Sequence[str],
    folder: Path,
    wanted: dict[str, str],
    seconds: float,
    *,
    count: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Kill one process that a run has started, `count` times: it must go on, or say that it stops, and be continued."""
    survived = finished = tried = 0
    wrong: list[str] = []
    for number in range(3 * count):
        if tried == count:
            break
        home = folder / f"worker-{number}"
        running = start(command, home)
        while not _ended(running) and not running.embedded():
            time.sleep(0.01)
        _until(running, time.monotonic() - running.started + float(rng.uniform(0, seconds / 2)))
        helpers = [
            p for p in processes_of(running.mark) if p != running.process.pid and "tracker" not in arguments_of(p)
        ]
        if _ended(running) or not helpers:
            wait(running)
            continue
        tried += 1
        os.kill(int(rng.choice(helpers)), signal.SIGKILL)
        if _until(running, time.monotonic() - running.started + 5 * seconds + 60):
            wrong.append("a run hung after one of its processes was killed")
            os.killpg(running.process.pid, signal.SIGKILL)
        ended = wait(running)
        finished += ended.code == 0
        if "Traceback" in ended.log:
            wrong.append(f"a killed worker is a traceback: {ended.log[-300:]}")
        if ended.code != 0:
            ended = wait(start(command, home))
        differences = _compare(home, wanted, ended)
        wrong += differences
        survived += not differences
    return {
        "worker_kills": tried,
        "worker_kills_survived": survived,
        "worker_kills_finished": finished,
        "worker_wrong": wrong,
    }
