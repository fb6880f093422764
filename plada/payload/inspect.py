"""What a payload file is made of, for people who decide whether to send it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from plada.payload.payload import read_payload_file


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadSummary:
    """The fields of `plada inspect --json`; `coders` are bytes of the labels' section under each coder."""

    version: int
    images: int
    classes: int
    bytes: int
    sections: Mapping[str, int]
    coder: str
    coders: Mapping[str, int]
    reference: int
    key_id: str
    content_id: str
    signed: bool
    class_counts: Mapping[str, int]
    notes: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def inspect_payload(path: str | Path) -> PayloadSummary:
    """Read a payload file and say what is in it; raises as `read_payload` does."""
    file = read_payload_file(path)
    payload = file.payload
    return PayloadSummary(
        version=payload.version,
        images=len(payload),
        classes=len(payload.classes),
        bytes=file.bytes,
        sections=file.sections,
        coder=file.coder,
        coders=payload.sizes(),
        reference=payload.reference,
        key_id=payload.key_id.hex(),
        content_id=payload.content_id.hex(),
        signed=False,
        class_counts=dict(zip(payload.classes, payload.class_counts(), strict=True)),
        notes=payload.notes,
    )
