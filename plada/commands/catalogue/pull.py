"""The command `plada pull`."""

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

import plada
from plada.commands.console import completion as completing
from plada.commands.console.options import Home, Output, RequireSignature
from plada.commands.console.output import print_json, print_line, print_table
from plada.common.units import format_rate, format_seconds, format_size, format_time
from plada.errors import RequestError

if TYPE_CHECKING:
    from plada.api.catalogue.pull import ListedTask, PullSummary

_AT_FAULT = 1  # exit status where some of several tasks could not be pulled


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """Pulling again and again."""

    watch: Annotated[bool, typer.Option("--watch", help="Pull repeatedly, until Ctrl-C.")] = False
    every: Annotated[float, typer.Option(min=1, help="Seconds between two pulls of --watch.")] = 3600.0


def pull(
    where: Annotated[
        str | None,
        typer.Argument(
            help="A catalogue, a path or URL, or a task of it: CATALOGUE/TASK. [default, with --all: all of before]"
        ),
    ] = None,
    *,
    all_tasks: Annotated[bool, typer.Option("--all", help="Pull all tasks.")] = False,
    reference: Annotated[
        str | None, typer.Option(help="Pull the manifest and packs of this reference of the catalogue.")
    ] = None,
    have: Annotated[
        str | None,
        typer.Option(
            help="What is here in addition to the images: nothing, manifest or pack. [default: what the home has]",
            autocompletion=completing.client_has,
        ),
    ] = None,
    progressive: Annotated[
        bool, typer.Option("--progressive", help="Take a progressive form, if there is one.")
    ] = False,
    rate: Annotated[str, typer.Option(help="Say the time at this rate, such as 500bps.")] = "9.6kbps",
    require_signature: RequireSignature = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be fetched.")] = False,
    watching: WatchOptions,
    home: Home = None,
    output: Output,
) -> None:
    """Pull the newest version of a task with the fewest bytes, or list the tasks of a catalogue.

    Every command that takes a payload then takes the task's name.
    """
    options: dict[str, Any] = {
        "have": have, "progressive": progressive, "rate": rate, "require_signature": require_signature, "dry_run": dry_run,
        "home": home,
    }  # fmt: skip
    with output.reporter() as report:
        if watching.watch:
            if reference is not None:
                raise RequestError("--watch and --reference: a reference does not change. Pull it once")
            with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is how it ends
                plada.watch(
                    where, all_tasks=all_tasks, every=watching.every, pulled=lambda each: _show_round(each, output),
                    report=report, **options,
                )  # fmt: skip
            return
        summary = plada.pull(where, all_tasks=all_tasks, reference=reference, report=report, **options)
    if not output.wrote_json(summary.to_dict()):
        _show(summary)
    if summary.failed:
        raise typer.Exit(_AT_FAULT)


def _show_round(summary: "PullSummary", output: Output) -> None:
    """One pull of a service: a line for what is new."""
    if output.as_json:
        print_json("pulled", summary.to_dict())
        return
    for each in summary.tasks:
        if each.way != "nothing":
            print_line(f"{each.catalogue}/{each.task}: version {each.version}, {each.bytes} bytes ({each.way})")
    for name, reason in summary.failed.items():
        print_line(f"{name}: {reason}", error=True)


def _show(summary: "PullSummary") -> None:
    if summary.where:
        signed = f"signed by key {summary.signed_by}" if summary.signed_by is not None else "not signed"
        expires = f", expires {format_time(summary.expires)}" if summary.expires else ""
        print_line(
            f"catalogue '{summary.catalogue}' at {summary.where}: serial number {summary.serial}, {signed}{expires}"
        )
    if summary.first_key:
        print_line(
            f"key {summary.signed_by} is believed from now on: it is the first one seen here. Compare it with what the owner says, or "
            "give his key with --require-signature",
            error=True,
        )
    if summary.where and summary.signed_by is None:
        print_line("not signed: whoever holds the catalogue can change it", error=True)
    if summary.listed:
        head = (
            "task",
            "version (here)",
            "images",
            f"fetch, time at {format_rate(summary.rate)}",
            "needs",
            "reference",
            "about",
        )
        print_table([_listed(each) for each in summary.listed], head=head)
    if summary.offered_references:
        print_line(f"references: {', '.join(summary.offered_references)} (plada pull {summary.where} --reference NAME)")
    would = "would be " if summary.dry_run else ""
    for each in summary.tasks:
        before = f" in place of {each.before}" if each.before not in (0, each.version) else ""
        what = {"nothing": "is here already", "change": f"{would}updated by changes", "payload": f"{would}fetched"}[
            each.way
        ]
        print_line(
            f"{each.catalogue}/{each.task}: version {each.version}{before} {what}; {each.bytes} bytes came; {each.file}"
        )
        if not each.checked and each.way == "payload" and not summary.dry_run:
            print_line(
                f"{each.task}: its labels need the names of its reference's images, or a pack, to be read", error=True
            )
    for each_reference in summary.references:
        print_line(
            f"reference {each_reference.reference}: {each_reference.images} images, {format_size(each_reference.bytes)} "
            f"{would}fetched; manifest {each_reference.manifest or 'not offered'}, {len(each_reference.packs)} packs"
        )
    for name, reason in summary.failed.items():
        print_line(f"{name}: {reason}", error=True)
    print_line(
        f"{format_size(summary.bytes)} came in all, {format_seconds(summary.seconds)} at {format_rate(summary.rate)}"
    )


def _listed(each: "ListedTask") -> list[str]:
    here = f" ({each.here})" if each.here else ""
    about = []
    if each.about.get("forecast") is not None:
        about.append(f"forecast {each.about['forecast']:.1%}" if isinstance(each.about["forecast"], float) else "")
    about += [f"{name} {each.about[name]}" for name in ("target", "teacher", "licence") if each.about.get(name)]
    fetch = "nothing" if each.way == "nothing" else f"{each.bytes} bytes, {format_seconds(each.seconds)}"
    return [
        each.task,
        f"{each.version}{here}",
        f"{each.images} in {each.classes} classes",
        fetch,
        each.needs,
        each.reference,
        "; ".join(about),
    ]
