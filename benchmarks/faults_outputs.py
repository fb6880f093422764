"""Every place that a command writes, where nothing can be written: the documented exit status, and nothing half-written.

Places: a disk that is read-only, one that is full, one with 4 096 bytes left, a folder, a device. The disks are tiny ones in
memory, mounted in a name space of this part's own process (`unshare`), which ends with it. Where the system allows no mounts,
a read-only folder (not for root) and a limit on the size of files stand in, and what was left out is said.
"""

import json
import os
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from typer.testing import CliRunner

from benchmarks.faults_material import INDEX, Material, selecting, tree
from plada.cli import app

ROOT = Path(__file__).resolve().parents[1]
DISK, LEFT = 128 << 10, 4096  # bytes of a tiny disk, and what is left of one that is nearly full
REFUSED, NO_ROOM = 2, 7
READ_ONLY, FULL, NEARLY, FOLDER, DEVICE = "read-only", "full", "nearly full", "is-a-folder", "is-a-device"


@dataclass(frozen=True, slots=True)
class Output:
    """A place that a command writes: `words` names it. `kind` is file, folder (files go into it), new (a folder that is not there
    yet), or home. `slow` ones are not tried on a disk that is nearly full: they work for minutes first."""

    name: str
    words: Callable[[Path], list[str | Path]]
    kind: str = "file"
    slow: bool = False
    grows: bool = False  # a log: what is in it stays where something else could not be written


def outputs(material: Material) -> Iterator[Output]:
    """Every place of output of every command."""
    old, new, pictures, home = (
        material.file("old.plada"), material.file("new.plada"), material.pictures, material.home,
    )  # fmt: skip
    small, target = material.file("small.safetensors"), material.target
    at_home: list[str | Path] = ["--home", home]
    choose: list[str | Path] = ["select", *selecting(target)]
    teach: list[str | Path] = [
        "train",
        old,
        "--reference",
        pictures,
        "--student",
        "small_cnn",
        "--recipe",
        "epochs=1",
        "--recipe",
        "image_size=16",
    ]
    spare = material.file("spare")  # where the outputs go that are not the one that is tried

    def chosen(option: str) -> Callable[[Path], list[str | Path]]:
        return lambda place: [*choose, *at_home, "-o", spare / "s.plada", option, place]

    def exported(form: str) -> Callable[[Path], list[str | Path]]:
        return lambda place: ["export", old, "--reference", pictures, "--to", form, "-o", place, *at_home]

    yield Output("select --out", lambda place: [*choose, *at_home, "-o", place])
    for option in ("--table", "--sheet", "--percentiles", "--histogram"):
        yield Output(f"select {option}", chosen(option))
    yield Output("train --out", lambda place: [*teach, *at_home, "-o", place])
    yield Output(
        "train --student linear --out",
        lambda place: ["train", old, "--reference", pictures, "--student", "linear", *at_home, "-o", place],
    )
    yield Output(
        "train --confusion",
        lambda place: [*teach, *at_home, "-o", spare / "m", "--restart", "--target", target, "--confusion", place],
    )
    yield Output(
        "train --log FILE",
        lambda place: [*teach, *at_home, "-o", spare / "m", "--restart", "--log", place.with_suffix(".csv")],
        grows=True,
    )
    if find_spec("tensorboardX"):
        yield Output(
            "train --log FOLDER", lambda place: [*teach, *at_home, "-o", spare / "m", "--restart", "--log", place], "folder",
            slow=True,
        )  # fmt: skip
    yield Output(
        "evaluate --confusion", lambda place: ["evaluate", small, "--target", target, "--confusion", place, *at_home]
    )
    for form in ("csv", "parquet"):
        yield Output(f"export --to {form}", exported(form))
    for form in ("folder", "webdataset", "hf", *(["tfrecord"] if find_spec("google_crc32c") else [])):
        yield Output(f"export --to {form}", exported(form), "new")
    yield Output("report --out", lambda place: ["report", old, "--reference", pictures, "-o", place, *at_home])
    yield Output("diff --out", lambda place: ["diff", old, new, "-o", place, *at_home])
    yield Output("apply --out", lambda place: ["apply", old, material.file("changes.plada"), "-o", place, *at_home])
    yield Output("sign --out", lambda place: ["sign", old, "--key", material.file("key.pem"), "-o", place])
    yield Output("keygen", lambda place: ["keygen", place])
    yield Output(
        "index --pack-out",
        lambda place: ["index", pictures, "--name", INDEX, "--encoder", "gradients", "--pack-out", place, *at_home],
    )
    query = next(pictures.rglob("*.png"))
    yield Output("search --sheet", lambda place: ["search", query, "--index", INDEX, "--sheet", place, *at_home])
    yield Output("verify --sheet", lambda place: ["verify", pictures, "--leaks", target, "--sheet", place, *at_home])
    yield Output(
        "bench --out",
        lambda place: ["bench", "--targets", target, "--index", INDEX, "-o", place, *at_home],
        "folder",
        slow=True,
    )
    yield Output("demo --out", lambda place: ["demo", "--out", place, *at_home], "folder", slow=True)
    yield Output(
        "index --home",
        lambda place: ["index", pictures, "--name", "i", "--encoder", "gradients", "--home", place],
        "folder",
    )
    for name, words in (
        ("select", [*choose, "-o", spare / "h.plada"]), ("train", [*teach, "-o", spare / "h", "--restart"]),
        ("verify", ["verify", pictures, "--leaks", target]), ("report", ["report", old, "-o", spare / "h.html"]),
        ("index --ann", ["index", pictures, "--name", INDEX, "--encoder", "gradients", "--ann", "ivf"]),
        ("install-pack", ["install-pack", material.file("some.pack")]), ("search", ["search", query, "--index", INDEX]),
        ("diff", ["diff", old, new, "-o", spare / "h.diff"]),
    ):  # fmt: skip
        yield Output(f"{name} --home", lambda place, words=words: [*words, "--home", place], "home")  # type: ignore[misc]


