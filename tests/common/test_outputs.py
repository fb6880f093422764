"""Outputs: refused before any work where they cannot be, locked, whole or not at all, and with the user's umask."""

import errno
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import plada
from plada.common.files import write_bytes
from plada.common.outputs import check_output_folder, check_outputs, locked, whole_folder
from plada.errors import PladaError, RequestError, ResourceError

# Calls with nothing to work on: whatever is said of the output was said before any work.
CALLS: dict[str, Callable[[Path], Any]] = {
    "select": lambda out: plada.select("no-index", target="nothing", out=out),
    "train": lambda out: plada.train("no.plada", out=out),
    "csv": lambda out: plada.export("no.plada", to="csv", out=out),
    "folder": lambda out: plada.export("no.plada", to="folder", out=out),
    "hf": lambda out: plada.export("no.plada", to="hf", out=out),
    "report": lambda out: plada.report("no.plada", out=out),
    "diff": lambda out: plada.diff("no.plada", "none.plada", out=out),
    "apply": lambda out: plada.apply_diff("no.plada", "none.plada", out=out),
    "sign": lambda out: plada.sign("no.plada", key="no.pem", out=out),
    "pack": lambda out: plada.make_pack("no-index", out=out),
    "search": lambda out: plada.search("position:0", index="no-index", sheet=out),
    "verify": lambda out: plada.verify("nothing", sheet=out),
    "keygen": plada.keygen,
    "bench": lambda out: plada.bench("no-index", targets="none", budgets="1kB", out=out / "below"),
    "index": lambda out: plada.index("nothing", home=out / "below"),
    "demo": lambda out: plada.demo(out=out / "below", source="nothing"),
}


def put(kind: str, path: Path) -> None:
    if kind == "folder":
        path.mkdir()
        (path / "mine.txt").write_text("kept")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        try:
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 7))
        except PermissionError:
            pytest.skip("only root makes devices")
    else:
        path.with_name("other.txt").write_text("kept")
        path.symlink_to(path.with_name("other.txt"))


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "link"])
@pytest.mark.parametrize("call", CALLS)
def test_what_is_no_file_is_refused_before_any_work(call: str, kind: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    put(kind, out)
    before = out.lstat()
    if call in ("bench", "demo", "index") and kind == "folder":
        pytest.skip("these write into a folder")
    with pytest.raises(RequestError, match=r"is a (folder|pipe|device|link)|already there|is no folder"):
        CALLS[call](out)
    after = out.lstat()
    assert (after.st_ino, after.st_mode, after.st_rdev) == (before.st_ino, before.st_mode, before.st_rdev)
    assert len(list(tmp_path.iterdir())) == (2 if kind == "link" else 1) + (tmp_path / "home").exists()
    if kind == "folder":
        assert (out / "mine.txt").read_text() == "kept"


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("number", "error"), [(errno.EROFS, ResourceError), (errno.ENOSPC, ResourceError), (errno.EFBIG, ResourceError)]
)
def test_a_disk_that_cannot_be_written_is_said_before_any_work(
    call: str, number: int, error: type[PladaError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: Any) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", fail)
    with pytest.raises(error, match="cannot be written"):
        CALLS[call](tmp_path / "new" / "out")
    assert not (tmp_path / "new").exists()


def test_paths_that_name_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for bad, said in (
        (tmp_path / "file" / "below", "is no folder|Not a directory"),
        (tmp_path / ("n" * 300), "File name too long"),
        (tmp_path / "a\0b", "no path"),
    ):
        with pytest.raises(RequestError, match=said):
            check_outputs(bad)
    with pytest.raises(RequestError, match="two outputs"):
        check_outputs(tmp_path / "one", None, tmp_path / "one")
    with pytest.raises(RequestError, match="is no folder"):
        check_output_folder(tmp_path / "file")
    check_outputs(tmp_path / "a" / "b" / "c", tmp_path / "file", None)
    check_output_folder(tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(RequestError, match="is a folder"):
        write_bytes(tmp_path, b"x")


def test_one_process_at_a_time_makes_an_output(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        with locked(out), pytest.raises(ResourceError, match="being made by another process"), locked(out):
            pass
        assert not list(tmp_path.iterdir())
    with locked(tmp_path / "one"), locked(tmp_path / "two"), locked(None):
        pass


def test_two_exports_to_one_folder_and_what_is_not_theirs(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part" / "mine.txt").write_text("kept")
    with whole_folder(out) as first:
        (first / "a").write_text("a")
        with pytest.raises(ResourceError, match="another process"), whole_folder(out):
            pass
    assert (out / "a").read_text() == "a"
    with pytest.raises(RequestError, match="already there"), whole_folder(out):
        pass
    with pytest.raises(ValueError, match="half"), whole_folder(tmp_path / "failed") as part:
        (part / "b").write_text("b")
        raise ValueError("half of it")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.part"]
    assert (tmp_path / "out.part" / "mine.txt").read_text() == "kept"


def test_two_trainings_of_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from plada.api import train as module

    payload = plada.Payload.__new__(plada.Payload)
    monkeypatch.setattr(module, "take_payload", lambda *_: [payload])
    monkeypatch.setattr(module, "encoder_spec", lambda *_: None)
    out = tmp_path / "model.safetensors"
    with locked(out), pytest.raises(ResourceError, match="being made by another process"):
        plada.train("p.plada", out=out)


LIMITED = """
import resource, signal, sys
from pathlib import Path
import plada
from plada.errors import PladaError
folder = Path(sys.argv[1])
import torch
from plada.trainer.model_file import save_model
resource.setrlimit(resource.RLIMIT_FSIZE, (40, 40))
for call in (
    lambda: plada.keygen(folder / "key.pem"),
    lambda: save_model(folder / "model.safetensors", {"w": torch.zeros(100)}, {}),
):
    try:
        call()
    except PladaError as err:
        print(err.exit_code, str(err))
"""


def test_a_limit_on_the_size_of_files_leaves_nothing_behind(tmp_path: Path) -> None:
    made = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=True)
    lines = made.stdout.splitlines()
    assert [line[0] for line in lines] == ["7", "7"], made.stdout + made.stderr
    assert all("cannot be written (File too large)" in line for line in lines)
    assert not list(tmp_path.iterdir())


FULL = """
import resource, sys
from pathlib import Path
from plada.common.outputs import check_outputs
from plada.errors import ResourceError
folder = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
try:
    check_outputs(folder / "out")
except ResourceError:
    print(list(folder.iterdir()))  # while the error is handled: what it holds is not collected yet
"""


def test_trying_a_full_disk_leaves_nothing_on_it(tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("[]\n", "")


def test_files_have_the_users_umask(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from plada.trainer.model_file import save_model

    before = os.umask(0o027)
    try:
        save_model(tmp_path / "model.safetensors", {"w": torch.zeros(3)}, {})
        with whole_folder(tmp_path / "folder") as part:
            (part / "a").write_text("a")
        plada.keygen(tmp_path / "key.pem")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"model.safetensors": 0o640, "folder": 0o750, "key.pem": 0o600, "key.pem.pub": 0o640}
