"""Temporary files: those of killed writers go, and two processes do not share one."""

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from plada.commands.select import _plain_target
from plada.common.files import last_name, local_place, one_writer, remove_dead_parts, write_bytes


def dead_process() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_parts_of_killed_writers_go(tmp_path: Path) -> None:
    path = tmp_path / "a[1].bin"
    dead = tmp_path / f"a[1].bin.{dead_process()}.part"
    kept = [
        tmp_path / name
        for name in (f"a[1].bin.{os.getppid()}.part", f"other.bin.{dead_process()}.part", "a[1].bin.x.part")
    ]
    for part in (dead, *kept):
        part.write_bytes(b"x")
    write_bytes(path, b"whole")
    assert dead.exists()  # of this minute: on a shared disk its writer may run elsewhere
    for part in (dead, *kept):
        os.utime(part, (time.time() - 7200,) * 2)
    write_bytes(path, b"whole")
    assert not dead.exists()
    assert all(part.exists() for part in kept)
    assert path.read_bytes() == b"whole"
    again = tmp_path / f"a[1].bin.{dead_process()}.part"
    again.write_bytes(b"x")
    remove_dead_parts(path, idle=0)
    assert not again.exists()


def make(path: Path, made: "multiprocessing.Queue[bool]") -> None:
    with one_writer(path) as made_meanwhile:
        if not made_meanwhile:
            part = path.with_name(f"{path.name}.part")  # one name, as of files that a stopped run goes on with
            with part.open("xb") as file:
                time.sleep(0.3)
                file.write(b"whole")
            part.replace(path)
        made.put(not made_meanwhile)


@pytest.mark.skipif(os.name != "posix", reason="there are no such locks")
def test_two_writers_of_one_file_make_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    made = context.Queue()
    processes = [context.Process(target=make, args=(tmp_path / "x", made)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert sorted(made.get(timeout=10) for _ in processes) == [False, False, True]
    assert (tmp_path / "x").read_bytes() == b"whole"


def test_places_and_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a b"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert [last_name(Path(text)) for text in (".", "..", "x/..", "x/y/", "x.y", "../c")] == [
        "a b", tmp_path.name, "a b", "y", "x.y", "c",
    ]  # fmt: skip
    assert local_place("file:///data/a%20b,c") == "/data/a b,c"
    for other in ("a%20b", "https://x/y", "webdataset:/a", "classes:a,b", "file:"):
        assert local_place(other) == other
    assert [_plain_target(text) for text in (".", "./", "..", "/data/food,5/", "classes:a,b", "cub200:split=paper", "/")] == [
        "a b", "a b", tmp_path.name, "food,5", "classes", "cub200", "target",
    ]  # fmt: skip
    assert _plain_target(folder.as_uri()) == "a b"
