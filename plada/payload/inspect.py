"""What a payload file is made of, for people who decide whether to send it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from plada.payload.coders.body import encoded_size, read_start
from plada.payload.coders.paper_coders import paper_sizes
from plada.payload.coders.registry import missing_context
from plada.payload.container import (
    ABOUT,
    LABELS,
    VERSION,
    ByteRange,
    Container,
    bytes_by_kind,
    read_container,
)
from plada.payload.diff import parse_changes
from plada.payload.metadata import default_names, read_metadata
from plada.payload.payload import Payload, PayloadFile
from plada.payload.shared_context import SharedContext

RATES = (500, 9_600, 1_000_000)  # bits a second that time on air is given for: a trunked radio, a modem, a phone


@dataclass(frozen=True, slots=True, kw_only=True)
class Bits:
    """Bits an image of positions or labels, and what they would take if every choice of as many images, every order of
    these labels, were equally likely."""

    bits: float
    entropy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadSummary:
    """What a payload file, or a file of changes, holds and where its bytes go: the fields of `plada inspect --json`.

    What needs the reference's manifest or a pack that is not here is None.

    Attributes:
        version: Version of the format.
        images: Number of images named; None of a file of changes.
        classes: Number of classes.
        bytes: Bytes of the file.
        sections: Bytes by kind of part; together they are the file.
        coder: Name of the labels' coder, joined by "+" where segments have several; None of a file of changes.
        coders: Bytes of the labels under each coder.
        reference: Number of images of the reference.
        key_id, content_id: The first 8 bytes of the reference's ids, hexadecimal.
        pack_id: The first 8 bytes of the id of the pack that the labels need, or None.
        signed: Whether the file carries a signature, which is not checked here.
        signed_by: The first 4 bytes of the SHA-256 of the signer's public key, or None.
        serial: Serial number, 0 for none.
        class_counts: Number of images by name of class.
        notes: The payload's notes.
        names: Names of the classes; of a file of changes ().
        parts: All bytes of the file one by one, in order.
        positions, labels: Bits an image, and their entropy.
        paper: Bytes of positions and labels under each coder of the paper.
        air: Seconds on air by rate in bits a second, nothing lost.
        segments: Whole segments and all segments of a progressive file.
        missing: What was needed to read the labels and is not here, or "".
        changes: What a file of changes changes.
    """

    version: int
    images: int | None = None
    classes: int
    bytes: int
    sections: Mapping[str, int]
    coder: str | None = None
    coders: Mapping[str, int] | None = None
    reference: int
    key_id: str
    content_id: str
    pack_id: str | None
    signed: bool
    signed_by: str | None
    serial: int
    class_counts: Mapping[str, int] | None = None
    notes: Mapping[str, Any]
    names: tuple[str, ...]
    parts: tuple[ByteRange, ...]
    positions: Bits | None = None
    labels: Bits | None = None
    paper: Mapping[str, int] | None = None
    air: Mapping[int, float]
    segments: tuple[int, int] | None = None
    missing: str = ""
    changes: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def summarise(file: PayloadFile, shared: SharedContext, *, rates: tuple[int, ...] = RATES) -> PayloadSummary:
    """The summary of a payload that was read; `shared` is what its readers know."""
    payload = file.payload
    positions, labels = _bits(payload, file.coder, shared)
    return replace(
        _summary(file, file.bytes, payload.classes, payload.notes, rates),
        images=len(payload),
        coder=file.coder,
        coders=payload.sizes(shared=shared),
        class_counts=dict(zip(payload.classes, payload.class_counts(), strict=True)),
        positions=positions,
        labels=labels,
        paper=_paper(payload),
        segments=payload.segments,
    )


def summarise_unread(data: bytes, *, missing: str, rates: tuple[int, ...] = RATES) -> PayloadSummary:
    """The summary of a payload whose labels cannot be read here; `missing` says what for.

    Raises:
        PayloadError: its subclass says what is wrong with the bytes.
    """
    file = read_container(data)
    classes = file.header.classes
    names, notes = read_metadata(file.sections[ABOUT], classes) if ABOUT in file.sections else (None, {})
    bodies = [body for body in (file.sections.get(LABELS), *file.segments) if body is not None]
    starts = [read_start(body, file.header.reference) for body in bodies]
    return replace(
        _summary(file, len(data), names or default_names(classes), notes, rates),
        images=sum(kept for _, kept, _ in starts),
        coder="+".join(sorted({name for name, _, _ in starts})),
        segments=(len(file.segments),) * 2 if file.segments else None,
        missing=missing,
    )


def summarise_changes(data: bytes, *, rates: tuple[int, ...] = RATES) -> PayloadSummary:
    """The summary of a file of changes.

    Raises:
        RequestError: it is a payload. PayloadError: its subclass says what is wrong with the bytes.
    """
    changes = parse_changes(data)
    said = {
        "for": changes.old.hex(),
        "makes": changes.new.hex(),
        "new_names": list(changes.names),
        "renamed": len(changes.classes.renamed),
        "gone_bytes": len(changes.gone),
        "changed_bytes": len(changes.changed),
        "added_bytes": len(changes.added),
    }
    return replace(_summary(read_container(data), len(data), (), changes.notes or {}, rates), changes=said)


def _summary(
    file: Container | PayloadFile, size: int, names: tuple[str, ...], notes: Mapping[str, Any], rates: tuple[int, ...]
) -> PayloadSummary:
    """What can be said of a file without its labels."""
    header, signature = file.header, file.signature
    return PayloadSummary(
        version=VERSION,
        classes=header.classes,
        bytes=size,
        sections=bytes_by_kind(file.parts),
        reference=header.reference,
        key_id=header.key_id.hex(),
        content_id=header.content_id.hex(),
        pack_id=header.pack_id.hex() or None,
        signed=signature is not None,
        signed_by=signature.fingerprint.hex() if signature is not None else None,
        serial=header.serial,
        notes=notes,
        names=names,
        parts=file.parts,
        air=time_on_air(size, rates),
    )


def time_on_air(size: int, rates: tuple[int, ...]) -> dict[int, float]:
    """Seconds that a file takes at each rate in bits a second, nothing lost."""
    return {rate: 8 * size / rate for rate in rates}


def choice_bits(images: int, kept: int) -> float:
    """log2 of the number of ways to choose `kept` of `images`."""
    nats = math.lgamma(images + 1) - math.lgamma(kept + 1) - math.lgamma(images - kept + 1)
    return max(nats, 0.0) / math.log(2)


def label_bits(labels: npt.NDArray[np.int64]) -> float:
    """k times the entropy of labels int64 [k], in bits."""
    counts = np.bincount(labels)
    counts = counts[counts > 0]
    return float((counts * np.log2(len(labels) / counts)).sum()) if len(labels) else 0.0


def _bits(payload: Payload, coder: str, shared: SharedContext) -> tuple[Bits | None, Bits | None]:
    """Positions as they come out without labels, labels as what is left; None for an empty payload."""
    kept = len(payload)
    if not kept:
        return None, None
    name = coder.partition("+")[0]  # segments may have several; the first stands for all
    if missing_context(name, shared):  # segments bring blocks of their own, the whole has none
        name = "even-blocks" if shared.features is None else "pack-even"
    images, classes = payload.reference, len(payload.classes)
    zeros = np.zeros(kept, np.int64)
    alone = encoded_size(payload.positions, zeros, images=images, classes=1, coder=name, shared=shared)
    whole = encoded_size(payload.positions, payload.labels, images=images, classes=classes, coder=name, shared=shared)
    return (
        Bits(bits=8 * alone / kept, entropy=choice_bits(images, kept) / kept),
        Bits(bits=8 * (whole - alone) / kept, entropy=label_bits(payload.labels) / kept),
    )


def _paper(payload: Payload) -> dict[str, int] | None:
    """Bytes under each of the paper's coders; None for an empty payload."""
    if not len(payload):
        return None
    return paper_sizes(payload.positions, payload.labels, payload.reference, len(payload.classes))
