"""The command `plada datasets`."""

from pathlib import Path
from typing import Annotated

import typer

import plada
from plada.commands.console import completion as completing
from plada.commands.console.options import Home, Output
from plada.commands.console.output import print_line, print_table
from plada.common.units import group_digits


def datasets(
    name: Annotated[
        str | None, typer.Argument(help="Show everything about this one.", autocompletion=completing.collections)
    ] = None,
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Open what is here and count it; minutes for millions of files.")
    ] = False,
    home: Home = None,
    output: Output,
) -> None:
    """List the registered collections and whether they are on this machine."""
    listed = plada.datasets(name, check=check, home=home)
    if output.wrote_json({"datasets": [entry.to_dict() for entry in listed]}):
        return
    if name is not None:
        print_table([[field, text] for field, text in listed[0].details().items()], title=name)
        return
    rows = [
        [
            entry.name, entry.role, group_digits(entry.images), group_digits(entry.classes) if entry.classes else "-",
            entry.state(), "yes" if entry.indexed else "",
        ]
        for entry in listed
    ]  # fmt: skip
    print_table(rows, head=("name", "role", "images", "classes", "present", "indexed"))
    for entry in listed:
        if entry.problem:
            print_line(f"{entry.name}: {entry.problem}")
    for place in sorted({str(Path(entry.path).parent) for entry in listed if entry.path and not entry.present}):
        print_line(
            f"not here; looked in {place}/NAME. `plada datasets NAME` says what is expected and where it comes from"
        )