@dataclass(slots=True)
class Findings:
    """What was checked, what was wrong, and what could not be tried, with the reason."""

    checked: int = 0
    wrong: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    how: str = ""


def check_all(material: Material, work: Path) -> Findings:
    """Try every output in every place."""
    findings = Findings()
    disks = can_mount(work)
    findings.how = "disks mounted in memory" if disks else "a read-only folder and a limit on the size of files"
    if not disks and os.geteuid() == 0:
        findings.left_out.append("read-only: no disk can be mounted here, and root writes into read-only folders")
    for output in outputs(material):
        for place in (READ_ONLY, FULL, NEARLY, FOLDER, DEVICE):
            if (place == FOLDER and output.kind in ("folder", "home")) or (
                place == NEARLY and (output.slow or (output.grows and not disks))
            ):
                continue
            if place == DEVICE and output.kind == "home":
                continue
            if place == READ_ONLY and not disks and os.geteuid() == 0:
                continue
            shutil.rmtree(material.file("spare"), ignore_errors=True)
            material.file("spare").mkdir()
            with _place(place, output, material, work, disks) as path:
                if path is None:
                    findings.left_out.append(f"{output.name}, {place}: no device can be made here")
                    continue
                findings.checked += 1
                if said := _try(output, place, path):
                    findings.wrong.append(f"{output.name}, {place}: {said}")
    _standard_output(material, findings)
    return findings


def _try(output: Output, place: str, path: Path) -> str:
    """Run the command: what is wrong with how it ended, or with what it left."""
    before = {} if output.kind == "home" else _left(path.parent)
    words = [str(word) for word in output.words(path)]
    result = CliRunner().invoke(app, [*words, "--quiet"])
    after = {} if output.kind == "home" else _left(path.parent)
    wanted = REFUSED if place in (FOLDER, DEVICE) else NO_ROOM
    fine = {wanted, 0} if place == NEARLY or output.kind == "home" else {wanted}
    if result.exit_code not in fine:
        error = "" if isinstance(result.exception, SystemExit) else f" ({result.exception!r:.200})"
        return f"exit status {result.exit_code}, not {wanted}: {(result.stderr or result.stdout).strip()[-200:]}{error}"
    if result.exit_code == 0:
        return "" if output.kind == "home" or len(after) > len(before) else "status 0, and nothing was written"
    if (
        output.kind == "folder" and place == NEARLY
    ):  # an index that is resumed stays unfinished; nothing has its final name
        finished = [name for name in after if name.endswith(("index.json", ".plada", ".parquet"))]
        return f"left {', '.join(finished)}" if finished else ""
    left = sorted(name for name in after if after[name] != before.get(name))
    return f"left {', '.join(left)[:200]}" if left or len(after) != len(before) else ""


