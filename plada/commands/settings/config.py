"""The command `plada config`."""

from typing import Annotated

import typer

import plada
from plada.commands.console.options import Home, Output
from plada.commands.console.output import print_table
from plada.errors import RequestError


def config(
    action: Annotated[str | None, typer.Argument(help="set or unset; without it, all settings are listed.")] = None,
    name: Annotated[str | None, typer.Argument(help="encoder, download or datasets.")] = None,
    value: Annotated[str | None, typer.Argument(help="The value to keep.")] = None,
    *,
    home: Home = None,
    output: Output,
) -> None:
    """Show, set or unset what all commands use: the encoder, downloads, folders of collections."""
    if action not in (None, "set", "unset"):
        raise RequestError(f"plada config {action}: expected set NAME VALUE, unset NAME, or nothing")
    if action == "set" and (name is None or value is None):
        raise RequestError("plada config set: expected a name and a value, such as: plada config set encoder clip")
    if action == "unset" and (name is None or value is not None):
        raise RequestError("plada config unset: expected one name, such as: plada config unset encoder")
    found = plada.config(name, value, unset=action == "unset", home=home)
    if output.wrote_json({"settings": [each.to_dict() for each in found]}):
        return
    rows = [[each.name, each.value or "-", each.origin, each.purpose] for each in found]
    print_table(rows, head=("setting", "value", "from", "purpose"))
