"""What a system without the calls of POSIX does, as far as it can be seen here: those calls are taken away."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import plada
from plada.sources.storage import LocalFiles, open_files

# Modules and names that Python has on Linux and not on Windows.
MODULES = ("fcntl", "grp", "pwd", "resource", "termios", "tty", "pty", "posix", "syslog", "readline")
NAMES = {
    "os": ("pread", "preadv", "pwrite", "fork", "forkpty", "killpg", "getuid", "geteuid", "getgid", "uname", "setsid",
           "posix_fallocate", "posix_fadvise", "sched_getaffinity", "statvfs", "sysconf", "mkfifo", "sendfile", "getpgid",
           "O_NONBLOCK", "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_SYNC", "getloadavg"),
    "signal": ("SIGKILL", "SIGHUP", "SIGPIPE", "SIGALRM", "SIGUSR1", "SIGCHLD", "setitimer", "pthread_sigmask"),
    "select": ("poll", "epoll"),
    "socket": ("AF_UNIX",),
}  # fmt: skip
GOLDEN = Path(__file__).parent / "golden" / "v2-bitmap-zstd-many.plada"
PROGRAM = """
import importlib, pkgutil, sys
import {libraries}
for module, names in {names}.items():
    for name in names:
        if hasattr(sys.modules[module], name):
            delattr(sys.modules[module], name)
for name in {modules}:
    sys.modules[name] = None
for name in [name for name in sys.modules if name.partition(".")[0] == "plada"]:
    del sys.modules[name]
import plada
for module in pkgutil.walk_packages(plada.__path__, "plada."):
    if module.name != "plada.__main__":
        importlib.import_module(module.name)
assert [name for name in plada.__all__ if getattr(plada, name) is None] == []
import os
payload = plada.read_payload("a.plada")
images = plada.open_images("pictures")
print(len(payload), len(images), images.read(1))
"""
LIBRARIES = ("os, signal, select, socket, ctypes, subprocess, tempfile, multiprocessing, asyncio, numpy, pyarrow.parquet, "
             "fsspec.implementations.local, rich.console, rich.progress, typer.testing, zstandard, blake3, platformdirs, PIL.Image")  # fmt: skip


def test_plada_is_imported_and_reads_without_the_calls_of_posix(tmp_path: Path) -> None:
    shutil.copy(GOLDEN, tmp_path / "a.plada")
    (tmp_path / "pictures").mkdir()
    for name in "xy":
        (tmp_path / "pictures" / f"{name}.png").write_bytes(name.encode() * 3)
    program = PROGRAM.format(libraries=LIBRARIES, names=NAMES, modules=MODULES)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PLADA_HOME": str(tmp_path / "home"), "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[-2] == f"{len(plada.read_payload(GOLDEN))} 2 b'yyy'"


def test_parts_of_a_file_are_read_without_pread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads share a handle: each must get the part that it asked for."""
    monkeypatch.delattr("os.pread")
    data = os.urandom(4096)
    (tmp_path / "shard.tar").write_bytes(data)
    files, _ = open_files(tmp_path)
    assert isinstance(files, LocalFiles)
    assert files.read("shard.tar") == data
    assert files.read("shard.tar", 100, 50) == data[100:150]
    assert files.read("shard.tar", 4000, 500) == data[4000:]  # past the end
    wrong: list[int] = []
    with files.reader("shard.tar") as read:

        def look(start: int) -> None:
            wrong.extend(at for at in range(start, 4000, 7) for _ in range(3) if read(at, 64) != data[at : at + 64])

        threads = [threading.Thread(target=look, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
