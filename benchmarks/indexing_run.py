"""`plada index` as a user runs it: a process of its own, its JSON lines read as they come; and sets of images to run it on."""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MARK = "PLADA_BENCHMARK_RUN"  # in the environment of a run and of whatever it starts; how its processes are found


@dataclass(slots=True)
class Running:
    """A `plada index` that runs now. `events` are its JSON lines so far; `mark` is in the environment of all its processes."""

    process: "subprocess.Popen[str]"
    mark: str
    started: float
    log: Path
    events: list[dict[str, Any]] = field(default_factory=list)
    reader: threading.Thread | None = None

    def embedded(self) -> int:
        """Images that its last progress line counts as done."""
        return int(max((event["done"] for event in self.events if is_embedding(event)), default=0))

    def total(self) -> int | None:
        """Images that it set out to embed, once it has said so."""
        return next((int(event["total"]) for event in self.events if is_embedding(event)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a run ended: exit status, its summary (None where there is none), wall clock and CPU seconds, standard error."""

    code: int
    summary: dict[str, Any] | None
    seconds: float
    cpu_seconds: float
    log: str


def is_embedding(event: Mapping[str, Any]) -> bool:
    return event.get("type") == "progress" and event.get("stage") == "embed"


def start(arguments: Sequence[str], home: Path, *, environment: Mapping[str, str] | None = None) -> Running:
    """Start `plada index ARGUMENTS --json` with `home` as its home."""
    home.mkdir(parents=True, exist_ok=True)
    mark = f"{home}/{time.monotonic_ns()}"
    log = home / "last-run.log"
    surroundings = {**os.environ, **(environment or {}), "PLADA_HOME": str(home), MARK: mark, "PYTHONUNBUFFERED": "1"}
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "plada", "index", *arguments, "--json"],
            cwd=ROOT, env=surroundings, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True,
        )  # fmt: skip
    running = Running(process, mark, time.monotonic(), log)

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                running.events.append(json.loads(line))

    running.reader = threading.Thread(target=read, daemon=True)
    running.reader.start()
    return running


def wait(running: Running) -> Ended:
    """Wait for a run's end. CPU seconds are of the process and of all descendants that it waited for."""
    _, status, usage = os.wait4(running.process.pid, 0)
    seconds = time.monotonic() - running.started
    running.process.returncode = os.waitstatus_to_exitcode(status)
    if running.reader is not None:
        # A process that outlives its parent holds the pipe open; what it writes is not waited for.
        running.reader.join(timeout=10)
    summary = next((event for event in reversed(running.events) if event.get("type") == "summary"), None)
    return Ended(
        code=running.process.returncode,
        summary=summary,
        seconds=seconds,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        log=running.log.read_text(errors="replace"),
    )


def run(arguments: Sequence[str], home: Path, *, environment: Mapping[str, str] | None = None) -> Ended:
    """Run `plada index ARGUMENTS` to its end.

    Raises:
        RuntimeError: it failed; what it said is in the message.
    """
    ended = wait(start(arguments, home, environment=environment))
    if ended.code != 0 or ended.summary is None:
        raise RuntimeError(f"plada index {' '.join(arguments)}: exit status {ended.code}\n{ended.log[-2000:]}")
    return ended


def processes_of(mark: str) -> list[int]:
    """Process ids that have `mark` in their environment and are no zombies. Linux; elsewhere none is found."""
    wanted, found = f"{MARK}={mark}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (
                wanted in (folder / "environ").read_bytes().split(b"\0")
                and b") Z" not in (folder / "stat").read_bytes()
            ):
                found.append(int(folder.name))
        except OSError:
            continue  # ended meanwhile, or another user's
    return sorted(found)


def arguments_of(process: int) -> str:
    """The command line of a process, or an empty text where it is gone."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def some_tars(source: Path, images: int, folder: Path) -> Path:
    """A folder with the first tars of `source` that hold `images` or more together, or with all."""
    folder.mkdir(parents=True)
    held = 0
    for path in sorted(source.glob("*.tar")):
        shutil.copyfile(path, folder / path.name)
        with tarfile.open(path) as tar:
            held += sum(member.isfile() for member in tar)
        if held >= images:
            break
    return folder


def some_images(source: Path, images: int, folder: Path, *, per_shard: int = 256) -> tuple[Path, Path]:
    """The same images, taken evenly from the tars of `source`, as a folder and as WebDataset shards: both paths."""
    paths = sorted(source.glob("*.tar"))
    members: list[tuple[Path, str, bytes]] = []
    for number, path in enumerate(paths):
        count = images * (number + 1) // len(paths) - images * number // len(paths)
        with tarfile.open(path) as tar:
            for member in [member for member in tar if member.isfile()][:count]:
                data = tar.extractfile(member)
                assert data is not None
                members.append((path, Path(member.name).name, data.read()))
    files, shards = folder / "files", folder / "wds"
    shards.mkdir(parents=True)
    for first in range(0, len(members), per_shard):
        with tarfile.open(shards / f"{first // per_shard:05d}.tar", "w") as tar:
            for number, (path, name, content) in enumerate(members[first : first + per_shard], first):
                place = files / path.stem / name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)
                member = tarfile.TarInfo(f"{number:08d}.jpg")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return files, shards


def scratch(parent: Path | None = None) -> "tempfile.TemporaryDirectory[str]":
    """A folder that is removed at the end, of whose name nothing else is made."""
    return tempfile.TemporaryDirectory(prefix="plada-indexing-", dir=parent)
