"""The command `plada explore`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import plada
from plada.commands.console import completion
from plada.commands.console.options import Machine, Output, PackFile, RequireSignature, SameKeys
from plada.commands.console.output import print_line
from plada.common.units import group_digits

if TYPE_CHECKING:
    from plada.api.explore import ExploreSummary


def explore(
    name: Annotated[
        str, typer.Argument(help="Name, folder or URL (s3://...) of the index.", autocompletion=completion.indexes)
    ],
    payload: Annotated[
        list[str] | None,
        typer.Argument(help="Payloads (.plada files, or URLs) of its reference, to see what they chose."),
    ] = None,
    *,
    reference: Annotated[
        str | None,
        typer.Option(
            help="Where the images are now, a name or a path. [default: where they were indexed]",
            autocompletion=completion.references,
        ),
    ] = None,
    same_keys: SameKeys = False,
    selection: Annotated[
        list[Path] | None,
        typer.Option(help="A table that `plada select --table` wrote with one of the payloads: scores; repeatable."),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0 takes a free one.")] = 7523,
    open_page: Annotated[
        bool, typer.Option("--open/--no-open", help="Open a browser, where there is a screen.")
    ] = True,
    pack: PackFile = None,
    require_signature: RequireSignature = None,
    catalogue: Annotated[
        list[str] | None,
        typer.Option(help="A catalogue, a path or URL: its tasks, and what each version changed; repeatable."),
    ] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            help="Another index of the same images, whose answers stand beside: name, folder or URL; repeatable.",
            autocompletion=completion.indexes,
        ),
    ] = None,
    names: Annotated[
        Path | None,
        typer.Option(
            help="Names of synsets for the keys, as ImageNet's words.txt. [default: words.txt beside the images]"
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Where the encoder's weights lie now, if they have moved.")
    ] = None,
    machine: Machine,
    output: Output,
) -> None:
    """Explore an index in a browser on this machine: search, neighbours, chosen images. Ctrl-C ends it."""

    def ready(summary: "ExploreSummary") -> None:
        if output.wrote_json(summary.to_dict()):
            return
        chosen = f" and {summary.payloads} payload{'s' if summary.payloads > 1 else ''}" if summary.payloads else ""
        print_line(
            f"{summary.index}: {group_digits(summary.images)} images{chosen}. Open this address; Ctrl-C ends it:"
        )
        print_line(summary.url)
        sys.stdout.flush()
        for line in summary.notes:
            print_line(line, error=True)

    with output.reporter() as progress:
        plada.explore(
            [name, *(beside or ())], payload or (), reference=reference, same_keys=same_keys, selection=selection or (), port=port,
            open_page=open_page, pack=pack, require_signature=require_signature,
            catalogue=catalogue or (), weights=weights, names=names, device=machine.device, home=machine.home, ready=ready,
            report=progress,
        )  # fmt: skip
