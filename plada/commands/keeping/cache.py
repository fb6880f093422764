"""The command `plada cache`."""

from typing import TYPE_CHECKING, Annotated

import typer

import plada
from plada.commands.console.options import Home, Output
from plada.commands.console.output import print_table
from plada.common.units import format_size, group_digits
from plada.errors import RequestError

if TYPE_CHECKING:
    from plada.retrieval.kept import CacheFolder


def cache(
    *,
    prune: Annotated[bool, typer.Option("--prune", help="Delete what plada can make again.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Prune without a question.")] = False,
    home: Home = None,
    output: Output,
) -> None:
    """Show the sizes of caches, or empty them."""
    if prune and not yes:
        if not output.is_dialogue():
            raise RequestError("plada cache --prune: deletes only with --yes where nobody can be asked")
        total = sum(folder.bytes for folder in plada.cache(home=home))
        if not typer.confirm(f"delete {format_size(total)} of caches?", err=True):
            raise typer.Abort
    folders = plada.cache(prune=prune, home=home)
    if output.wrote_json({"caches": [folder.to_dict() for folder in folders]}):
        return
    rows = [
        [folder.name, group_digits(folder.files), format_size(folder.bytes), format_size(folder.freed)]
        for folder in folders
    ]
    print_table(
        [*rows, ["all", *_totals(folders)]],
        head=("cache", "files", "size", "freed"),
    )


def _totals(folders: "list[CacheFolder]") -> list[str]:
    return [
        group_digits(sum(folder.files for folder in folders)),
        format_size(sum(folder.bytes for folder in folders)),
        format_size(sum(folder.freed for folder in folders)),
    ]
