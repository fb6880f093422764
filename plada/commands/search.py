"""The command `plada search`: parse, call, print."""

from pathlib import Path
from typing import Annotated

import typer

import plada
from plada.commands.console.options import Home, IndexOption, Output
from plada.commands.console.output import print_table


def search(
    query: Annotated[
        list[str],
        typer.Argument(
            help="Image files, position:NUMBER, key:KEY (or its beginning), or words (text:WORDS) if the encoder has a text tower."
        ),
    ],
    *,
    index: IndexOption = None,
    k: Annotated[int, typer.Option("-k", help="Hits for each query.")] = 10,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Use the approximate index: fast, but an image may be missed.")
    ] = False,
    sheet: Annotated[Path | None, typer.Option(help="Write queries and hits as pictures (PNG).")] = None,
    home: Home = None,
    output: Output,
) -> None:
    """Find the images of a reference that are nearest to an image or to words."""
    with output.reporter() as report:
        found = plada.search(query, index=index, k=k, exact=not approximate, sheet=sheet, home=home, report=report)
    hits = [
        {**({"query": text} if len(query) > 1 else {}), "position": hit.position, "key": hit.key, "score": hit.score}
        for text, row in zip(query, found, strict=True)
        for hit in row
    ]
    if output.wrote_json({"hits": hits}):
        return
    for text, row in zip(query, found, strict=True):
        print_table(
            [[str(h.position), h.key, f"{h.score:.4f}"] for h in row], head=("position", "key", "score"), title=text
        )
