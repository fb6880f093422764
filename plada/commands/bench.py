"""The command `plada bench`: parse, call, print."""

from pathlib import Path
from typing import Annotated

import typer

import plada
from plada.commands.console import completion as completing
from plada.commands.console.options import (
    Device,
    Home,
    ImageSize,
    Json,
    ModelArg,
    PackFile,
    Pretrained,
    Quiet,
    RecipeOption,
    Weights,
    pairs,
)
from plada.commands.console.output import print_json, print_table, reporter


def bench(
    targets: Annotated[
        str,
        typer.Option(
            help="Targets, commas between: registered names, folders.", autocompletion=completing.several_targets
        ),
    ],
    index: Annotated[
        str | None,
        typer.Option(help="Name or folder of the index. [default: the only one]", autocompletion=completing.indexes),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            help="Instead of an index: the images that one was made of, a name or a path.",
            autocompletion=completing.references,
        ),
    ] = None,
    budgets: Annotated[str, typer.Option(help="Bytes that may be sent, commas between.")] = "500,1kB,2kB",
    keep: Annotated[
        str, typer.Option(help="Shares of the reference at which rules are compared as in the paper; none: not at all.")
    ] = "1%,5%,10%",
    methods: Annotated[
        str | None, typer.Option(help="Methods, commas between (docs/bench.md). [default: all that suit the student]")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds: each draws another validation split.")] = 3,
    client_has: Annotated[
        str,
        typer.Option(
            help="pack: ours is measured with a pack and without; manifest: without alone.",
            autocompletion=completing.client_has,
        ),
    ] = "pack",
    pack: PackFile = None,
    student: Annotated[
        str,
        typer.Option(
            help="linear (on the index's embeddings), small_cnn, or any timm network.",
            autocompletion=completing.students,
        ),
    ] = "linear",
    weights: Weights = None,
    pretrained: Pretrained = False,
    model_arg: ModelArg = None,
    image_size: ImageSize = None,
    recipe: RecipeOption = None,
    far: Annotated[
        str | None, typer.Option(help="Targets that are far off, commas between. [default: those known to be medical]")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes, of one thread each. [default: one a core]")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for rows, tables and pictures.")] = Path(
        "plada-bench"
    ),
    device: Device = None,
    home: Home = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Compare with the paper's rules and with other things that could be sent, at equal bytes.

    Stopped by whatever, the same command goes on.
    """
    with reporter(as_json=as_json, quiet=quiet) as report:
        made = plada.bench(
            index, reference=reference, targets=targets, budgets=budgets, keep=keep, methods=methods, seeds=seeds,
            client_has=client_has, pack=pack, student=student, weights=weights, pretrained=pretrained,
            model_args=pairs(model_arg), image_size=image_size, recipe=pairs(recipe), far=far, workers=workers, out=out,
            device=device, home=home, report=report,
        )  # fmt: skip
    if as_json:
        return print_json("summary", made.to_dict())
    columns = [str(budget) for budget in made.budgets]
    print_table(
        [
            [method, *(f"{100 * values[at]:.1f}" if at in values else "" for at in [*columns, "-"])]
            for method, values in made.accuracy.items()
        ],
        head=("method", *(f"{budget} B" for budget in columns), "no budget"),
        title=f"test accuracy, %, mean of {len(made.targets)} targets and {made.seeds} seeds",
    )
    print_table(
        [
            ["rows", f"{made.rows}, {made.measured} of them measured now; {made.unfit} do not fit their budget"],
            ["ours above all others", ", ".join(f"{at} B: {'yes' if yes else 'no'}" for at, yes in made.ahead.items())],
            ["files", f"{made.document}, {made.table}, {', '.join(Path(one).name for one in made.pictures)}"],
            ["seconds", f"{made.seconds:.1f}"],
        ]
    )
    return None
