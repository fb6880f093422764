"""A payload: which images of a reference to use, and what to call them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plada.errors import PayloadCorrupt, PayloadError, RequestError
from plada.files import write_bytes
from plada.payload.coders import CODERS, compress, decode_labels, encode_labels, expand
from plada.payload.container import (
    LABELS,
    NAMES,
    NOTES,
    SECTION_NAMES,
    VERSION,
    read_container,
    write_container,
)

_MAX_TEXT = 1 << 20  # bytes of names or notes after decompression
_MAX_CLASSES = 0xFFFF


@dataclass(frozen=True, slots=True, eq=False)
class Payload:
    """Positions int64 [k] (rising), labels int64 [k], class names, and the reference they belong to.

    `reference` is its number of images; key_id and content_id are the first 8 bytes of its ids. `notes` is a small JSON
    object: target, teacher_accuracy, recipe. The constructor checks all of it.

    Raises:
        RequestError: positions or labels out of range, unsorted or repeated; no image; too many classes.
    """

    positions: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    reference: int
    key_id: bytes
    content_id: bytes
    notes: Mapping[str, Any] = field(default_factory=dict)
    version: int = VERSION

    def __post_init__(self) -> None:
        positions, labels = np.asarray(self.positions, np.int64), np.asarray(self.labels, np.int64)
        object.__setattr__(self, "positions", positions)
        object.__setattr__(self, "labels", labels)
        if positions.ndim != 1 or positions.shape != labels.shape or not len(positions):
            raise RequestError(
                f"payload: {positions.shape} positions and {labels.shape} labels; expected as many of both, at least one"
            )
        if not 0 < self.reference < 1 << 32 or not 0 < len(self.classes) <= _MAX_CLASSES:
            raise RequestError(
                f"payload: {self.reference} reference images and {len(self.classes)} classes; at most 2^32-1 and 65535"
            )
        if positions[0] < 0 or positions[-1] >= self.reference or (np.diff(positions) <= 0).any():
            raise RequestError(f"payload: positions must rise strictly within 0..{self.reference - 1}")
        if labels.min() < 0 or labels.max() >= len(self.classes):
            raise RequestError(f"payload: labels must lie within 0..{len(self.classes) - 1}")
        if len(self.key_id) < 8 or len(self.content_id) < 8:
            raise RequestError("payload: key_id and content_id are at least 8 bytes each")
        if len(set(self.classes)) != len(self.classes) or any("\0" in name for name in self.classes):
            raise RequestError("payload: two classes have the same name, or one holds a NUL")

    def __len__(self) -> int:
        return len(self.positions)

    def class_counts(self) -> list[int]:
        """Images of each class, in order of the classes."""
        return [int(count) for count in np.bincount(self.labels, minlength=len(self.classes))]

    def encode(self, coder: str = "auto") -> bytes:
        """The whole file; `auto` takes the smallest coder (the first of equals)."""
        return self._encode(self.coder() if coder == "auto" else coder)

    def sizes(self) -> dict[str, int]:
        """Bytes of the section of labels under each coder."""
        return {name: len(self._labels(name)) for name in CODERS}

    def coder(self) -> str:
        """Name of the coder that `encode` takes."""
        sizes = self.sizes()
        return min(sizes, key=sizes.__getitem__)

    def save(self, path: str | Path) -> int:
        """Write the file, whole or not at all; returns its bytes."""
        data = self.encode()
        write_bytes(Path(path), data)
        return len(data)

    def _labels(self, coder: str) -> bytes:
        return encode_labels(
            self.positions, self.labels, reference=self.reference, classes=len(self.classes), coder=coder
        )

    def _encode(self, coder: str) -> bytes:
        sections = {LABELS: self._labels(coder)}
        if self.classes != _numbered(len(self.classes)):
            sections[NAMES] = _deflate("\0".join(self.classes))
        if self.notes:
            sections[NOTES] = _deflate(json.dumps(dict(self.notes), separators=(",", ":"), sort_keys=True))
        return write_container(
            reference=self.reference,
            classes=len(self.classes),
            key_id=self.key_id,
            content_id=self.content_id,
            sections=sections,
        )


@dataclass(frozen=True, slots=True)
class PayloadFile:
    """A payload together with what its file looks like: bytes in all, bytes of each part, the coder used."""

    payload: Payload
    bytes: int
    sections: dict[str, int]
    coder: str


def parse_payload(data: bytes) -> PayloadFile:
    """Read a payload from bytes.

    Raises:
        PayloadError: its subclass says what is wrong.
    """
    header, sections = read_container(data)
    positions, labels, coder = decode_labels(sections[LABELS], reference=header.reference, classes=header.classes)
    classes = _numbered(header.classes)
    if NAMES in sections:
        classes = tuple(_inflate(sections[NAMES]).split("\0"))
        if len(classes) != header.classes or len(set(classes)) != len(classes):
            raise PayloadCorrupt(f"{len(classes)} class names, some alike, for {header.classes} classes")
    try:
        notes = json.loads(_inflate(sections[NOTES])) if NOTES in sections else {}
    except ValueError as err:
        raise PayloadCorrupt(f"the notes are not JSON ({err})") from err
    if not isinstance(notes, dict):
        raise PayloadCorrupt("the notes are not a JSON object")
    try:
        payload = Payload(
            positions,
            labels,
            classes,
            header.reference,
            header.key_id,
            header.content_id,
            notes,
            header.version,
        )
    except RequestError as err:
        raise PayloadCorrupt(str(err)) from err
    lengths = {SECTION_NAMES[kind]: len(body) for kind, body in sections.items() if kind in SECTION_NAMES}
    return PayloadFile(payload, len(data), {"container": len(data) - sum(lengths.values()), **lengths}, coder)


def read_payload(path: str | Path) -> Payload:
    """Read a payload file.

    Raises:
        RequestError: no such file.
        PayloadError: its subclass says what is wrong.
    """
    return read_payload_file(path).payload


def read_payload_file(path: str | Path) -> PayloadFile:
    """As read_payload, with the anatomy of the file."""
    try:
        data = Path(path).read_bytes()
    except OSError as err:
        raise RequestError(f"{path}: cannot be read ({err.strerror})") from err
    try:
        return parse_payload(data)
    except PayloadError as err:
        raise type(err)(f"{path}: {err}") from err


def _numbered(count: int) -> tuple[str, ...]:
    """The names of classes that a payload without names has."""
    return tuple(str(number) for number in range(count))


def _deflate(text: str) -> bytes:
    """The text as it is (after a 0) or compressed (after a 1), whichever is shorter."""
    raw = text.encode()
    packed = compress(raw)
    return b"\1" + packed if len(packed) < len(raw) else b"\0" + raw


def _inflate(body: bytes) -> str:
    try:
        if body[:1] == b"\0":
            return body[1:].decode()
        if body[:1] == b"\1":
            return expand(body[1:], _MAX_TEXT).decode()
    except UnicodeDecodeError as err:
        raise PayloadCorrupt(f"names or notes are not UTF-8 ({err})") from err
    raise PayloadCorrupt("names or notes are of an unknown kind")
