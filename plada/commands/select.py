"""The command `plada select`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import plada
from plada.commands.console import completion as completing
from plada.commands.console.options import (
    ClientHas,
    Device,
    Home,
    Json,
    ModelArg,
    PackFile,
    Progressive,
    Quiet,
    RecipeOption,
    Seed,
    Segments,
    Serial,
    SignWith,
    pairs,
    percent,
    seconds,
)
from plada.commands.console.output import print_json, print_table, reporter

if TYPE_CHECKING:
    from plada.selection.selection import SelectionReport

_TRIED = 12  # rules that are shown


def select(
    target: Annotated[
        str,
        typer.Option(
            help="A registered name, a folder with train/CLASS and test/CLASS, or classes:cat,dog (names alone).",
            autocompletion=completing.targets,
        ),
    ],
    budget: Annotated[str, typer.Option(help="Size of the whole file: 1MB, 200kB, 2048.")] = "1MB",
    keep: Annotated[
        str | None, typer.Option(help="Share of the reference instead: 1%, 0.01. The budget still holds.")
    ] = None,
    index: Annotated[
        str | None,
        typer.Option(help="Name or folder of the index. [default: the only one]", autocompletion=completing.indexes),
    ] = None,
    rule: Annotated[
        str,
        typer.Option(
            help="auto (tries some, judged on the target's own images), paper, or another; unknown: a list.",
            autocompletion=completing.rules,
        ),
    ] = "auto",
    labels: Annotated[
        str,
        typer.Option(
            help="hard, or soft, dirichlet: the paper's variants, sent as odds of each class in the notes.",
            autocompletion=completing.labels,
        ),
    ] = "hard",
    teacher: Annotated[
        str,
        typer.Option(
            help="linear, finetune:ARCH, zeroshot, table:FILE, MODULE:FUNCTION; several, comma-separated, vote.",
            autocompletion=completing.teachers,
        ),
    ] = "linear",
    teacher_weights: Annotated[
        Path | None, typer.Option(help="Where a finetune teacher starts from, safetensors.")
    ] = None,
    model_arg: ModelArg = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the square that a finetune teacher sees.")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Where the index's encoder weights lie now, if they have moved.")
    ] = None,
    exhaustive: Annotated[
        bool,
        typer.Option("--exhaustive", help="Let a teacher that looks at pictures see all, not the candidates alone."),
    ] = False,
    recipe: RecipeOption = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The payload file. [default: TARGET.plada]")] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Write a contact sheet (PNG) of the best images of each class.")
    ] = None,
    percentiles: Annotated[
        Path | None, typer.Option(help="Write a contact sheet (PNG) of images by their score, first to last.")
    ] = None,
    histogram: Annotated[
        Path | None, typer.Option(help="Write how often each class is in the reference and in the choice (PNG).")
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="Write the selection as Parquet: position, key, label, score, class_rank.")
    ] = None,
    exclude: Annotated[Path | None, typer.Option(help="A text file of keys to leave out, one a line.")] = None,
    relabel: Annotated[
        Path | None, typer.Option(help="A table (csv, parquet) of key and label: what a person says images show.")
    ] = None,
    distinct: Annotated[
        float | None,
        typer.Option(
            help="Of images of a class with a cosine above this, such as 0.9, the surest alone can be chosen."
        ),
    ] = None,
    drop_leaks: Annotated[
        bool, typer.Option("--drop-leaks", help="Leave out near copies of the target's test images.")
    ] = False,
    client_has: ClientHas = "manifest",
    pack: PackFile = None,
    progressive: Progressive = None,
    segments: Segments = None,
    sign: SignWith = None,
    serial: Serial = 0,
    force: Annotated[bool, typer.Option("--force", help="Accept a teacher that is no better than chance.")] = False,
    seed: Seed = 0,
    device: Device = None,
    home: Home = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Choose and label reference images for a target, as many as fit into the budget."""
    with reporter(as_json=as_json, quiet=quiet) as report:
        made = plada.select(
            index, target=target, budget=budget, keep=keep, rule=rule, labels=labels, teacher=teacher, teacher_weights=teacher_weights,
            model_args=pairs(model_arg), image_size=image_size, weights=weights, exhaustive=exhaustive, client_has=client_has, pack=pack,
            progressive=progressive, segments=segments, sign=sign, serial=serial, recipe=pairs(recipe), out=out or Path(f"{_plain_target(target)}.plada"), sheet=sheet,
            percentiles=percentiles, histogram=histogram, table=table, exclude=exclude, relabel=relabel,
            distinct=distinct, drop_leaks=drop_leaks, force=force, seed=seed, device=device, home=home, report=report,
        ).report  # fmt: skip
    if as_json:
        return print_json("summary", made.to_dict())
    print_table(_rows(made), title=f"selection for {target}")
    if len(made.tried) > 1:
        head = ("rule", "images", "bytes", "accuracy", "lead", "seconds")
        print_table([_tried(one) for one in made.tried[:_TRIED]], head=head, title="tried on the target's own images")
    for line in _remarks(made, target):
        print(line, file=sys.stderr)
    return None


