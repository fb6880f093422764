"""The command `plada report`."""

from pathlib import Path
from typing import Annotated

import typer

import plada
from plada.commands.console import completion
from plada.commands.console.options import (
    Machine,
    Output,
    PackFile,
    PayloadFile,
    Rate,
    ReferenceOption,
    RequireSignature,
    SameKeys,
)
from plada.commands.console.output import print_line
from plada.common.units import format_size
from plada.errors import RequestError


def report(
    payload: PayloadFile,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write.")] = Path("report.html"),
    reference: ReferenceOption = None,
    same_keys: SameKeys = False,
    selection: Annotated[
        Path | None, typer.Option(help="The table that `plada select --table` wrote: scores, budget, forecast.")
    ] = None,
    model: Annotated[Path | None, typer.Option(help="A model that was trained on the payload: its result.")] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="What the model is tested on. [default: the target of the selection]",
            autocompletion=completion.targets,
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Where the encoder of a linear model lies now, if it has moved.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="The budget of the file: 1MB, 2048. [default: that of the selection]")
    ] = None,
    rate: Rate = None,
    pictures: Annotated[
        int, typer.Option(min=0, help="Images that are shown, at most, spread over the classes.")
    ] = 1500,
    pack: PackFile = None,
    require_signature: RequireSignature = None,
    names: Annotated[
        Path | None,
        typer.Option(
            help="Names of synsets for the keys, as ImageNet's words.txt. [default: words.txt beside the images]"
        ),
    ] = None,
    machine: Machine,
    output: Output,
) -> None:
    """Write a web page about a payload: its images, its bytes, its accuracy, with a form for corrections."""
    if model is None and target is not None:
        raise RequestError("--target is what a model is tested on: name the --model, too")
    test = (
        None if model is None else plada.ModelTest(model=model, target=target, weights=weights, device=machine.device)
    )
    with output.reporter() as progress:
        summary = plada.report(
            payload, out=out, reference=reference, same_keys=same_keys, selection=selection, model=test,
            budget=budget, rate=rate or (), pictures=pictures, pack=pack, require_signature=require_signature, names=names,
            home=machine.home, report=progress,
        )  # fmt: skip
    if output.wrote_json(summary.to_dict()):
        return
    print_line(
        f"{summary.report}: {format_size(summary.bytes)}, {summary.pictures} pictures of {summary.classes} classes"
    )
    for line in summary.unknown:
        print_line(f"not in it: {line}", error=True)