def _left(folder: Path) -> dict[str, str]:
    """What lies in a folder; devices by their kind."""
    found = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        regular = stat.S_ISREG(mode)
        found[str(path.relative_to(folder))] = tree(path)[""] if regular else stat.filemode(mode)
    return found


@contextmanager
def _place(place: str, output: Output, material: Material, work: Path, disks: bool) -> Iterator[Path | None]:
    """A path of that kind to write to; None where it cannot be made."""
    name = "out.csv" if "FILE" in output.name else "out"
    folder = work / "place"
    folder.mkdir()
    try:
        if place == FOLDER:
            (folder / name).mkdir()
            (folder / name / "mine.txt").write_text("kept")
            yield folder / name
        elif place == DEVICE:
            try:
                os.mknod(folder / name, stat.S_IFCHR | 0o666, os.makedev(1, 7))
            except PermissionError:
                yield None
                return
            yield folder / name
        else:
            with _disk(folder, place, disks, material.home if output.kind == "home" else None) as root:
                yield root if output.kind == "home" else root / name
    finally:
        shutil.rmtree(folder)


@contextmanager
def _disk(folder: Path, place: str, disks: bool, content: Path | None) -> Iterator[Path]:
    root = folder / "disk"
    root.mkdir()
    if not disks:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        if content is not None:
            root.rmdir()
            shutil.copytree(content, root)
        if place == READ_ONLY:
            root.chmod(0o555)
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0 if place == FULL else LEFT, before[1]))
        try:
            yield root
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            root.chmod(0o755)
        return
    size = DISK + (sum(path.stat().st_size + 8192 for path in content.rglob("*")) if content is not None else 0)
    _mount("-t", "tmpfs", "-o", f"size={size}", "none", str(root))
    try:
        inner = root / "it"
        shutil.copytree(content, inner) if content is not None else inner.mkdir()
        if place == READ_ONLY:
            _mount("-o", "remount,ro", str(root))
        else:
            _fill(root / "filling", 0 if place == FULL else LEFT)
        yield inner
    finally:
        subprocess.run(["umount", "-l", str(root)], check=True, capture_output=True)


def _fill(path: Path, left: int) -> None:
    """Fill the disk of `path` but for so many bytes."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(max(path.stat().st_size - left, 0))


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)


def can_mount(work: Path) -> bool:
    """Whether disks can be mounted here."""
    place = work / "try"
    place.mkdir()
    try:
        _mount("-t", "tmpfs", "-o", "size=8k", "none", str(place))
        subprocess.run(["umount", str(place)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    finally:
        place.rmdir()
    return True


def _standard_output(material: Material, findings: Findings) -> None:
    """JSON that goes to a full device."""
    if not Path("/dev/full").exists():
        findings.left_out.append("standard output: there is no /dev/full here")
        return
    for words in (["inspect", str(material.file("old.plada"))], ["doctor"], ["datasets"]):
        with Path("/dev/full").open("wb") as full:
            command = [sys.executable, "-m", "plada", *words, "--json"]
            ended = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, check=False)
        findings.checked += 1
        if ended.returncode != NO_ROOM:
            findings.wrong.append(f"{words[0]} --json to a full device: exit status {ended.returncode}")


def measure(material: Material) -> dict[str, Any]:
    """Run `check_all` in a process with mounts of its own, where the system allows that."""
    work = material.file("places")
    work.mkdir()
    command = [sys.executable, __file__, str(material.root), str(work)]
    root = os.geteuid() == 0
    spaces = ["unshare", "--mount", *([] if root else ["--map-root-user"])]
    if shutil.which("unshare") and not subprocess.run([*spaces, "true"], capture_output=True, check=False).returncode:
        command = [*spaces, *command]
    ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return {
        "outputs_checked": found["checked"], "outputs_wrong": found["wrong"], "outputs_left_out": found["left_out"],
        "outputs_how": found["how"],
    }  # fmt: skip


if __name__ == "__main__":
    done = check_all(Material(Path(sys.argv[1])), Path(sys.argv[2]))
    print(json.dumps({"checked": done.checked, "wrong": done.wrong, "left_out": done.left_out, "how": done.how}))