def _rows(made: "SelectionReport") -> list[list[str]]:
    counts = sorted(made.class_counts.values())
    taught = made.teacher
    rows = [
        ["payload", f"{made.payload}: {made.bytes} of {made.budget} bytes, coder {made.coder}"],
        ["images", f"{made.images} ({made.keep_rate:.2%} of the reference), rule {made.rule}"],
        ["classes", f"{made.classes}, {counts[0]} to {counts[-1]} images each"],
        ["teacher", f"{taught.kind}: test {_with(taught.accuracy, taught.interval)}, validation {_with(taught.validation_accuracy, taught.validation_interval)}"],
    ]  # fmt: skip
    if made.forecast is not None:
        seen = made.forecast
        rows.append(["students, forecast", f"{_with(seen.accuracy, seen.interval)} of the target's images"])
        if len(seen.points) > 1:
            rows.append(
                ["at other budgets", ", ".join(f"{size} bytes {percent(value)}" for size, value in seen.points)]
            )
            enough = f"from {seen.enough} bytes on" if seen.enough is not None else "not within these budgets"
            rows.append(["more bytes stop paying", enough])
    return [*rows, ["seconds", seconds(made.seconds)]]


def _with(accuracy: float | None, around: tuple[float, float] | None) -> str:
    return percent(accuracy) + (f" ({around[0]:.1%} to {around[1]:.1%})" if around is not None else "")


def _tried(one: Any) -> list[str]:
    lead = f"{100 * one.lead:+.1f} +- {100 * one.error:.1f}" if one.error else ""
    return [
        one.rule,
        str(one.keep),
        str(one.bytes),
        percent(one.validation_accuracy),
        lead,
        f"{one.seconds:.1f}",
    ]


def _remarks(made: "SelectionReport", target: str) -> list[str]:
    from plada.selection.leaks import in_words

    lines = []
    if made.rule_note:
        lines.append(f"rule {made.rule}: {made.rule_note}")
    if made.target_note:
        lines.append(f"target {target}: {made.target_note}")
    if made.teacher.note:
        lines.append(f"teacher: {made.teacher.note}")
    if made.leaks:
        lines.append(f"warning: {in_words(made.leaks)}; --drop-leaks leaves them out")
    if made.leaks_note:
        lines.append(f"not checked for copies of test images: {made.leaks_note}")
    if made.leaks_dropped:
        lines.append(f"left out: {in_words(made.leaks_dropped)}")
    if made.label_bytes:
        lines.append(f"labels {made.labels}: {made.label_bytes} of the {made.bytes} bytes are what classes are like")
    if made.copies:
        lines.append(
            f"{made.copies} images of the reference were left out as near-duplicates of surer ones of their class"
        )
    if made.left_out:
        lines.append(f"{made.left_out} images of the target could not be read and were left out")
    if made.empty_classes:
        lines.append(
            f"the teacher calls no image of the reference {', '.join(made.empty_classes)}: students cannot learn it; their "
            "quota went to the other classes"
        )
    return lines


def _plain_target(target: str) -> str:
    """What a payload is called where nobody says: a registered name without its options, the last part of a path."""
    return target.partition(":")[0] if "/" not in target else Path(target).name
