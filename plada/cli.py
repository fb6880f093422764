"""The command line: parse, call, print. Every command is the Python call of the same name."""

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import plada
from plada.commands.bench import bench
from plada.commands.console import completion as completing
from plada.commands.console.options import (
    Home,
    Json,
    PladaCommand,
    Quiet,
    Seed,
    seconds,
)
from plada.commands.console.pipes import speaking
from plada.commands.explore import explore
from plada.commands.index import index
from plada.commands.inspect import apply_diff, diff, inspect, keygen, sign
from plada.commands.report import report
from plada.commands.search import search
from plada.commands.select import select
from plada.commands.train import evaluate, export, predict, train
from plada.errors import ReferenceMismatch

if TYPE_CHECKING:
    from plada.selection.leaks import LeakReport

_SHOWN = 20  # leaks that are printed

app = typer.Typer(
    name="plada",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Ship a classification task as labels for images that every client already holds.",
)


app.command(cls=PladaCommand)(index)


@app.command("install-pack", cls=PladaCommand)
def install_pack(
    path: Annotated[Path, typer.Argument(help="A pack that `plada index --pack` wrote.")],
    home: Home = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Keep a pack beside a reference, its hash compared, for payloads that were made with it."""
    from plada.commands.console.output import print_json

    made = plada.install_pack(path, home=home)
    if as_json:
        return print_json("summary", made.to_dict())
    print(f"{made.path}: {made.images} images, {made.dimensions} dimensions, of {made.reference or 'no images here'}")
    if made.reference is None:
        print(f"no collection known here has the pack's key id {made.key_id} yet; it waits for one", file=sys.stderr)
    return None


app.command(cls=PladaCommand)(select)


app.command(cls=PladaCommand)(train)
app.command(cls=PladaCommand)(predict)
app.command(cls=PladaCommand)(evaluate)
app.command(cls=PladaCommand)(export)
app.command(cls=PladaCommand)(inspect)
app.command(cls=PladaCommand)(report)
app.command(cls=PladaCommand)(bench)
app.command(cls=PladaCommand)(diff)
app.command("apply", cls=PladaCommand)(apply_diff)
app.command(cls=PladaCommand)(keygen)
app.command(cls=PladaCommand)(sign)


@app.command(cls=PladaCommand)
def verify(
    reference: Annotated[
        str, typer.Argument(help="A registered name, a path or a URL.", autocompletion=completing.references)
    ],
    against: Annotated[
        str | None,
        typer.Option(help="A manifest file, a payload, or an id in hexadecimal. [default: the manifest kept here]"),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Hash every image.")] = False,
    sample: Annotated[int, typer.Option(min=0, help="Images that a quick check hashes.")] = 1000,
    leaks: Annotated[
        str | None,
        typer.Option(
            help="A target: look for near copies of its test images in the reference.",
            autocompletion=completing.targets,
        ),
    ] = None,
    index: Annotated[
        str | None,
        typer.Option(
            help="Index whose neighbours are compared too. [default: one of these images]",
            autocompletion=completing.indexes,
        ),
    ] = None,
    sheet: Annotated[Path | None, typer.Option(help="Write the leaks as pairs of pictures (PNG).")] = None,
    seed: Seed = 0,
    home: Home = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Check that the images here are those that a manifest, a payload or an id speaks of. Exit status 4 if not."""
    from plada.commands.console.output import print_json, print_table, reporter

    with reporter(as_json=as_json, quiet=quiet) as report:
        made = plada.verify(
            reference, against=against, full=full, sample=sample, leaks=leaks, index=index, sheet=sheet, seed=seed,
            home=home, report=report,
        )  # fmt: skip
    if as_json:
        print_json("summary", made.to_dict())
    else:
        counts = {"missing here": made.missing, "added here": made.added, "of another size": made.other_size,
                  "of other bytes": made.other_bytes, "unreadable now": made.gone}  # fmt: skip
        expected = "" if made.expected in (None, made.images) else f", {made.expected} expected"
        rows = [
            ["result", "the same images" if made.ok else "other images"],
            ["compared with", made.against],
            ["images", f"{made.images}{expected}; {made.mode} check, {made.hashed} hashed"],
            *([name, str(count)] for name, count in counts.items() if count),
            *([["first difference", made.first]] if made.first else []),
            *([["what to do", made.advice]] if made.advice else []),
            ["key id, content id", f"{made.key_id} {made.content_id}"],
            ["manifest", made.manifest],
        ]
        print_table(rows, title=f"verify {made.reference}")
        if made.leaks is not None:
            _show_leaks(made.leaks)
    if not made.ok:
        raise typer.Exit(ReferenceMismatch.exit_code)


app.command(cls=PladaCommand)(search)
app.command(cls=PladaCommand)(explore)


@app.command(cls=PladaCommand)
def datasets(
    name: Annotated[
        str | None, typer.Argument(help="Show everything about this one.", autocompletion=completing.collections)
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Open what is here and count it; minutes for millions of files.")
    ] = False,
    home: Home = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """List the registered collections and whether they are on this machine."""
    from plada.commands.console.output import print_json, print_table
    from plada.common.units import group_digits

    listed = plada.datasets(name, check=check, home=home)
    if as_json:
        return print_json("summary", {"datasets": [entry.to_dict() for entry in listed]})
    if name is not None:
        print_table([[field, text] for field, text in listed[0].details().items()], title=name)
        return None
    rows = [
        [
            entry.name, entry.role, group_digits(entry.images), group_digits(entry.classes) if entry.classes else "-",
            entry.state(), "yes" if entry.indexed else "",
        ]
        for entry in listed
    ]  # fmt: skip
    print_table(rows, head=("name", "role", "images", "classes", "present", "indexed"))
    for entry in listed:
        if entry.problem:
            print(f"{entry.name}: {entry.problem}")
    places = sorted({str(Path(entry.path).parent) for entry in listed if entry.path and not entry.present})
    for place in places:
        print(f"not here; looked in {place}/NAME. `plada datasets NAME` says what is expected and where it comes from")
    return None


@app.command(cls=PladaCommand)
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the payload and the report.")] = Path("plada-demo"),
    source: Annotated[str, typer.Option(help="glyphs, or another draw of it such as glyphs:count=5000.")] = "glyphs",
    home: Home = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Go the whole way on real handwriting: index, select, read back, train, test. Nothing is downloaded."""
    from plada.commands.console.output import print_json, print_table, reporter

    with reporter(as_json=as_json, quiet=quiet) as report:
        made = plada.demo(out=out, source=source, home=home, report=report)
    if as_json:
        return print_json("summary", made.to_dict())
    students = ", ".join(f"{value:.1%}" for value in made.student_accuracies)
    share = made.payload_bytes / made.target_bytes
    rows = [
        ["reference", f"{made.images} drawn characters, {made.images_per_second:.0f} images/s"],
        ["teacher accuracy", f"{made.teacher_accuracy:.1%} on handwritten digits (test split)"],
        ["payload", f"{made.payload_bytes} bytes for {made.payload_images} labels, {share:.1%} of the target's own training images ({made.target_bytes} bytes as PNG)"],
        ["student accuracy", f"{made.student_accuracy:.1%} +- {made.student_spread:.1%} (test split; {students}), trained on drawn characters only"],
        ["seconds", f"{seconds(made.seconds)}, {sum(made.seconds.values()):.1f} in all"],
        ["reused", ", ".join(made.reused) + " of an earlier run" if made.reused else "nothing; a second run reuses the index"],
        ["files", f"{made.payload}, {made.report} (what it holds, for a browser), {made.sheet} (the best images of each class)"],
    ]  # fmt: skip
    print_table(rows, title="plada demo")
    return None


@app.command(cls=PladaCommand)
def doctor(home: Home = None, quiet: Quiet = False, as_json: Json = False) -> None:
    """Report what is installed, what it sees, and what to install for what is missing."""
    from plada.commands.console.output import print_json, print_table
    from plada.common.units import format_size

    found = plada.doctor(home=home)
    if as_json:
        return print_json("summary", found.to_dict())
    rows = [[p.name, p.version or "-", p.problem or "loads"] for p in found.packages]
    print_table(rows, head=("package", "version", "state"))
    print_table(
        [
            ["plada", f"{found.plada}, Python {found.python}, {found.machine}, {found.processors} processors"],
            ["torch sees", ", ".join(found.torch_devices) or "nothing; torch is not there"],
            ["FAISS sees", "nothing; FAISS is not there" if found.faiss_gpus is None else f"the CPU and {found.faiss_gpus} GPUs"],
            ["home", f"{found.home}, {format_size(found.free_bytes)} free"],
            ["indexes", ", ".join(found.indexes) or "none yet"],
        ]
    )  # fmt: skip
    for line in found.advice:
        print(line)
    if not found.advice:
        print("all is well")
    return None


def _version(wanted: bool) -> None:
    if wanted:
        print(f"plada {plada.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Ship a classification task as labels for images that every client already holds."""


def _show_leaks(found: "LeakReport") -> None:
    from plada.commands.console.output import print_table

    compared = f"{found.tested} test images of {found.target} with {found.images} images"
    print(f"{compared}: {found.same_bytes} of the same bytes, {found.near_copies} near copies")
    if found.leaks:
        rows = [[leak.test_key, leak.key, leak.kind, leak.change, f"{leak.score:.2f}"] for leak in found.leaks[:_SHOWN]]
        print_table(rows, head=("test image", "in the reference", "kind", "change", "score"))
    if len(found.leaks) > _SHOWN:
        print(f"{len(found.leaks) - _SHOWN} more; --json has them all", file=sys.stderr)
    if found.unreadable or found.unread:
        print(f"not compared, unreadable: {found.unreadable} test images, {found.unread} candidates", file=sys.stderr)
    if found.note:
        print(f"without neighbours by embedding: {found.note}", file=sys.stderr)


def main() -> None:
    """The `plada` command. A polite kill is treated as Ctrl-C, so that it too leaves everything resumable."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(speaking(lambda: app(prog_name="plada")))  # also as `python -m plada`: completion goes by the name


if __name__ == "__main__":
    main()
