"""The commands on payload files (inspect, diff, apply, keygen, sign): parse, call, print."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

import plada
from plada.commands.console.options import (
    Home,
    Json,
    PackFile,
    PayloadFile,
    Quiet,
    ReferenceOption,
    RequireSignature,
)
from plada.commands.console.output import print_json, print_table
from plada.common.units import format_rate, format_seconds

if TYPE_CHECKING:
    from plada.payload.inspect import PayloadSummary

_NAMED = 12  # classes that a table shows


def inspect(
    payload: PayloadFile,
    rate: Annotated[
        list[str] | None, typer.Option(help="Say the time on air at this rate, such as 500bps; repeatable.")
    ] = None,
    reference: ReferenceOption = None,
    pack: PackFile = None,
    require_signature: RequireSignature = None,
    home: Home = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Say what a payload holds and where its bytes go, as far as that can be said without its reference too."""
    made = plada.inspect(
        payload, rate=rate or (), reference=reference, pack=pack, require_signature=require_signature, home=home
    )
    if as_json:
        return print_json("summary", made.to_dict())
    print_table(_rows(made), title=f"{payload}, payload version {made.version}")
    return None


def _rows(made: "PayloadSummary") -> list[list[str]]:
    each = f", {8 * made.bytes / made.images:.1f} bits an image" if made.images else ""
    rows = [
        ["images", f"{made.images if made.images is not None else 'unknown'} of a reference of {made.reference}"],
        ["bytes", f"{made.bytes} ({', '.join(f'{name} {size}' for name, size in made.sections.items())}){each}"],
    ]
    if made.coder is not None:
        rows.append(["coder", made.coder + (f" ({_sizes(made.coders)})" if made.coders is not None else "")])
    if made.positions is not None and made.labels is not None:
        rows += [
            [
                "positions",
                f"{made.positions.bits:.2f} bits an image; a free choice would take {made.positions.entropy:.2f}",
            ],
            ["labels", f"{made.labels.bits:.2f} bits an image; their entropy is {made.labels.entropy:.2f}"],
        ]
    if made.paper is not None:
        rows.append(["paper's coders", _sizes(made.paper)])
    rows.append(["time on air", ", ".join(f"{format_seconds(s)} at {format_rate(r)}" for r, s in made.air.items())])
    pack = f", pack {made.pack_id}" if made.pack_id else ""
    rows.append(["reference", f"key id {made.key_id}, content id {made.content_id}{pack}"])
    rows.append(["signature", f"by key {made.signed_by}" if made.signed else "none"])
    if made.serial:
        rows.append(["serial number", str(made.serial)])
    if made.segments is not None:
        rows.append(["segments", str(made.segments[1])])
    if made.changes is not None:
        rows.append(["changes", json.dumps(dict(made.changes))])
    rows.append(["notes", json.dumps(dict(made.notes))])
    counts = made.class_counts or dict.fromkeys(made.names)
    shown = [name if count is None else f"{name} {count}" for name, count in list(counts.items())[:_NAMED]]
    more = [f"and {made.classes - len(shown)} more"] if shown and len(shown) < made.classes else []
    rows.append(["classes", f"{made.classes}" + (f": {', '.join(shown)} {' '.join(more)}".rstrip() if shown else "")])
    if made.missing:
        rows.append(["not said", made.missing])
    return rows


def _sizes(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {size}" for name, size in sizes.items())
