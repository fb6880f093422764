"""From a choice of images to the payload that is sent: its identity, its order, its notes, its size."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from plada.common.arrays import I64
from plada.common.statistics import class_ranks
from plada.labeler.evaluation import TeacherReport
from plada.labeler.pseudo_labels import PseudoLabels
from plada.networks.recipe import Recipe
from plada.payload.container import Header
from plada.payload.payload import Payload
from plada.payload.sender import Sender
from plada.retrieval.index import Index
from plada.selection.soft import SoftNotes
from plada.sources.targets.target import Target

_NOTED = 10_000  # bytes of budget from which target and teacher accuracy ride along


@dataclass(frozen=True, slots=True, kw_only=True)
class Composer:
    """Makes the payloads of one selection, and measures their files.

    `sender` writes them. A pack's coder learns while it codes, which takes a second for each size; so `approximate_sender`,
    where there is one, gives sizes that are nearly proportional, and quickly. `soft` adds what classes are like to the notes.
    """

    index: Index
    target: Target
    sender: Sender
    approximate_sender: Sender | None
    notes: Mapping[str, Any]
    serial: int = 0
    soft: SoftNotes | None = None

    def payload(self, labels: PseudoLabels, rows: I64) -> Payload:
        """The payload of the images at `rows` of the pseudo-labels, best first."""
        order, header = np.argsort(rows), header_of(self.index)
        positions, given = labels.positions[rows], labels.labels[rows]
        soft_note = self.soft.note(positions, given) if self.soft is not None else {}
        return Payload(
            positions=positions[order],
            labels=given[order],
            classes=self.target.classes,
            reference=header.reference,
            key_id=header.key_id,
            content_id=header.content_id,
            notes={**self.notes, **soft_note},
            serial=self.serial,
            rank=np.argsort(np.argsort(shares_of_class(given), kind="stable"))[order],
        )

    def size(self, labels: PseudoLabels, rows: I64) -> int:
        """Bytes of the whole file, exactly."""
        return self.sender.size(self.payload(labels, rows))

    def approximate_size(self, labels: PseudoLabels, rows: I64) -> int:
        """Bytes of a file whose size is nearly proportional."""
        return (self.approximate_sender or self.sender).size(self.payload(labels, rows))

    def note_bytes(self, payload: Payload, name: str) -> int:
        """Bytes of the file that one of its notes takes."""
        if name not in payload.notes:
            return 0
        without = replace(payload, notes={each: value for each, value in payload.notes.items() if each != name})
        return self.sender.size(payload) - self.sender.size(without)


def header_of(index: Index) -> Header:
    """What the payloads of an index have in common."""
    return Header(len(index), 1, bytes.fromhex(index.info["key_id"])[:8], bytes.fromhex(index.info["content_id"])[:8])


def notes_of(target: Target, teacher: TeacherReport, recipe: Mapping[str, Any] | None, budget: int) -> dict[str, Any]:
    """What rides along: the recipe always (a few bytes, and the student needs it), the rest where it costs next to nothing.

    Raises:
        RequestError: a recipe that makes no sense.
    """
    advice = {**target.recipe, **(recipe or {})}
    Recipe().changed(advice)  # refuse nonsense here, not on every client
    notes: dict[str, Any] = {"recipe": advice} if advice else {}
    if budget >= _NOTED:
        notes["target"] = target.name
        if teacher.accuracy is not None:
            notes["teacher_accuracy"] = round(teacher.accuracy, 4)
    return notes


def shares_of_class(labels: I64) -> npt.NDArray[np.float64]:
    """How far down its class each image stands, 0 .. 1, float64 [k], for labels [k] given best first: the images below
    any value are of all classes alike, in proportion to their size."""
    share: npt.NDArray[np.float64] = (class_ranks(labels) + 0.5) / np.bincount(labels)[labels]
    return share
