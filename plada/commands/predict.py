"""The command `plada predict`."""

from pathlib import Path
from typing import Annotated

import typer

import plada
from plada.commands.console.options import Device, EncoderWeights, Json, ModelFile, Quiet
from plada.commands.console.output import print_json, reporter


def predict(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Picture files, or folders of them.")],
    model: ModelFile,
    top: Annotated[int, typer.Option(min=1, help="Classes that are named.")] = 3,
    weights: EncoderWeights = None,
    device: Device = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Say what a trained model sees in pictures."""
    with reporter(as_json=as_json, quiet=quiet) as report:
        made = plada.predict(images, model=model, top=top, weights=weights, device=device, report=report)
    if as_json:
        return print_json("summary", {"model": str(model), "predictions": [found.to_dict() for found in made]})
    for found in made:
        best = ", ".join(f"{name} {share:.1%}" for name, share in found.best)
        print(f"{found.image}: {best or f'cannot be read: {found.problem}'}")
    return None
