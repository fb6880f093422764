"""From a selection to the payload that is sent: its identity, its order, its notes."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from plada.labeler.linear_teacher import TeacherReport
from plada.labeler.pseudo_labels import PseudoLabels
from plada.labeler.teachers import Ensemble
from plada.networks.recipe import Recipe
from plada.payload.container import Header
from plada.payload.payload import Payload
from plada.payload.sender import Sender
from plada.payload.soft import NOTE
from plada.retrieval.index import Index
from plada.selection.selection import SelectionReport, shares_of_class
from plada.sources.targets.target import Target

_NOTED = 10_000  # bytes of budget from which target and teacher accuracy ride along


def header_of(index: Index) -> Header:
    """What the payloads of an index have in common."""
    return Header(len(index), 1, bytes.fromhex(index.info["key_id"])[:8], bytes.fromhex(index.info["content_id"])[:8])


def payload_of(
    index: Index, task: Target, labels: PseudoLabels, rows: Any, notes: Mapping[str, Any], serial: int
) -> Payload:
    """The payload of the images at `rows`, best first."""

    order, header = np.argsort(rows), header_of(index)
    return Payload(
        positions=labels.positions[rows[order]],
        labels=labels.labels[rows[order]],
        classes=task.classes,
        reference=header.reference,
        key_id=header.key_id,
        content_id=header.content_id,
        notes=notes,
        serial=serial,
        rank=np.argsort(np.argsort(shares_of_class(labels.labels[rows]), kind="stable"))[order],
    )


def notes_of(task: Target, taught: Ensemble, recipe: Mapping[str, Any] | None, budget: int) -> dict[str, Any]:
    """What rides along: the recipe always (a few bytes, and the student needs it), the rest where it costs nothing."""

    advice = {**task.recipe, **(recipe or {})}
    Recipe().changed(advice)  # refuse nonsense here, not on every client
    notes: dict[str, Any] = {"recipe": advice} if advice else {}
    known: TeacherReport = taught.report
    if budget >= _NOTED:
        notes["target"] = task.name
        if known.accuracy is not None:
            notes["teacher_accuracy"] = round(known.accuracy, 4)
    return notes


def label_bytes(payload: Payload, sender: Sender) -> int:
    """What the note on soft labels costs, in the file as it is written."""

    if NOTE not in payload.notes:
        return 0
    hard = replace(payload, notes={name: value for name, value in payload.notes.items() if name != NOTE})
    return sender.size(payload) - sender.size(hard)


def asked_of(call: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What a call was asked for beyond its defaults, as plain values by parameter: enough to repeat it."""
    asked = {}
    for name, parameter in inspect.signature(call).parameters.items():
        value = given[name]
        if name != "report" and value is not None and value != parameter.default:
            asked[name] = _plain(value)
    return asked


def about_table(made: SelectionReport, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What a selection's table says of its selection. Without seconds: the same call writes the same bytes."""
    said = made.to_dict()
    said.pop("seconds")
    for one in said["tried"]:
        one.pop("seconds")
    return {"report": said, "asked": dict(asked)}


def _plain(value: Any) -> Any:
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(getattr(value, "name", value)) if not isinstance(value, (str, Path)) else str(value)
