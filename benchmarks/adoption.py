"""What a newcomer waits for: from a clone to the demo's table, and until each command first says something.

    python benchmarks/adoption.py [--json] [--skip-clone]

The clone gets a virtual environment of its own, so this downloads what `make demo` installs, unless pip has it in its cache.
"""

import argparse
import os
import re
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import plada
from benchmarks.document import conclude, machine
from plada.sources.formats.glyphs import render

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 120.0  # seconds for one command; `explore` and `pull --watch` are stopped when they have said something
SERVING = ("explore",)
REFERENCE = "glyphs:count=1500"


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstSign:
    """Seconds from the start of a command to its first byte, and to its end (None: it was stopped)."""

    command: str
    first: float
    whole: float | None
    status: int | None


def clone_to_table(folder: Path) -> dict[str, float]:
    """Seconds from `git clone` to each of: the clone is there, all is installed, the demo has printed its table."""
    begun = time.monotonic()
    clone = folder / "plada"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    seconds = {"cloned": time.monotonic() - begun}
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PLADA_HOME")}
    environment["PLADA_HOME"] = str(folder / "clone-home")
    for name, words in (("installed", ["make", ".venv/.installed"]), ("table", ["make", "demo"])):
        subprocess.run(words, cwd=clone, env=environment, check=True, stdout=sys.stderr)
        seconds[name] = time.monotonic() - begun
    return seconds


def first_sign(words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> FirstSign:
    """Run `plada WORDS` in `folder`, and wait for its first byte on either stream."""
    log = folder / "first-signs.log"
    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "plada", *words],
        cwd=folder, env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    stream = process.stdout.fileno()
    ready, _, _ = select.select([stream], [], [], PATIENCE)
    first = time.monotonic() - begun
    if not ready or words[0] in SERVING:
        process.terminate()
    said = process.stdout.read()
    status = process.wait()
    whole = None if words[0] in SERVING else time.monotonic() - begun
    with log.open("ab") as file:
        file.write(f"$ plada {' '.join(words)}\n".encode() + said + b"\n")
    return FirstSign(command=" ".join(words), first=first, whole=whole, status=None if whole is None else status)


def commands() -> Iterator[list[str]]:
    """Every command with small work, in an order in which each finds what it needs."""
    yield ["doctor"]
    yield ["config"]
    yield ["encoders"]
    yield ["datasets"]
    yield ["index", REFERENCE, "--name", "characters", "--pack"]
    yield ["indexes"]
    yield ["cache"]
    yield ["search", "picture.png", "--index", "characters", "--sheet", "hits.png"]
    yield ["select", "--index", "characters", "--target", "digits", "--budget", "400", "-o", "digits.plada", "--table", "digits.parquet"]  # fmt: skip
    yield ["select", "--index", "characters", "--target", "digits", "--budget", "500", "--rule", "herd", "-o", "more.plada"]  # fmt: skip
    yield ["inspect", "digits.plada"]
    yield ["report", "digits.plada", "--selection", "digits.parquet", "-o", "report.html"]
    yield ["verify", REFERENCE, "--against", "digits.plada"]
    yield ["train", "digits.plada", "--reference", REFERENCE, "--student", "linear", "-o", "model.safetensors"]
    yield ["evaluate", "model.safetensors", "--target", "digits"]
    yield ["predict", "picture.png", "--model", "model.safetensors"]
    yield ["export", "digits.plada", "--to", "folder", "--reference", REFERENCE, "-o", "images"]
    yield ["diff", "digits.plada", "more.plada", "-o", "change.plada"]
    yield ["apply", "digits.plada", "change.plada", "-o", "changed.plada"]
    yield ["keygen", "server"]
    yield ["sign", "digits.plada", "--key", "server"]
    yield ["publish", "shop", "digits.plada"]
    yield ["pull", "shop/digits"]
    yield ["bench", "--index", "characters", "--targets", "digits", "--budgets", "400", "--methods", "random", "--seeds", "1", "--out", "bench"]  # fmt: skip
    yield ["explore", "characters", "--no-open", "--port", "0"]
    yield ["demo", "--out", "demo"]


def first_signs(folder: Path) -> list[FirstSign]:
    """What `commands` took, in a home of their own."""
    environment = {**os.environ, "PLADA_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    picture = np.asarray(render(7, seed=0))
    Image.fromarray(picture).save(folder / "picture.png")
    signs = []
    for words in commands():
        signs.append(first_sign(words, folder, environment))
        print(signs[-1], file=sys.stderr)
    return signs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--skip-clone", action="store_true", help="leave out the clone, whose packages are downloaded")
    parser.add_argument("--busy", action="store_true", help="say in the section that other work ran beside")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        signs = first_signs(folder)
        clone = {} if options.skip_clone else clone_to_table(folder)
    slow = [sign for sign in signs if sign.first > 1]
    failed = [sign for sign in signs if sign.status]
    beside = " Other work ran on the same cores." if options.busy else ""
    lines = ["## The first minutes", "", f"`python benchmarks/adoption.py`, plada {plada.__version__}, {machine()}.{beside}", ""]  # fmt: skip
    if clone:
        lines += [
            f"From `git clone` to the table of `make demo`: {clone['table']:.0f} s, of these {clone['cloned']:.1f} s for the clone,"
            f" {clone['installed'] - clone['cloned']:.0f} s for the packages, {clone['table'] - clone['installed']:.0f} s for the demo.",
            "",
        ]
    lines += [
        f"Until a command says something (first byte on either stream): {max(sign.first for sign in signs):.2f} s at most,"
        f" {len(slow)} of {len(signs)} commands above 1 s."
        + (f" {len(failed)} ended with an error." if failed else ""),
        "",
        "| command | first sign, s | whole, s |",
        "| --- | --- | --- |",
    ]
    for sign in signs:
        whole = "stopped" if sign.whole is None else f"{sign.whole:.1f}"
        lines.append(f"| `{re.sub(r'[|]', '', sign.command)}` | {sign.first:.2f} | {whole} |")
    figures = {"clone": clone, "first_signs": [asdict(sign) for sign in signs]}
    conclude(ROOT / "docs" / "benchmarks.md", "adoption", lines, figures, as_json=options.json)


if __name__ == "__main__":
    main()
