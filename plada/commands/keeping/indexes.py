"""The command `plada indexes`."""

from typing import Annotated

import typer

import plada
from plada.commands.console.options import Home, Output
from plada.commands.console.output import print_line, print_table
from plada.common.units import format_size, group_digits
from plada.errors import RequestError


def indexes(
    action: Annotated[str | None, typer.Argument(help="show, remove or rename; without it, all are listed.")] = None,
    name: Annotated[str | None, typer.Argument(help="The one that is meant.")] = None,
    new: Annotated[str | None, typer.Argument(help="With rename: the new name.")] = None,
    *,
    kind: Annotated[str, typer.Option("--kind", help="index, payload, pack or manifest.")] = "index",
    yes: Annotated[bool, typer.Option("--yes", help="Remove without a question.")] = False,
    home: Home = None,
    output: Output,
) -> None:
    """List, show, remove or rename indexes; list and remove packs and manifests."""
    if action not in (None, "show", "remove", "rename"):
        raise RequestError(f"plada indexes {action}: expected show NAME, remove NAME, rename NAME NEW, or nothing")
    if (action is not None and name is None) or ((new is not None) != (action == "rename")):
        raise RequestError("plada indexes: expected show NAME, remove NAME, rename NAME NEW, or nothing")
    if action == "remove" and not yes:
        item = plada.indexes(name, kind=kind, home=home)[0]
        if not output.is_dialogue():
            raise RequestError(f"{kind} {name}: is removed only with --yes where nobody can be asked")
        if not typer.confirm(f"remove {item.path} ({format_size(item.bytes)})?", err=True):
            raise typer.Abort
    items = plada.indexes(name, kind=kind, remove=action == "remove", rename=new, home=home)
    if output.wrote_json({"items": [item.to_dict() for item in items]}):
        return
    if action == "show":
        print_table([[field, str(value)] for field, value in items[0].to_dict().items() if value not in (None, "")])
        return
    if action is not None:
        print_line(f"removed {items[0].path}" if action == "remove" else f"renamed to {items[0].path}")
        return
    if not items:
        print_line(f"nothing of kind {kind} is here yet")
        return
    rows = [
        [
            item.name, group_digits(item.images) if item.images is not None else "-", item.encoder or "-",
            format_size(item.bytes), "complete" if item.complete else item.problem,
        ]
        for item in items
    ]  # fmt: skip
    print_table(rows, head=("name", "images", "encoder", "size", "state"))
