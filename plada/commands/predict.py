"""The command `plada predict`."""

from pathlib import Path
from typing import Annotated

import typer

import plada
from plada.commands.console.options import Device, EncoderWeights, ModelFile, Output
from plada.commands.console.output import print_line
from plada.errors import DataError


def predict(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Picture files, or folders of them.")],
    *,
    model: ModelFile,
    top: Annotated[int, typer.Option(min=1, help="Classes that are named.")] = 3,
    weights: EncoderWeights = None,
    device: Device = None,
    output: Output,
) -> None:
    """Say what a trained model sees in pictures. Some that cannot be read end it with status 5, after all others are answered."""
    with output.reporter() as report:
        predictions = plada.predict(images, model=model, top=top, weights=weights, device=device, report=report)
    if not output.wrote_json({"model": str(model), "predictions": [each.to_dict() for each in predictions]}):
        for each in predictions:
            best = ", ".join(f"{name} {share:.1%}" for name, share in each.best)
            print_line(f"{each.image}: {best or f'cannot be read: {each.problem}'}")
    if bad := [each for each in predictions if each.problem]:
        raise DataError(
            f"predict: {len(bad)} of {len(predictions)} pictures cannot be read, such as {bad[0].image} ({bad[0].problem}). "
            "Restore them, or leave them out; the others are answered"
        )
