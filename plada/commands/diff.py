"""The commands `plada diff` and `plada apply`."""

from typing import Annotated

import typer

import plada
from plada.commands.console.options import (
    ClientHas,
    Home,
    Json,
    Out,
    PackFile,
    PayloadFile,
    Quiet,
    RequireSignature,
    SignWith,
)
from plada.commands.console.output import print_json, print_line


def diff(
    old: PayloadFile,
    new: PayloadFile,
    out: Out,
    client_has: ClientHas = "manifest",
    pack: PackFile = None,
    sign: SignWith = None,
    home: Home = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write the file that turns the payload OLD into NEW, at a fraction of NEW's size."""
    made = plada.diff(old, new, out=out, client_has=client_has, pack=pack, sign=sign, home=home)
    if as_json:
        return print_json("summary", made.to_dict())
    print_line(
        f"{made.path}: {made.bytes} bytes, {made.bytes / made.new_bytes:.0%} of the new payload's {made.new_bytes}; "
        f"{made.removed} images removed, {made.added} added, {made.relabelled} called otherwise"
    )
    return None


def apply_diff(
    old: PayloadFile,
    changes: Annotated[str, typer.Argument(help="What `plada diff` wrote for OLD.")],
    out: Out,
    require_signature: RequireSignature = None,
    client_has: ClientHas = "manifest",
    pack: PackFile = None,
    home: Home = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write the payload that a file of changes makes of OLD."""
    made = plada.apply_diff(
        old, changes, out=out, require_signature=require_signature, client_has=client_has, pack=pack, home=home
    )
    if as_json:
        return print_json("summary", made.to_dict())
    print_line(f"{made.payload}: {made.bytes} bytes, {made.images} images, {made.classes} classes")
    return None
