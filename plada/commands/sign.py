"""The commands `plada keygen` and `plada sign`."""

from pathlib import Path
from typing import Annotated

import typer

import plada
from plada.commands.console.options import Json, Quiet
from plada.commands.console.output import print_json, print_line


def keygen(
    out: Annotated[Path, typer.Argument(help="File of the private key; the public one gets .pub behind its name.")],
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make a pair of keys to sign payloads with. Keep the private one; give the public one to clients."""
    made = plada.keygen(out)
    if as_json:
        return print_json("summary", made.to_dict())
    print_line(f"{made.private}: the private key, readable by you alone")
    print_line(f"{made.public}: the public key {made.fingerprint}")
    return None


def sign(
    payload: Annotated[Path, typer.Argument(help="A payload, or a file of changes.")],
    key: Annotated[Path, typer.Option(help="The private key that `plada keygen` made.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The signed file. [default: in place]")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Sign a payload file, every byte of it."""
    made = plada.sign(payload, key=key, out=out)
    if as_json:
        return print_json("summary", made.to_dict())
    print_line(f"{made.payload}: {made.bytes} bytes, signed by key {made.fingerprint}")
    return None
