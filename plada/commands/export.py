"""The command `plada export`."""

from pathlib import Path
from typing import Annotated

import typer

import plada
from plada.commands.console import completion as completing
from plada.commands.console.options import (
    Home,
    Json,
    MinSerial,
    PackFile,
    Partial,
    PayloadFile,
    Quiet,
    ReferenceOption,
    RequireSignature,
    SameKeys,
    SkipChanged,
    Update,
)
from plada.commands.console.output import print_json, reporter


def export(
    payload: PayloadFile,
    to: Annotated[
        str,
        typer.Option(
            help="csv, parquet, folder (out/CLASS/IMAGE), webdataset, tfrecord, hf.",
            autocompletion=completing.export_forms,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file or folder to make.")],
    reference: ReferenceOption = None,
    link: Annotated[bool, typer.Option("--link", help="A folder of links instead of copies.")] = False,
    same_keys: SameKeys = False,
    skip_changed: SkipChanged = False,
    pack: PackFile = None,
    partial: Partial = False,
    update: Update = None,
    require_signature: RequireSignature = None,
    min_serial: MinSerial = 0,
    home: Home = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Hand the labelled set to another framework."""
    with reporter(as_json=as_json, quiet=quiet) as report:
        made = plada.export(
            payload, to=to, out=out, reference=reference, link=link, same_keys=same_keys, skip_changed=skip_changed,
            pack=pack, partial=partial, update=update or (), require_signature=require_signature, min_serial=min_serial,
            home=home, report=report,
        )  # fmt: skip
    if as_json:
        return print_json("summary", {"out": str(made), "to": to})
    print(made)
    return None
