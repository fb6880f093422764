"""The command `plada select`: parse, call, print."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import plada
from plada.commands.console import completion as completing
from plada.commands.console.options import (
    ClientHas,
    Engine,
    IndexOption,
    Machine,
    ModelArg,
    Output,
    PackFile,
    Progressive,
    RecipeOption,
    Seed,
    Segments,
    Serial,
    SignWith,
    pairs,
    percent,
    seconds,
)
from plada.commands.console.output import print_line, print_table
from plada.common.files import last_name, local_place
from plada.common.outputs import check_outputs

if TYPE_CHECKING:
    from plada.selection.auto import RuleTrial
    from plada.selection.report import SelectionReport

_MAX_TRIED = 12  # rules that are shown


@dataclass(frozen=True, kw_only=True)
class TeacherOptions:
    """Which teachers label the reference."""

    teacher: Annotated[
        str,
        typer.Option(
            help="linear, finetune:ARCH, zeroshot, table:FILE, MODULE:FUNCTION; several, comma-separated, vote.",
            autocompletion=completing.teachers,
        ),
    ] = "linear"
    vote: Annotated[
        str,
        typer.Option(
            help="How several teachers vote: mean (of calibrated probabilities), or majority (of first choices)."
        ),
    ] = "mean"
    teacher_weights: Annotated[
        Path | None, typer.Option(help="Initial weights of a finetune teacher, a safetensors file.")
    ] = None
    model_arg: ModelArg = None
    image_size: Annotated[int | None, typer.Option(help="Side of the square that a finetune teacher sees.")] = None
    exhaustive: Annotated[
        bool,
        typer.Option("--exhaustive", help="Let a teacher that needs pixels label all images, not only a shortlist."),
    ] = False
    force: Annotated[bool, typer.Option("--force", help="Accept a teacher that is no better than chance.")] = False
    engine: Engine = "local"

    def spec(self) -> "plada.TeacherSpec":
        """The call's argument."""
        return plada.TeacherSpec(
            names=self.teacher,
            vote=self.vote,
            weights=self.teacher_weights,
            model_args=pairs(self.model_arg),
            image_size=self.image_size,
            exhaustive=self.exhaustive,
            force=self.force,
            engine=self.engine,
        )


@dataclass(frozen=True, kw_only=True)
class RuleOptions:
    """Which rule chooses, and how it is judged."""

    rule: Annotated[
        str,
        typer.Option(
            help="auto compares rules on the target's own images; or the name of a rule, such as paper (docs/rules.md).",
            autocompletion=completing.rules,
        ),
    ] = "auto"
    judge: Annotated[
        str | None,
        typer.Option(
            help="Another index of the same reference: rules are judged on it, too, for clients with its encoder.",
            autocompletion=completing.indexes,
        ),
    ] = None
    compare: Annotated[
        bool, typer.Option("--compare", help="Forecast a quantised head and shrunk pictures in the same bytes, too.")
    ] = False

    def spec(self) -> "plada.RuleSpec":
        """The call's argument."""
        return plada.RuleSpec(name=self.rule, judge=self.judge, compare=self.compare)


@dataclass(frozen=True, kw_only=True)
class CorrectionOptions:
    """What a person changes before images are chosen."""

    exclude: Annotated[Path | None, typer.Option(help="A text file of keys to leave out, one a line.")] = None
    relabel: Annotated[
        Path | None, typer.Option(help="A table (csv, parquet) of key and label, with corrected labels.")
    ] = None
    distinct: Annotated[
        float | None,
        typer.Option(
            help="Of images of a class with a cosine similarity above this, such as 0.9, choose only the most confident."
        ),
    ] = None
    drop_leaks: Annotated[
        bool, typer.Option("--drop-leaks", help="Leave out near copies of the target's test images.")
    ] = False

    def corrections(self) -> "plada.Corrections":
        """The call's argument."""
        return plada.Corrections(**asdict(self))


