"""The command `plada demo`."""

from pathlib import Path
from typing import Annotated

import typer

import plada
from plada.commands.console.options import Home, Json, Quiet, seconds
from plada.commands.console.output import print_json, print_table, reporter


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the payload and the report.")] = Path("plada-demo"),
    source: Annotated[str, typer.Option(help="glyphs, or another draw of it such as glyphs:count=5000.")] = "glyphs",
    home: Home = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Go the whole way on real handwriting: index, select, read back, train, test. Nothing is downloaded."""
    with reporter(as_json=as_json, quiet=quiet) as report:
        made = plada.demo(out=out, source=source, home=home, report=report)
    if as_json:
        return print_json("summary", made.to_dict())
    students = ", ".join(f"{value:.1%}" for value in made.student_accuracies)
    share = made.payload_bytes / made.target_bytes
    rows = [
        ["reference", f"{made.images} drawn characters, {made.images_per_second:.0f} images/s"],
        ["teacher accuracy", f"{made.teacher_accuracy:.1%} on handwritten digits (test split)"],
        ["payload", f"{made.payload_bytes} bytes for {made.payload_images} labels, {share:.1%} of the target's own training images ({made.target_bytes} bytes as PNG)"],
        ["student accuracy", f"{made.student_accuracy:.1%} +- {made.student_spread:.1%} (test split; {students}), trained on drawn characters only"],
        ["seconds", f"{seconds(made.seconds)}, {sum(made.seconds.values()):.1f} in all"],
        ["reused", ", ".join(made.reused) + " of an earlier run" if made.reused else "nothing; a second run reuses the index"],
        ["files", f"{made.payload}, {made.report} (what it holds, for a browser), {made.sheet} (the best images of each class)"],
    ]  # fmt: skip
    print_table(rows, title="plada demo")
    return None
