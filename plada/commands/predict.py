"""The command `plada predict`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import plada
from plada.commands.console.options import Adapt, Device, EncoderWeights, ModelFile, Output, adaptation_line
from plada.commands.console.output import print_line
from plada.errors import DataError

if TYPE_CHECKING:
    from plada.trainer.adaptation import Adaptation


def predict(
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE...", help="Pictures: files, folders, wildcards in quotes, URLs.")
    ],
    *,
    model: ModelFile,
    top: Annotated[int, typer.Option(min=1, help="Number of classes to print.")] = 3,
    adapt: Adapt = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write a table instead, .csv or .parquet; for any number of pictures."),
    ] = None,
    weights: EncoderWeights = None,
    device: Device = None,
    output: Output,
) -> None:
    """Predict the classes of images. If some cannot be read, all others are predicted, and the exit status is 5."""
    count, bad, example = 0, 0, ""
    if out is not None:
        with output.reporter() as report:
            written = plada.predict(
                images, model=model, top=top, adapt=adapt, out=out, weights=weights, device=device, report=report
            )
        count, bad, example = written.images, written.unreadable, written.example
        if not output.wrote_json({"model": str(model), **written.to_dict(), "predictions": []}):
            _print_adaptation(written.adaptation)
            print_line(f"{out}: {count} pictures")
    elif output.as_json:
        with output.reporter() as report:
            predictions = plada.predict(
                images, model=model, top=top, adapt=adapt, weights=weights, device=device, report=report
            )
        unreadable = [each for each in predictions if each.problem]
        count, bad = len(predictions), len(unreadable)
        example = f"{unreadable[0].image} ({unreadable[0].problem})" if unreadable else ""
        output.wrote_json(
            {
                "model": str(model), "predictions": [each.to_dict() for each in predictions], "images": count,
                "unreadable": bad,
                "adaptation": predictions.adaptation.to_dict() if predictions.adaptation is not None else None,
            }
        )  # fmt: skip
    else:  # each line is printed as soon as it is known
        loaded = plada.load_model(model, weights=weights, device=device)
        if adapt is not None:
            with output.reporter() as report:
                loaded = loaded.adapt(adapt, report=report)
            _print_adaptation(loaded.adaptation)
        for each in loaded.stream(images, top=top):
            best = ", ".join(f"{name} {share:.1%}" for name, share in each.best)
            print_line(f"{each.image}: {best or f'cannot be read: {each.problem}'}")
            count += 1
            if each.problem:
                bad, example = bad + 1, example or f"{each.image} ({each.problem})"
    if bad:
        raise DataError(
            f"predict: {bad} of {count} pictures cannot be read, such as {example}. Restore them, or leave them out; the others "
            "are answered"
        )


def _print_adaptation(adaptation: "Adaptation | None") -> None:
    if adaptation is not None:
        print_line(adaptation_line(adaptation), error=True)
