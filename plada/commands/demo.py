"""The command `plada demo`."""

from pathlib import Path
from typing import Annotated

import typer

import plada
from plada.commands.console.options import Home, Output, seconds
from plada.commands.console.output import print_table


def demo(
    *,
    out: Annotated[Path, typer.Option(help="Folder for the payload and the report.")] = Path("plada-demo"),
    source: Annotated[str, typer.Option(help="glyphs, or another draw of it such as glyphs:count=5000.")] = "glyphs",
    home: Home = None,
    output: Output,
) -> None:
    """Run the whole method on real handwriting: index, select, read back, train, test. Nothing is downloaded."""
    with output.reporter() as progress:
        summary = plada.demo(out=out, source=source, home=home, report=progress)
    if output.wrote_json(summary.to_dict()):
        return
    students = ", ".join(f"{value:.1%}" for value in summary.student_accuracies)
    share = summary.payload_bytes / summary.target_bytes
    rows = [
        ["reference", f"{summary.images} drawn characters, {summary.images_per_second:.0f} images/s"],
        ["teacher accuracy", f"{summary.teacher_accuracy:.1%} on handwritten digits (test split)"],
        ["payload", f"{summary.payload_bytes} bytes for {summary.payload_images} labels, {share:.1%} of the target's own training images ({summary.target_bytes} bytes as PNG)"],
        ["student accuracy", f"{summary.student_accuracy:.1%} +- {summary.student_spread:.1%} (test split; {students}), trained on drawn characters only"],
        ["seconds", f"{seconds(summary.seconds)}, {sum(summary.seconds.values()):.1f} in all"],
        ["reused", ", ".join(summary.reused) + " of an earlier run" if summary.reused else "nothing; a second run reuses the index"],
        ["files", f"{summary.payload}, {summary.report} (what it holds, for a browser), {summary.sheet} (the first images of each class)"],
    ]  # fmt: skip
    print_table(rows, title="plada demo")
