"""The command `plada index`: parse, call, print."""

import sys
from pathlib import Path
from typing import Annotated

import typer

import plada
from plada.options import Device, Home, ImageSize, Json, ModelArg, Pretrained, Quiet, Weights, pairs, percent, seconds


def index(
    source: Annotated[
        str, typer.Argument(help="A registered name, a path or a URL: images, tars, WebDataset, parquet, Lance.")
    ],
    name: Annotated[str | None, typer.Option(help="Name of the index. [default: the source's]")] = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="timm:ARCH, or gradients (no weights). [default: gradients for built-in references]"),
    ] = None,
    weights: Weights = None,
    pretrained: Pretrained = False,
    model_arg: ModelArg = None,
    image_size: ImageSize = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images encoded at a time.")] = 64,
    workers: Annotated[int, typer.Option(min=1, help="Threads that read and decode.")] = 4,
    device: Device = None,
    restart: Annotated[bool, typer.Option("--restart", help="Throw away what is there under this name.")] = False,
    pack: Annotated[
        bool, typer.Option("--pack", help="Also write the pack that makes payloads smaller; see docs/pack-format.md.")
    ] = False,
    pack_out: Annotated[
        Path | None, typer.Option(help="The pack's file (implies --pack). [default: in the home, installed]")
    ] = None,
    pack_dimensions: Annotated[int, typer.Option(min=1, max=4096, help="Bytes an image in the pack.")] = 64,
    home: Home = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Embed a reference into a searchable index. Interrupted, it goes on where it stopped."""
    from plada.console import print_json, print_table, reporter

    with reporter(as_json=as_json, quiet=quiet) as report:
        made = plada.index(
            source, name=name, encoder=encoder, weights=weights, pretrained=pretrained, model_args=pairs(model_arg),
            image_size=image_size, batch_size=batch_size, workers=workers, device=device, restart=restart, pack=pack,
            pack_out=pack_out, pack_dimensions=pack_dimensions, home=home, report=report,
        )  # fmt: skip
    if as_json:
        return print_json("summary", made.to_dict())
    reused = f", {made.reused} of them from an earlier run" if made.reused else ""
    rows = [
        ["images", f"{made.images}{reused}"],
        ["unreadable", str(made.unreadable)],
        ["encoder", f"{made.encoder}, {made.dimension} dimensions"],
        ["rate", f"{made.images_per_second:.0f} images/s"],
        ["seconds", seconds(made.seconds)],
        ["key id, content id", f"{made.key_id[:16]} {made.content_id[:16]}"],
        ["path", made.path],
    ]
    if made.pack:
        kept = f"{percent(made.pack['variance'])} of the variance"
        rows.append(
            ["pack", f"{made.pack['path']}: {made.pack['bytes']} bytes, {made.pack['dimensions']} dimensions, {kept}"]
        )
    print_table(rows, title=f"index {made.name}")
    if made.source_note:
        print(f"{source}: {made.source_note}", file=sys.stderr)
    for example in made.examples:
        print(f"unreadable: {example}", file=sys.stderr)
    return None
