"""The command `plada inspect`."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import plada
from plada.commands.console.options import Home, Output, PackFile, PayloadFile, Rate, ReferenceOption, RequireSignature
from plada.commands.console.output import print_table
from plada.common.units import format_rate, format_seconds

if TYPE_CHECKING:
    from plada.payload.inspect import PayloadSummary

_NAMED = 12  # classes that a table shows


def inspect(
    payload: PayloadFile,
    *,
    rate: Rate = None,
    reference: ReferenceOption = None,
    pack: PackFile = None,
    require_signature: RequireSignature = None,
    home: Home = None,
    output: Output,
) -> None:
    """Show the content of a payload and what its bytes are used for, even without its reference."""
    summary = plada.inspect(
        payload, rate=rate or (), reference=reference, pack=pack, require_signature=require_signature, home=home
    )
    if output.wrote_json(summary.to_dict()):
        return
    print_table(_rows(summary), title=f"{payload}, payload version {summary.version}")


def _rows(summary: "PayloadSummary") -> list[list[str]]:
    each = f", {8 * summary.bytes / summary.images:.1f} bits an image" if summary.images else ""
    rows = [
        [
            "images",
            f"{summary.images if summary.images is not None else 'unknown'} of a reference of {summary.reference}",
        ],
        ["bytes", f"{summary.bytes} ({', '.join(f'{name} {size}' for name, size in summary.sections.items())}){each}"],
    ]
    if summary.coder is not None:
        rows.append(["coder", summary.coder + (f" ({_sizes(summary.coders)})" if summary.coders is not None else "")])
    if summary.positions is not None and summary.labels is not None:
        rows += [
            [
                "positions",
                f"{summary.positions.bits:.2f} bits an image; a free choice would take {summary.positions.entropy:.2f}",
            ],
            ["labels", f"{summary.labels.bits:.2f} bits an image; their entropy is {summary.labels.entropy:.2f}"],
        ]
    if summary.paper is not None:
        rows.append(["paper's coders", _sizes(summary.paper)])
    rows.append(["time on air", ", ".join(f"{format_seconds(s)} at {format_rate(r)}" for r, s in summary.air.items())])
    pack = f", pack {summary.pack_id}" if summary.pack_id else ""
    rows.append(["reference", f"key id {summary.key_id}, content id {summary.content_id}{pack}"])
    rows.append(["signature", f"by key {summary.signed_by}" if summary.signed else "none"])
    if summary.serial:
        rows.append(["serial number", str(summary.serial)])
    if summary.segments is not None:
        rows.append(["segments", str(summary.segments[1])])
    if summary.changes is not None:
        rows.append(["changes", json.dumps(dict(summary.changes))])
    rows.append(["notes", json.dumps(dict(summary.notes))])
    counts = summary.class_counts or dict.fromkeys(summary.names)
    shown = [name if count is None else f"{name} {count}" for name, count in list(counts.items())[:_NAMED]]
    more = [f"and {summary.classes - len(shown)} more"] if shown and len(shown) < summary.classes else []
    rows.append(
        ["classes", f"{summary.classes}" + (f": {', '.join(shown)} {' '.join(more)}".rstrip() if shown else "")]
    )
    if summary.missing:
        rows.append(["not said", summary.missing])
    return rows


def _sizes(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {size}" for name, size in sizes.items())
