"""The commands `plada diff` and `plada apply`."""

from typing import Annotated

import typer

import plada
from plada.commands.console.options import (
    ClientHas,
    Home,
    MinSerial,
    Out,
    Output,
    PackFile,
    PayloadFile,
    RequireSignature,
    SignWith,
)
from plada.commands.console.output import print_line


def diff(
    old: PayloadFile,
    new: PayloadFile,
    *,
    out: Out,
    client_has: ClientHas = "manifest",
    pack: PackFile = None,
    sign: SignWith = None,
    home: Home = None,
    output: Output,
) -> None:
    """Write the file that turns the payload OLD into NEW, at a fraction of NEW's size."""
    summary = plada.diff(old, new, out=out, client_has=client_has, pack=pack, sign=sign, home=home)
    if output.wrote_json(summary.to_dict()):
        return
    print_line(
        f"{summary.path}: {summary.bytes} bytes, {summary.bytes / summary.new_bytes:.0%} of the new payload's {summary.new_bytes}; "
        f"{summary.removed} images removed, {summary.added} added, {summary.relabelled} called otherwise"
    )


def apply_diff(
    old: PayloadFile,
    changes: Annotated[str, typer.Argument(help="What `plada diff` wrote for OLD.")],
    *,
    out: Out,
    require_signature: RequireSignature = None,
    min_serial: MinSerial = 0,
    client_has: ClientHas = "manifest",
    pack: PackFile = None,
    home: Home = None,
    output: Output,
) -> None:
    """Apply a file of changes to the payload OLD, and write the new payload."""
    summary = plada.apply_diff(
        old,
        changes,
        out=out,
        require_signature=require_signature,
        min_serial=min_serial,
        client_has=client_has,
        pack=pack,
        home=home,
    )
    if output.wrote_json(summary.to_dict()):
        return
    print_line(f"{summary.payload}: {summary.bytes} bytes, {summary.images} images, {summary.classes} classes")
