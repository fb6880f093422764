"""The commands `plada keygen` and `plada sign`."""

from pathlib import Path
from typing import Annotated

import typer

import plada
from plada.commands.console.options import Output
from plada.commands.console.output import print_line


def keygen(
    out: Annotated[Path, typer.Argument(help="File of the private key; the public one gets .pub behind its name.")],
    *,
    output: Output,
) -> None:
    """Make a pair of keys to sign payloads. Keep the private key; give the public key to clients."""
    pair = plada.keygen(out)
    if output.wrote_json(pair.to_dict()):
        return
    print_line(f"{pair.private}: the private key, readable by you alone")
    print_line(f"{pair.public}: the public key {pair.fingerprint}")


def sign(
    payload: Annotated[Path, typer.Argument(help="A payload, or a file of changes.")],
    *,
    key: Annotated[Path, typer.Option(help="The private key that `plada keygen` made.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The signed file. [default: in place]")] = None,
    output: Output,
) -> None:
    """Sign a payload file, every byte of it."""
    signed = plada.sign(payload, key=key, out=out)
    if output.wrote_json(signed.to_dict()):
        return
    print_line(f"{signed.payload}: {signed.bytes} bytes, signed by key {signed.fingerprint}")