@dataclass(frozen=True, kw_only=True)
class DeliveryOptions:
    """How the payload is written."""

    client_has: ClientHas = "manifest"
    pack: PackFile = None
    progressive: Progressive = None
    segments: Segments = None
    sign: SignWith = None
    serial: Serial = 0
    calibration: Annotated[
        bool,
        typer.Option(
            "--calibration",
            help="Add a calibration for linear students on the index's encoder (predict --adapt), a byte a class.",
        ),
    ] = False

    def delivery(self) -> "plada.Delivery":
        """The call's argument."""
        return plada.Delivery(**asdict(self))


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """The payload's file, and what is written of the selection beside it."""

    out: Annotated[Path | None, typer.Option("--out", "-o", help="The payload file. [default: TARGET.plada]")] = None
    sheet: Annotated[
        Path | None,
        typer.Option(
            help="Write a contact sheet (PNG) of the first images of each class, in the order in which the rule chose them."
        ),
    ] = None
    percentiles: Annotated[
        Path | None, typer.Option(help="Write a contact sheet (PNG) of images by their score, first to last.")
    ] = None
    histogram: Annotated[
        Path | None, typer.Option(help="Write how often each class is in the reference and in the choice (PNG).")
    ] = None
    table: Annotated[
        Path | None, typer.Option(help="Write the selection as Parquet: position, key, label, score, class_rank.")
    ] = None

    def write_pictures(self, selection: "plada.Selection") -> None:
        """Write the pictures and the table that were asked for."""
        for path, write in (
            (self.sheet, selection.contact_sheet),
            (self.percentiles, selection.percentiles),
            (self.histogram, selection.histogram),
            (self.table, selection.write_table),
        ):
            if path is not None:
                write(path)


def select(
    *,
    target: Annotated[
        str,
        typer.Option(
            help="A registered name, a folder with train/CLASS and test/CLASS, or classes:cat,dog (only names).",
            autocompletion=completing.targets,
        ),
    ],
    budget: Annotated[str, typer.Option(help="Size of the whole file: 1MB, 200kB, 2048.")] = "1MB",
    keep: Annotated[
        str | None, typer.Option(help="Share of the reference instead: 1%, 0.01. The budget still holds.")
    ] = None,
    index: IndexOption = None,
    choosing: RuleOptions,
    labels: Annotated[
        str,
        typer.Option(
            help="hard, or soft, dirichlet: the paper's variants, sent as probabilities of each class in the notes.",
            autocompletion=completing.labels,
        ),
    ] = "hard",
    teaching: TeacherOptions,
    weights: Annotated[
        Path | None, typer.Option(help="Where the index's encoder weights lie now, if they have moved.")
    ] = None,
    recipe: RecipeOption = None,
    files: FileOptions,
    correcting: CorrectionOptions,
    delivering: DeliveryOptions,
    seed: Seed = 0,
    machine: Machine,
    output: Output,
) -> None:
    """Choose and label reference images for a target, within the budget."""
    out = files.out or Path(f"{_plain_target(target)}.plada")
    check_outputs(out, files.sheet, files.percentiles, files.histogram, files.table)
    with output.reporter() as report:
        selection = plada.select(
            index, target=target, budget=budget, keep=keep, rule=choosing.spec(), labels=labels, teacher=teaching.spec(),
            weights=weights, delivery=delivering.delivery(), recipe=pairs(recipe),
            out=out, corrections=correcting.corrections(), seed=seed,
            device=machine.device, home=machine.home, report=report,
        )  # fmt: skip
        files.write_pictures(selection)
    made = selection.report
    if output.wrote_json(made.to_dict()):
        return
    print_table(_rows(made), title=f"selection for {target}")
    if len(made.tried) > 1:
        head = ("rule", "images", "bytes", "accuracy", "elsewhere", "lead", "p")
        rows = [_tried(trial) for trial in _compared(made.tried)[:_MAX_TRIED]]
        print_table(rows, head=head, title="each rule at its best, on the target's own images (~ estimated bytes)")
    for line in _remarks(made, target):
        print_line(line, error=True)


