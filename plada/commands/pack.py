"""The command `plada install-pack`."""

from pathlib import Path
from typing import Annotated

import typer

import plada
from plada.commands.console.options import Home, Output
from plada.commands.console.output import print_line


def install_pack(
    path: Annotated[Path, typer.Argument(help="A pack that `plada index --pack` wrote.")],
    *,
    home: Home = None,
    output: Output,
) -> None:
    """Check a pack and install it, for payloads that were made with it."""
    summary = plada.install_pack(path, home=home)
    if output.wrote_json(summary.to_dict()):
        return
    print_line(
        f"{summary.path}: {summary.images} images, {summary.dimensions} dimensions, of {summary.reference or 'no images here'}"
    )
    if summary.reference is None:
        print_line(f"no collection known here has the pack's key id {summary.key_id} yet; it waits for one", error=True)
