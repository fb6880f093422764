"""The command `plada bench`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import plada
from plada.commands.console import completion as completing
from plada.commands.console.options import IndexOption, Machine, NetworkOptions, Output, PackFile, RecipeOption, pairs
from plada.commands.console.output import print_line, print_table

if TYPE_CHECKING:
    from plada.api.bench import BenchSummary, PaperTables


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What is compared."""

    budgets: Annotated[str, typer.Option(help="Bytes that may be sent, commas between.")] = "500,1kB,2kB"
    keep: Annotated[
        str, typer.Option(help="Shares of the reference at which rules are compared as in the paper; none: not at all.")
    ] = "1%,5%,10%"
    methods: Annotated[
        str | None, typer.Option(help="Methods, commas between (docs/bench.md). [default: all that suit the student]")
    ] = None
    seeds: Annotated[int, typer.Option(min=1, help="Seeds: each draws another validation split.")] = 3
    client_has: Annotated[
        str,
        typer.Option(
            help="pack: measure ours with a pack and without; manifest: only without.",
            autocompletion=completing.client_has,
        ),
    ] = "pack"
    pack: PackFile = None
    far: Annotated[
        str | None,
        typer.Option(
            help="Targets that are far from the reference, commas between. [default: those known to be medical]"
        ),
    ] = None
    preset: Annotated[
        str | None,
        typer.Option(
            help="paper: the paper's teacher, student, keep rates and targets, where no other is named; needs --teacher-weights."
        ),
    ] = None
    teacher: Annotated[
        str | None, typer.Option(help="What labels the reference, as for plada select. [default: linear]")
    ] = None
    teacher_weights: Annotated[
        Path | None, typer.Option(help="A safetensors file that a finetune teacher starts from.")
    ] = None

    def tables(self) -> "PaperTables":
        """What is measured for the paper's tables."""
        teacher = None
        if self.teacher is not None or self.teacher_weights is not None:
            teacher = plada.TeacherSpec(
                names=self.teacher or "finetune:convnextv2_tiny", weights=self.teacher_weights, exhaustive=True
            )
        return plada.PaperTables(keep=self.keep, far=self.far, preset=self.preset, teacher=teacher)


def bench(
    *,
    targets: Annotated[
        str | None,
        typer.Option(
            help="Targets, commas between: registered names, folders. [default with --preset paper: the paper's]",
            autocompletion=completing.several_targets,
        ),
    ] = None,
    index: IndexOption = None,
    reference: Annotated[
        str | None,
        typer.Option(
            help="Instead of an index: the images that one was made of, a name or a path.",
            autocompletion=completing.references,
        ),
    ] = None,
    compared: Comparison,
    student: Annotated[
        str,
        typer.Option(
            help="linear (on the index's embeddings), small_cnn, or any timm network.",
            autocompletion=completing.students,
        ),
    ] = "linear",
    network: NetworkOptions,
    recipe: RecipeOption = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes, of one thread each. [default: one a core]")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for rows, tables and pictures.")] = Path(
        "plada-bench"
    ),
    machine: Machine,
    output: Output,
) -> None:
    """Compare plada's selections with the paper's rules, pixels and weights, at equal bytes.

    If it is interrupted, the same command resumes.
    """
    with output.reporter() as report:
        summary = plada.bench(
            index, reference=reference, targets=targets, budgets=compared.budgets, methods=compared.methods,
            seeds=compared.seeds, client_has=compared.client_has, pack=compared.pack, student=network.spec(student),
            recipe=pairs(recipe), paper=compared.tables(), workers=workers,
            out=out, device=machine.device, home=machine.home, report=report,
        )  # fmt: skip
    if output.wrote_json(summary.to_dict()):
        return
    _print_tables(summary)
    for gap in summary.gaps:
        print_line(f"gap: {gap}", error=True)


def _print_tables(summary: "BenchSummary") -> None:
    columns = [str(budget) for budget in summary.budgets]
    print_table(
        [
            [method, *(f"{100 * values[at]:.1f}" if at in values else "" for at in [*columns, "-"])]
            for method, values in summary.accuracy.items()
        ],
        head=("method", *(f"{budget} B" for budget in columns), "no budget"),
        title=f"test accuracy, %, mean of {len(summary.targets)} targets and {summary.seeds} seeds",
    )
    ahead = ", ".join(f"{at} B: {'yes' if leads else 'no'}" for at, leads in summary.ahead.items())
    pictures = ", ".join(Path(path).name for path in summary.pictures)
    measured = f"{summary.measured} of them measured now; {summary.unfit} do not fit their budget"
    print_table(
        [
            ["rows", f"{summary.rows}, {measured}"],
            ["ours above all others", ahead],
            ["files", f"{summary.document}, {summary.table}, {pictures}"],
            ["seconds", f"{summary.seconds:.1f}"],
        ]
    )