def _rows(report: "SelectionReport") -> list[list[str]]:
    counts = sorted(report.class_counts.values())
    teacher, forecast = report.teacher, report.forecast
    rows = [
        ["payload", f"{report.payload}: {report.bytes} of {report.budget} bytes, coder {report.coder}"],
        ["images", f"{report.images} ({report.keep_rate:.2%} of the reference), rule {report.rule}"],
        ["classes", f"{report.classes}, {counts[0]} to {counts[-1]} images each"],
        ["teacher", f"{teacher.kind}: test {_with(teacher.accuracy, teacher.interval)}, validation {_with(teacher.validation_accuracy, teacher.validation_interval)}"],
    ]  # fmt: skip
    if forecast is not None:
        rows.append(["students, forecast", f"{_with(forecast.accuracy, forecast.interval)} of the target's images"])
        if forecast.second_view is not None:
            rows.append(["students elsewhere", f"{percent(forecast.second_view)}, on a second view of the images"])
        rows += [[f"{name} instead", f"{percent(value)} expected"] for name, value in report.alternatives.items()]
        if len(forecast.points) > 1:
            points = ", ".join(f"{size} bytes {percent(value)}" for size, value in forecast.points)
            rows.append(["at other budgets", points])
            enough = f"from {forecast.enough} bytes on" if forecast.enough is not None else "not within these budgets"
            rows.append(["more bytes stop paying", enough])
    return [*rows, ["seconds", seconds(report.seconds)]]


def _with(accuracy: float | None, interval: tuple[float, float] | None) -> str:
    return percent(accuracy) + (f" ({interval[0]:.1%} to {interval[1]:.1%})" if interval is not None else "")


def _compared(tried: "tuple[RuleTrial, ...]") -> "list[RuleTrial]":
    """The trial of each rule that was compared, or compared with: each at its best number of images, to within a point."""
    return [trial for trial in tried if trial.p is not None or not trial.error]


def _tried(trial: "RuleTrial") -> list[str]:
    lead = f"{100 * trial.lead:+.1f} +- {100 * trial.error:.1f}" if trial.error else ""
    shares = (percent(trial.validation_accuracy), percent(trial.second_view))
    p = "" if trial.p is None else f"{trial.p:.2f}"
    return [trial.rule, str(trial.keep), f"{'' if trial.exact else '~'}{trial.bytes}", *shares, lead, p]


def _remarks(report: "SelectionReport", target: str) -> list[str]:
    lines = []
    if report.rule_note:
        lines.append(f"rule {report.rule}: {report.rule_note}")
    if report.forecast is not None and report.forecast.note:
        lines.append(f"forecast: {report.forecast.note}")
    if far := report.nearness_in_words():
        hint = "" if report.alternatives else ". --compare forecasts what else would serve"
        lines.append(f"warning: target {target}: {far}{hint}")
    lines += report.remarks
    if report.target_note:
        lines.append(f"target {target}: {report.target_note}")
    if report.relabel_note:
        lines.append(f"warning: {report.relabel_note}")
    if report.teacher.note:
        lines.append(f"teacher: {report.teacher.note}")
    if report.leaks:
        lines.append(f"warning: {report.leaks_in_words()}; --drop-leaks leaves them out")
    if report.leaks_note:
        lines.append(f"not checked for copies of test images: {report.leaks_note}")
    if report.leaks_dropped:
        lines.append(f"left out: {report.dropped_in_words()}")
    if report.label_bytes:
        lines.append(
            f"labels {report.labels}: {report.label_bytes} of the {report.bytes} bytes are what classes are like"
        )
    if report.calibration_bytes:
        lines.append(f"calibration: {report.calibration_bytes} of the {report.bytes} bytes, for clients' --adapt")
    if report.copies:
        lines.append(
            f"{report.copies} images of the reference were left out as near-duplicates of surer ones of their class"
        )
    if report.left_out:
        more = ", ..." if report.left_out > len(report.left_out_examples) else ""
        named = f": {', '.join(report.left_out_examples)}{more}" if report.left_out_examples else ""
        lines.append(f"{report.left_out} images of the target could not be read and were left out{named}")
    if report.empty_classes:
        lines.append(
            f"the teacher calls no image of the reference {', '.join(report.empty_classes)}: students cannot learn it; their "
            "quota went to the other classes"
        )
    return lines


def _plain_target(target: str) -> str:
    """What a payload is called where nobody says: a registered name without its options, the last part of a path."""
    place = local_place(target)
    if "/" in place or place in (".", ".."):
        return last_name(Path(place).expanduser()) or "target"
    return place.partition(":")[0]
