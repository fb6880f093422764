"""The command `plada install-pack`."""

from pathlib import Path
from typing import Annotated

import typer

import plada
from plada.commands.console.options import Home, Json, Quiet
from plada.commands.console.output import print_json, print_line


def install_pack(
    path: Annotated[Path, typer.Argument(help="A pack that `plada index --pack` wrote.")],
    home: Home = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Keep a pack beside a reference, its hash compared, for payloads that were made with it."""
    made = plada.install_pack(path, home=home)
    if as_json:
        return print_json("summary", made.to_dict())
    print_line(
        f"{made.path}: {made.images} images, {made.dimensions} dimensions, of {made.reference or 'no images here'}"
    )
    if made.reference is None:
        print_line(f"no collection known here has the pack's key id {made.key_id} yet; it waits for one", error=True)
    return None
