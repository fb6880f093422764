"""The command `plada evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

import plada
from plada.commands.console import completion as completing
from plada.commands.console.options import (
    Adapt,
    Confusion,
    EncoderWeights,
    Machine,
    Output,
    adaptation_line,
    evaluation_rows,
    percent,
)
from plada.commands.console.output import print_line, print_table


def evaluate(
    model: Annotated[Path, typer.Argument(help="A model that `plada train` wrote.")],
    *,
    target: Annotated[
        str,
        typer.Option(
            help="A registered name, or a folder with test/CLASS or only CLASS.",
            autocompletion=completing.targets,
        ),
    ],
    confusion: Confusion = None,
    held_out: Annotated[
        bool,
        typer.Option(
            "--held-out",
            help="If the folder has only CLASS, test on the fifth that select and train hold out, not on all images.",
        ),
    ] = False,
    adapt: Adapt = None,
    weights: EncoderWeights = None,
    machine: Machine,
    output: Output,
) -> None:
    """Test a trained model: accuracy with its interval, each class, confusion, calibration."""
    with output.reporter() as report:
        result = plada.evaluate(
            model, target=target, confusion=confusion, weights=weights, held_out=held_out, adapt=adapt,
            device=machine.device, home=machine.home, report=report,
        )  # fmt: skip
    if output.wrote_json(result.to_dict()):
        return
    print_table(evaluation_rows(result.evaluation), title=f"{model} on {result.target}")
    print_table(
        [
            [c.name, str(c.images), percent(c.accuracy), f"{c.low:.1%} to {c.high:.1%}"]
            for c in result.evaluation.classes
        ],
        head=("class", "images", "accuracy", "95 %"),
    )  # fmt: skip
    print_table(
        [
            [f"{b.low:.0%} to {b.high:.0%}", str(b.images), f"{b.confidence:.1%}", f"{b.accuracy:.1%}"]
            for b in result.evaluation.reliability
            if b.images
        ],
        head=("confidence", "images", "mean", "right"),
    )  # fmt: skip
    if result.adaptation is not None:
        print_line(adaptation_line(result.adaptation), error=True)
    if result.target_note:
        print_line(f"target {target}: {result.target_note}", error=True)
