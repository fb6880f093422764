"""Ours, the paper's rules and other things that could be sent, at equal bytes: `plada bench` on the shared data.

    python benchmarks/bench.py --data OUT [--index tiny] [--budgets 500,1kB,2kB] [--seeds 3] [--workers 2] \
        [--keep-in FOLDER] [--home HOME] [--out docs/benchmarks.md] [--json]

OUT is what `python ../shared/data/unpack.py OUT --as tars` lays out, the index one of its reference-tars with mobilenetv2_100
at 96 px (docs/log.md has the command). FOLDER keeps rows and pictures: a run that was stopped goes on there.
"""

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path

import plada
from benchmarks.document import machine, write_section
from plada.common.progress import Progress

_SECTION = "bench"
_DROPPED = "![", "Pictures: "  # lines that speak of pictures beside the text
_PICTURE = Path("pictures") / "bench.png"  # the one that goes with the document
_COLOURS = 128


def commit() -> str:
    """The commit of the checkout that runs, with + if it has changes; "unknown" outside a checkout."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=10"], capture_output=True, text=True, check=True,
            cwd=Path(__file__).parent,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def section(text: str, command: str, seconds: float, measured: int) -> str:
    """bench.md as a section of the document: headings one level down, with machine, commit and time."""
    lines = []
    for line in text.splitlines():
        if line.startswith("# "):
            lines.append("## Equal bytes: ours, the paper's, and other things that could be sent")
            lines += ["", f"`{command}`, {machine()}, commit {commit()}; {seconds:.0f} s for {measured} rows."]
            lines += ["", f"![Accuracy against bytes, target by target]({_PICTURE.as_posix()})"]
        elif line.startswith(_DROPPED):
            continue
        else:
            lines.append(f"#{line}" if line.startswith("##") else line)
    return "\n".join(lines)


def keep_picture(made: Path, document: Path) -> None:
    """The picture of all targets beside the document, in few colours."""
    from PIL import Image

    kept = document.parent / _PICTURE
    kept.parent.mkdir(exist_ok=True)
    with Image.open(made) as picture:
        few = picture.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
    few.save(kept, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with targets/NAME")
    parser.add_argument("--index", default="tiny", help="name or folder of the index")
    parser.add_argument("--budgets", default="500,1kB,2kB")
    parser.add_argument("--keep", default="1%,5%,10%")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--pack", type=Path)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--keep-in", type=Path, default=Path("plada-bench"))
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    targets = sorted(path for path in (options.data / "targets").iterdir() if path.is_dir())

    def tell(progress: Progress) -> None:
        print(f"{progress.stage}: {progress.done} of {progress.total}", file=sys.stderr)

    made = plada.bench(
        options.index, targets=targets, budgets=options.budgets, paper=plada.PaperTables(keep=options.keep), seeds=options.seeds,
        workers=options.workers, pack=options.pack, home=options.home, out=options.keep_in, report=tell,
    )  # fmt: skip
    command = f"python benchmarks/bench.py --data OUT --budgets {options.budgets} --seeds {options.seeds}"
    text = Path(made.document).read_text()
    write_section(options.out, _SECTION, section(text, command, made.seconds, made.measured))
    keep_picture(options.keep_in / "pareto.png", options.out)
    if options.json:
        figures = {
            "minutes": made.seconds / 60,
            "rows": made.rows,
            "ahead": made.ahead,
            "lead": made.lead,
            "accuracy": made.accuracy,
            "python": platform.python_version(),
        }
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
