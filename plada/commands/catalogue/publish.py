"""The command `plada publish`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import plada
from plada.commands.console.options import Home, Output, pairs
from plada.commands.console.output import print_line, print_table
from plada.common.units import format_size, format_time
from plada.errors import RequestError

if TYPE_CHECKING:
    from plada.api.catalogue.publish import PublishSummary


@dataclass(frozen=True, kw_only=True)
class KeyOptions:
    """Who signs, and until when it is believed."""

    sign: Annotated[
        Path | None, typer.Option("--sign", help="Sign the catalogue with this private key (`plada keygen`).")
    ] = None
    rotate_to: Annotated[
        Path | None,
        typer.Option(help="Sign with this private key from now on; the key of --sign says that it is the successor."),
    ] = None
    expires: Annotated[
        str, typer.Option(help="When the catalogue expires: days such as 30d, a date such as 2030-01-31, or never.")
    ] = "30d"


@dataclass(frozen=True, kw_only=True)
class AboutOptions:
    """What the catalogue says of the tasks."""

    report: Annotated[
        list[Path] | None,
        typer.Option(help="What `plada select --json` printed for a payload: teacher and forecast; repeatable."),
    ] = None
    licence: Annotated[str | None, typer.Option(help="A note on the terms of the payloads named.")] = None


@dataclass(frozen=True, kw_only=True)
class OutletOptions:
    """Where the catalogue goes beside its folder."""

    carousel: Annotated[
        Path | None,
        typer.Option(
            help="Write frames into this file, for a broadcast without a way back; `plada pull FILE` reads them."
        ),
    ] = None
    frame_bytes: Annotated[int, typer.Option(min=96, max=32_768, help="Bytes of a frame of --carousel.")] = 256
    push: Annotated[
        str | None,
        typer.Option(help="Copy the catalogue to a path or URL, such as hf://datasets/USER/NAME or s3://..."),
    ] = None
    card: Annotated[
        bool, typer.Option("--card", help="Write README.md into the folder, with metadata for the Hub, as --push does.")
    ] = False


def publish(
    catalogue: Annotated[Path, typer.Argument(help="The catalogue's folder; made where it is not there.")],
    payloads: Annotated[
        list[str] | None,
        typer.Argument(help="Payloads, FILE or TASK=FILE; several files of one task are forms of it. None signs anew."),
    ] = None,
    *,
    keys: KeyOptions,
    name: Annotated[str | None, typer.Option(help="Name of a new catalogue. [default: the folder's]")] = None,
    keep: Annotated[int, typer.Option(min=1, max=16, help="Versions of a task that are kept.")] = 4,
    remove: Annotated[list[str] | None, typer.Option(help="A task, or a reference, to remove; repeatable.")] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(help="Publish manifest and packs of a reference, PLACE or NAME=PLACE; repeatable."),
    ] = None,
    url: Annotated[
        list[str] | None,
        typer.Option(help="NAME.manifest=URL or NAME.pack=URL: the address of this file, which is then not copied."),
    ] = None,
    about: AboutOptions,
    outlets: OutletOptions,
    home: Home = None,
    output: Output,
) -> None:
    """Publish payloads in a catalogue: a folder of plain files that clients pull from, on any server, store or disk."""
    with output.reporter() as report:
        summary = plada.publish(
            catalogue, payloads or (), sign=keys.sign, rotate_to=keys.rotate_to, name=name, expires=keys.expires, keep=keep,
            remove=remove or (), reference=reference or (), urls=_urls(url), reports=about.report or (),
            licence=about.licence, outlets=plada.Outlets(**vars(outlets)), home=home, report=report,
        )  # fmt: skip
    if output.wrote_json(summary.to_dict()):
        return
    _show(summary)


def _urls(texts: list[str] | None) -> dict[str, str]:
    urls = {name: str(value) for name, value in pairs(texts).items()}
    wrong = next((name for name in urls if not name.endswith((".manifest", ".pack"))), None)
    if wrong is not None:
        raise RequestError(f"--url {wrong}: expected NAME.manifest=URL or NAME.pack=URL")
    return urls


def _show(summary: "PublishSummary") -> None:
    rows = [
        [
            each.task,
            f"{each.version} ({each.change})",
            f"{each.images} in {each.classes} classes",
            ", ".join(f"{needs} {size}" for needs, size in each.forms.items()),
            f"{each.changes} bytes" if each.changes is not None else "",
        ]
        for each in summary.tasks
    ]
    signed = f"signed by key {summary.signed_by}" if summary.signed_by is not None else "not signed"
    expires = f"expires {format_time(summary.expires)}" if summary.expires else "never expires"
    print_line(f"{summary.path}: catalogue '{summary.name}', serial number {summary.serial}, {signed}, {expires}")
    if rows:
        print_table(rows, head=("task", "version", "images", "bytes, by what clients have", "changes"))
    print_line(
        f"{format_size(summary.bytes)} of files"
        + (", references: " + ", ".join(summary.references) if summary.references else "")
    )
    if summary.carousel is not None:
        each = summary.carousel
        print_line(
            f"{each.file}: {each.frames} frames of {each.frame_bytes} bytes, to be sent in a circle; about {each.needed} of them are enough"
        )
    if summary.pushed is not None:
        copy = summary.pushed
        print_line(f"{copy.where}: {copy.files} files written, {format_size(copy.bytes)}; {copy.removed} removed")
    if summary.removed:
        print_line(f"removed: {', '.join(summary.removed)}")
    if not summary.published:
        print_line("it says what it said before: nothing was written", error=True)
    if summary.signed_by is None:
        print_line(
            "not signed: clients cannot tell it from a forgery. Make a key (plada keygen KEY) and say --sign KEY",
            error=True,
        )
