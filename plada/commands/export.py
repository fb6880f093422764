"""The command `plada export`."""

from pathlib import Path
from typing import Annotated

import typer

import plada
from plada.commands.console import completion as completing
from plada.commands.console.options import CopyOptions, Home, Output, PayloadFile, ReadingOptions
from plada.commands.console.output import print_line


def export(
    payload: PayloadFile,
    *,
    to: Annotated[
        str,
        typer.Option(
            help="csv, parquet, folder (out/CLASS/IMAGE), webdataset, tfrecord, hf.",
            autocompletion=completing.export_forms,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file or folder to make.")],
    copy: CopyOptions,
    link: Annotated[bool, typer.Option("--link", help="A folder of links instead of copies.")] = False,
    reading: ReadingOptions,
    home: Home = None,
    output: Output,
) -> None:
    """Export the labelled images for another framework."""
    with output.reporter() as report:
        made = plada.export(
            payload, to=to, out=out, reference=copy.copy(), link=link, read=reading.read(), home=home, report=report
        )
    if output.wrote_json({"out": str(made), "to": to}):
        return
    print_line(made)
