"""What a payload file is made of, for people who decide whether to send it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from plada.payload.coders.body import encoded_size, read_start
from plada.payload.coders.paper import paper_sizes
from plada.payload.coders.registry import missing_context
from plada.payload.container import VERSION, Header, Part, Signature, by_kind
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
    """The fields of `plada inspect --json`. `sections` are all bytes of the file by kind, `parts` one by one in order.

    `coders` are bytes of the labels under each coder, `paper` under those of the paper's; `air` are seconds at bits a
    second. What needs the reference's manifest or a pack that is not here is None, and `missing` says so. `images` and
    `coder` are None of a file of changes alone.
    """

    version: int
    images: int | None
    classes: int
    bytes: int
    sections: Mapping[str, int]
    coder: str | None
    coders: Mapping[str, int] | None
    reference: int
    key_id: str
    content_id: str
    pack_id: str | None
    signed: bool
    signed_by: str | None
    serial: int
    class_counts: Mapping[str, int] | None
    notes: Mapping[str, Any]
    names: tuple[str, ...]
    parts: tuple[Part, ...]
    positions: Bits | None
    labels: Bits | None
    paper: Mapping[str, int] | None
    air: Mapping[int, float]
    segments: tuple[int, int] | None
    missing: str
    changes: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def summarise(file: PayloadFile, side: SharedContext, *, rates: tuple[int, ...] = RATES) -> PayloadSummary:
    """The summary of a payload that was read with `side`."""
    payload = file.payload
    positions, labels = _bits(payload, file.coder, side)
    return PayloadSummary(
        version=VERSION,
        images=len(payload),
        classes=len(payload.classes),
        bytes=file.bytes,
        sections=file.sections,
        coder=file.coder,
        coders=payload.sizes(side=side),
        **_identity(file.header, file.signature),
        class_counts=dict(zip(payload.classes, payload.class_counts(), strict=True)),
        notes=payload.notes,
        names=payload.classes,
        parts=file.parts,
        positions=positions,
        labels=labels,
        paper=_paper(payload),
        air=time_on_air(file.bytes, rates),
        segments=payload.segments,
        missing="",
    )


def summarise_closed(
    header: Header,
    size: int,
    parts: tuple[Part, ...],
    signature: Signature | None,
    names: tuple[str, ...],
    notes: Mapping[str, Any],
    *,
    missing: str,
    bodies: Sequence[bytes] = (),
    segments: tuple[int, int] | None = None,
    changes: Mapping[str, Any] | None = None,
    rates: tuple[int, ...] = RATES,
) -> PayloadSummary:
    """The summary of a file whose labels cannot be read here; `missing` says what for. `bodies` of its labels say how many.

    Raises:
        PayloadCorrupt, PayloadUnsupported: what the bodies begin with is of no payload.
    """
    starts = [read_start(body, header.reference) for body in bodies]
    return PayloadSummary(
        version=VERSION,
        images=sum(kept for _, kept, _ in starts) if starts else None,
        classes=header.classes,
        bytes=size,
        sections=by_kind(parts),
        coder="+".join(sorted({name for name, _, _ in starts})) or None,
        coders=None,
        **_identity(header, signature),
        class_counts=None,
        notes=notes,
        names=names,
        parts=parts,
        positions=None,
        labels=None,
        paper=None,
        air=time_on_air(size, rates),
        segments=segments,
        missing=missing,
        changes=changes,
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


def _bits(payload: Payload, coder: str, side: SharedContext) -> tuple[Bits | None, Bits | None]:
    """Positions as they come out without labels, labels as what is left; None for an empty payload."""
    kept = len(payload)
    if not kept:
        return None, None
    name = coder.partition("+")[0]  # segments may have several; the first stands for all
    if missing_context(name, side):  # segments bring blocks of their own, the whole has none
        name = "even-blocks" if side.features is None else "pack-even"
    images, classes = payload.reference, len(payload.classes)
    zeros = np.zeros(kept, np.int64)
    alone = encoded_size(payload.positions, zeros, images=images, classes=1, coder=name, side=side)
    whole = encoded_size(payload.positions, payload.labels, images=images, classes=classes, coder=name, side=side)
    return (
        Bits(bits=8 * alone / kept, entropy=choice_bits(images, kept) / kept),
        Bits(bits=8 * (whole - alone) / kept, entropy=label_bits(payload.labels) / kept),
    )


def _paper(payload: Payload) -> dict[str, int] | None:
    """Bytes under each of the paper's coders; None for an empty payload."""
    if not len(payload):
        return None
    return paper_sizes(payload.positions, payload.labels, payload.reference, len(payload.classes))


def _identity(header: Header, signature: Signature | None) -> dict[str, Any]:
    return {
        "reference": header.reference,
        "key_id": header.key_id.hex(),
        "content_id": header.content_id.hex(),
        "pack_id": header.pack_id.hex() or None,
        "signed": signature is not None,
        "signed_by": signature.fingerprint.hex() if signature is not None else None,
        "serial": header.serial,
    }
