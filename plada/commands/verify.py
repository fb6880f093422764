"""The command `plada verify`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import plada
from plada.commands.console import completion as completing
from plada.commands.console.options import Home, ManifestOption, Output, RequireSignature, Seed
from plada.commands.console.output import print_line, print_table, print_unreadable
from plada.errors import ReferenceMismatch, RequestError

if TYPE_CHECKING:
    from plada.api.verify import Verification
    from plada.selection.leaks import LeakReport

_MAX_LEAKS = 20  # that are printed


@dataclass(frozen=True, kw_only=True)
class LeakOptions:
    """The search for copies of test images."""

    leaks: Annotated[
        str | None,
        typer.Option(
            help="A target: look for near copies of its test images in the reference.",
            autocompletion=completing.targets,
        ),
    ] = None
    index: Annotated[
        str | None,
        typer.Option(
            help="Index whose neighbours are compared too. [default: one of these images]",
            autocompletion=completing.indexes,
        ),
    ] = None
    sheet: Annotated[Path | None, typer.Option(help="Write the leaks as pairs of pictures (PNG).")] = None


def verify(
    reference: Annotated[
        str, typer.Argument(help="A registered name, a path or a URL.", autocompletion=completing.references)
    ],
    *,
    against: Annotated[
        str | None,
        typer.Option(help="A manifest file, a payload, or an id in hexadecimal. [default: the manifest kept here]"),
    ] = None,
    manifest: ManifestOption = None,
    require_signature: RequireSignature = None,
    full: Annotated[bool, typer.Option("--full", help="Hash every image.")] = False,
    sample: Annotated[int, typer.Option(min=0, help="Images that a quick check hashes.")] = 1000,
    leak: LeakOptions,
    seed: Seed = 0,
    home: Home = None,
    output: Output,
) -> None:
    """Check that the images here are those of a manifest, a payload or an id. Exit status 4 if not."""
    if manifest is not None and against is not None:
        raise RequestError("--manifest FILE is short for --against FILE. Give one of them")
    with output.reporter() as report:
        verification = plada.verify(
            reference, against=manifest or against, require_signature=require_signature, full=full, sample=sample,
            leaks=leak.leaks, index=leak.index, sheet=leak.sheet,
            seed=seed, home=home, report=report,
        )  # fmt: skip
    if not output.wrote_json(verification.to_dict()):
        _show(verification)
    if not verification.ok:
        raise typer.Exit(ReferenceMismatch.exit_code)


def _show(verification: "Verification") -> None:
    counts = {"missing here": verification.missing, "added here": verification.added, "of another size": verification.other_size,
              "of other bytes": verification.other_bytes, "unreadable now": verification.gone}  # fmt: skip
    expected = "" if verification.expected in (None, verification.images) else f", {verification.expected} expected"
    rows = [
        ["result", "the same images" if verification.ok else "other images"],
        ["compared with", verification.against],
        ["images", f"{verification.images}{expected}; {verification.mode} check, {verification.hashed} hashed"],
        *([name, str(count)] for name, count in counts.items() if count),
        *([["first difference", verification.first]] if verification.first else []),
        *([["what to do", verification.advice]] if verification.advice else []),
        ["key id, content id", f"{verification.key_id} {verification.content_id}"],
        ["manifest", verification.manifest],
    ]
    print_table(rows, title=f"verify {verification.reference}")
    if verification.leaks is not None:
        _show_leaks(verification.leaks)
    print_unreadable(verification.unreadable)


def _show_leaks(found: "LeakReport") -> None:
    compared = f"{found.tested} test images of {found.target} with {found.images} images"
    print_line(f"{compared}: {found.same_bytes} of the same bytes, {found.near_copies} near copies")
    if found.leaks:
        rows = [
            [leak.test_key, leak.key, leak.kind, leak.change, f"{leak.score:.2f}"] for leak in found.leaks[:_MAX_LEAKS]
        ]
        print_table(rows, head=("test image", "in the reference", "kind", "change", "score"))
    if len(found.leaks) > _MAX_LEAKS:
        print_line(f"{len(found.leaks) - _MAX_LEAKS} more; --json has them all", error=True)
    if found.unreadable or found.unread:
        print_line(f"not compared, unreadable: {found.unreadable} test images, {found.unread} candidates", error=True)
    if found.note:
        print_line(f"without neighbours by embedding: {found.note}", error=True)
