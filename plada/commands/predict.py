"""The command `plada predict`."""

from pathlib import Path
from typing import Annotated, Any

import typer

import plada
from plada.commands.console.options import Adapt, Device, EncoderWeights, ModelFile, Output, adaptation_line
from plada.commands.console.output import print_line
from plada.errors import DataError


def predict(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Picture files, or folders of them.")],
    *,
    model: ModelFile,
    top: Annotated[int, typer.Option(min=1, help="Classes that are named.")] = 3,
    adapt: Adapt = None,
    weights: EncoderWeights = None,
    device: Device = None,
    output: Output,
) -> None:
    """Say what a trained model sees in pictures. Some that cannot be read end it with status 5, after all others are answered."""
    with output.reporter() as report:
        predictions = plada.predict(
            images, model=model, top=top, adapt=adapt, weights=weights, device=device, report=report
        )
    adaptation = predictions.adaptation
    summary: dict[str, Any] = {"model": str(model), "predictions": [each.to_dict() for each in predictions]}
    summary["adaptation"] = adaptation.to_dict() if adaptation is not None else None
    if not output.wrote_json(summary):
        if adaptation is not None:
            print_line(adaptation_line(adaptation), error=True)
        for each in predictions:
            best = ", ".join(f"{name} {share:.1%}" for name, share in each.best)
            print_line(f"{each.image}: {best or f'cannot be read: {each.problem}'}")
    if bad := [each for each in predictions if each.problem]:
        raise DataError(
            f"predict: {len(bad)} of {len(predictions)} pictures cannot be read, such as {bad[0].image} ({bad[0].problem}). "
            "Restore them, or leave them out; the others are answered"
        )
