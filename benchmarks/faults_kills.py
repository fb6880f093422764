"""SIGKILL at random moments of index, select, train, export, report and diff; then the same command again.

A kill counts as survived when nothing under an output's final name is other than what an unbroken run wrote, and when the same
command then ends well, with the same bytes: of an index every column of the table, index.json but for times, and the manifest.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import indexing_kills
from benchmarks.faults_material import Material, selecting, tree

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ("index", "select", "train", "export", "report", "diff")


@dataclass(frozen=True, slots=True)
class Trial:
    """A command with the places it writes, in a folder and a home of its own."""

    words: list[str]
    outputs: dict[str, Path]
    state: Callable[[], dict[str, Any]]


def trial(command: str, material: Material, folder: Path) -> Trial:
    """The command of that name, set up in `folder`."""
    home = folder / "home"
    if command != "index":
        shutil.copytree(material.home, home)
        shutil.rmtree(home / "cache", ignore_errors=True)
    else:
        home.mkdir(parents=True)
    old, new, pictures = material.file("old.plada"), material.file("new.plada"), str(material.pictures)
    where = ["--home", str(home)]

    def out(*names: str) -> dict[str, Path]:
        return {name: folder / name for name in names}

    words: list[str | Path]
    match command:
        case "index":
            places: dict[str, Path] = {}
            words = [pictures, "--name", indexing_kills.NAME, "--encoder", "gradients"]
        case "select":
            places = out("s.plada", "s.parquet", "s.png")
            words = selecting(material.target)
            words += ["-o", places["s.plada"], "--table", places["s.parquet"], "--sheet", places["s.png"]]
        case "train":
            places = out("m.safetensors")
            words = [old, "--reference", pictures, "--student", "small_cnn", "-o", places["m.safetensors"]]
            words += ["--checkpoint-seconds", "0", "--recipe", "epochs=12", "--recipe", "image_size=16"]
        case "export":
            places = out("exported")
            words = [old, "--reference", pictures, "--to", "folder", "-o", places["exported"]]
        case "report":
            places = out("r.html")
            words = [old, "--reference", pictures, "-o", places["r.html"]]
        case _:
            places = out("c.plada")
            words = [old, new, "-o", places["c.plada"]]
    state = (lambda: _index_state(home)) if command == "index" else (lambda: {n: tree(p) for n, p in places.items()})
    return Trial([command, *map(str, words), *where, "--quiet"], places, state)


def _index_state(home: Path) -> dict[str, Any]:
    """Fingerprint of the finished index; empty where there is none."""
    if not (home / "indexes" / indexing_kills.NAME / "index.json").exists():
        return {}
    return dict(indexing_kills.fingerprint(home))


def measure(material: Material, *, kills: int, seed: int) -> dict[str, Any]:
    """Kill each command `kills` / 6 times."""
    rng, wrong = np.random.default_rng(seed), list[str]()
    survived, done, moments = 0, 0, dict[str, dict[str, float]]()
    for number, command in enumerate(COMMANDS):
        folder = material.file(f"kills-{command}")
        whole = trial(command, material, folder)  # always the same place: tables and pages name it
        began = time.monotonic()
        ended = _run(whole.words)
        seconds = time.monotonic() - began
        wanted = whole.state()
        if ended.returncode != 0 or not wanted:
            raise RuntimeError(f"plada {command}: exit status {ended.returncode}: {ended.stderr[-500:]}")
        late = 0
        for _ in range(kills * (number + 1) // len(COMMANDS) - kills * number // len(COMMANDS)):
            while True:
                shutil.rmtree(folder)
                tried = trial(command, material, folder)
                moment = float(rng.uniform(0, seconds))
                if _killed(tried.words, moment):
                    break
                late += 1  # the command had ended: another one is killed
            said = _look(tried, wanted)
            wrong += [f"{command}, killed after {moment:.2f} s: {text}" for text in said]
            done, survived = done + 1, survived + (not said)
        moments[command] = {"unbroken_seconds": round(seconds, 2), "too_late": late}
    return {"kills": done, "kills_survived": survived, "kills_wrong": wrong, "kills_by_command": moments}


def _look(tried: Trial, wanted: dict[str, Any]) -> list[str]:
    """What is wrong with what a killed command left, and with what the same command makes of it."""
    said = []
    for name, there in tried.state().items():
        if there and there != wanted[name]:
            said.append(f"{name} stands under its final name and is not whole")
    whole = tried.state() == wanted  # an export does not replace its folder, and says so
    again = _run(tried.words)
    if again.returncode != 0 and not whole:
        said.append(f"the same command ends with {again.returncode}: {again.stderr.strip()[-300:]}")
    elif (state := tried.state()) != wanted:
        said.append(
            f"{', '.join(name for name in wanted if state.get(name) != wanted[name])} not as in an unbroken run"
        )
    return said


def _run(words: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "plada", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )


def _killed(words: list[str], moment: float) -> bool:
    """Run a command and kill it after `moment` seconds; False where it had ended before."""
    process = subprocess.Popen(
        [sys.executable, "-m", "plada", *words], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        process.wait(moment)
        return False
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return True


def lines(figures: Mapping[str, Any]) -> list[str]:
    """A table of the kills."""
    rows = ["| command | seconds, unbroken | kills that came too late, and were tried again |", "| --- | --- | --- |"]
    for command, numbers in figures["kills_by_command"].items():
        rows.append(f"| {command} | {numbers['unbroken_seconds']:.1f} | {numbers['too_late']} |")
    return rows
