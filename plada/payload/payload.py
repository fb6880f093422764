"""A payload: which images of a reference to use, and what to call them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plada.common.files import write_bytes
from plada.errors import PayloadCorrupt, PayloadUnsupported, ReferenceMismatch, RequestError
from plada.payload.coders.body import (
    CONTENT_CHECK,
    MAX_KEPT,
    body_sizes,
    encoded_size,
    needs_pack,
    read_content,
    write_content,
)
from plada.payload.coders.registry import CODERS
from plada.payload.container import (
    ABOUT,
    DIFF,
    ID_BYTES,
    LABELS,
    MAX_CLASSES,
    MAX_IMAGES,
    MAX_SERIAL,
    PLAN,
    Header,
    Part,
    Signature,
    Signer,
    by_kind,
    file_size,
    read_container,
    read_plan,
    write_container,
    write_plan,
)
from plada.payload.metadata import MAX_NAME, canonical, numbered, read_about, write_about
from plada.payload.segments import read_segments, write_segments
from plada.payload.shared_context import SharedContext

NO_SIDE = SharedContext()
_DIGEST = b"plada content 1\0"


@dataclass(frozen=True, slots=True, eq=False)
class Payload:
    """Positions int64 [k] (rising), labels int64 [k], class names, and the reference they belong to.

    `reference` is its number of images; key_id and content_id are the first 8 bytes of its ids. `notes` is a small JSON
    object: target, teacher_accuracy, recipe. `serial` grows with every payload of a sender, 0 where nobody counts.
    `rank` int64 [k], 0 the best image, orders best-first layers and is not sent. `segments`: (whole, in all) of a
    progressive file that was read, else None. The constructor checks all of it.

    Raises:
        RequestError: positions or labels out of range, unsorted or repeated; too many images or classes.
    """

    positions: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    reference: int
    key_id: bytes
    content_id: bytes
    notes: Mapping[str, Any] = field(default_factory=dict)
    serial: int = 0
    rank: npt.NDArray[np.int64] | None = None
    segments: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        positions, labels = np.asarray(self.positions, np.int64), np.asarray(self.labels, np.int64)
        object.__setattr__(self, "positions", positions)
        object.__setattr__(self, "labels", labels)
        if positions.ndim != 1 or positions.shape != labels.shape:
            raise RequestError(
                f"payload: {positions.shape} positions and {labels.shape} labels; expected as many of both"
            )
        if len(positions) > MAX_KEPT:
            raise RequestError(f"payload: {len(positions)} positions; expected at most {MAX_KEPT}")
        if not 0 < self.reference <= MAX_IMAGES or not 0 < len(self.classes) <= MAX_CLASSES:
            raise RequestError(
                f"payload: {self.reference} reference images and {len(self.classes)} classes; expected 1 to {MAX_IMAGES} "
                f"and 1 to {MAX_CLASSES}"
            )
        if len(positions) and (positions[0] < 0 or positions[-1] >= self.reference or (np.diff(positions) <= 0).any()):
            raise RequestError(f"payload: positions must rise strictly within 0..{self.reference - 1}")
        if len(labels) and (labels.min() < 0 or labels.max() >= len(self.classes)):
            raise RequestError(f"payload: labels must lie within 0..{len(self.classes) - 1}")
        if len(self.key_id) < ID_BYTES or len(self.content_id) < ID_BYTES:
            raise RequestError("payload: key_id and content_id are at least 8 bytes each")
        if len(set(self.classes)) != len(self.classes) or any("\0" in name for name in self.classes):
            raise RequestError("payload: two classes have the same name, or one holds a NUL")
        if (longest := max(map(len, self.classes))) > MAX_NAME:
            raise RequestError(f"payload: a class name of {longest} letters; expected at most {MAX_NAME}")
        if not 0 <= self.serial <= MAX_SERIAL:
            raise RequestError(f"payload: serial number {self.serial}; expected 1 to {MAX_SERIAL}, or 0 for none")
        if self.rank is not None:
            rank = np.asarray(self.rank, np.int64)
            object.__setattr__(self, "rank", rank)
            if rank.shape != positions.shape:
                raise RequestError(f"payload: {rank.shape} ranks for {positions.shape} positions; expected one each")
        try:
            canonical(self.notes)
        except (TypeError, ValueError) as err:
            raise RequestError(f"payload: the notes are not JSON ({err})") from err

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def recipe(self) -> dict[str, Any]:
        """The training options that the notes recommend; empty where there are none."""
        advice = self.notes.get("recipe", {})
        return dict(advice) if isinstance(advice, dict) else {}

    def class_counts(self) -> list[int]:
        """Images of each class, in order of the classes."""
        return [int(count) for count in np.bincount(self.labels, minlength=len(self.classes))]

    def encode(
        self,
        coder: str = "auto",
        *,
        side: SharedContext = NO_SIDE,
        progressive: str | None = None,
        segments: int | None = None,
        signer: Signer | None = None,
    ) -> bytes:
        """The whole file. `auto` takes the smallest coder that readers who have `side` understand (the first of equals).

        `progressive` is "blocks" or "layers": what is cut off or damaged then costs only its own labels; `segments` is how
        many (docs/payload-format.md section 6). `signer` signs every byte (plada.payload.signature).

        Raises:
            UnknownName: no such coder. RequestError: an impossible number of segments; layers without `rank`.
        """
        if coder == "auto" and side.features is not None:
            # As in `size`.
            plain = self.encode(
                side=SharedContext(side.blocks), progressive=progressive, segments=segments, signer=signer
            )
            packed = self._encode(coder, side, progressive, segments, signer)
            return min(plain, packed, key=len)
        return self._encode(coder, side, progressive, segments, signer)

    def _encode(
        self, coder: str, side: SharedContext, progressive: str | None, segments: int | None, signer: Signer | None
    ) -> bytes:
        about, content = self._about(), {"images": self.reference, "classes": len(self.classes)}
        if progressive is None:
            bodies = [write_content(self.positions, self.labels, coder=coder, side=side, **content)]
            sections, rest = {LABELS: bodies[0]}, []
        else:
            kind, bodies = write_segments(
                self.positions, self.labels, self.rank, coder=coder, side=side, progressive=progressive,
                segments=segments, **content,
            )  # fmt: skip
            sections, rest = {PLAN: write_plan(kind, [len(body) for body in bodies])}, bodies
        header = self.header(side.pack_id if any(map(needs_pack, bodies)) else b"")
        return write_container(header, {**({ABOUT: about} if about else {}), **sections}, rest, signer)

    def size(self, coder: str = "auto", *, side: SharedContext = NO_SIDE, signed: bool = False) -> int:
        """Bytes of `encode` with the same arguments, exactly, at less cost."""
        if coder != "auto":
            return self._total(self._size(coder, side), side, "pack" in CODERS[coder].needs, signed)
        # A pack costs bytes beside the body, so it is files that are compared.
        plain = self._size("auto", SharedContext(side.blocks))
        total = self._total(plain, side, False, signed)
        if side.features is not None and (packed := self._size("auto", side)) < plain:
            total = min(total, self._total(packed, side, True, signed))
        return total

    def sizes(self, *, side: SharedContext = NO_SIDE) -> dict[str, int]:
        """Bytes of the labels' body under each coder that `side` allows."""
        return body_sizes(self.positions, self.labels, images=self.reference, classes=len(self.classes), side=side)

    def coder(self, *, side: SharedContext = NO_SIDE) -> str:
        """Name of the coder that `encode` takes."""
        sizes = self.sizes(side=side)
        return min(sizes, key=lambda name: self._total(sizes[name], side, "pack" in CODERS[name].needs, False))

    def save(
        self,
        path: str | Path,
        coder: str = "auto",
        *,
        side: SharedContext = NO_SIDE,
        progressive: str | None = None,
        segments: int | None = None,
        signer: Signer | None = None,
    ) -> int:
        """Write the file of `encode`, whole or not at all; returns its bytes."""
        data = self.encode(coder, side=side, progressive=progressive, segments=segments, signer=signer)
        write_bytes(Path(path), data)
        return len(data)

    def digest(self) -> bytes:
        """8 bytes that stand for all that a payload says: labels, names, notes, reference, serial number; not for how it
        was coded. docs/payload-format.md section 7."""
        text = ["\0".join(self.classes).encode(), canonical(self.notes).encode()]
        numbers = [self.reference, len(self.classes), self.serial, len(self), *map(len, text)]
        hasher = hashlib.sha256(_DIGEST)
        for piece in (
            np.array(numbers, "<u4").tobytes(), self.key_id[:ID_BYTES], self.content_id[:ID_BYTES],
            self.positions.astype("<u4").tobytes(), self.labels.astype("<u2").tobytes(), *text,
        ):  # fmt: skip
            hasher.update(piece)
        return hasher.digest()[:ID_BYTES]

    def header(self, pack_id: bytes = b"") -> Header:
        """The header of a file of this payload."""
        return Header(self.reference, len(self.classes), self.key_id, self.content_id, pack_id[:ID_BYTES], self.serial)

    def _total(self, body: int, side: SharedContext, packed: bool, signed: bool) -> int:
        """Bytes of the whole file around a body of so many bytes."""
        about = len(self._about())
        lengths = ([about] if about else []) + [body + CONTENT_CHECK * packed]
        return file_size(self.header(side.pack_id if packed else b""), lengths, signed=signed)

    def _about(self) -> bytes:
        return write_about(None if self.classes == numbered(len(self.classes)) else self.classes, self.notes)

    def _size(self, coder: str, side: SharedContext) -> int:
        return encoded_size(
            self.positions, self.labels, images=self.reference, classes=len(self.classes), coder=coder, side=side
        )


@dataclass(frozen=True, slots=True)
class PayloadFile:
    """A payload together with what its file looks like: bytes in all, every part, the coder used, who signed it."""

    payload: Payload
    header: Header
    bytes: int
    parts: tuple[Part, ...]
    coder: str
    signature: Signature | None = None

    @property
    def sections(self) -> dict[str, int]:
        """Bytes of each kind of part; together they are the file."""
        return by_kind(self.parts)


def parse_payload(data: bytes, *, side: SharedContext = NO_SIDE, partial: bool = False) -> PayloadFile:
    """Read a payload from bytes. `partial`: take what is whole of a progressive file that is cut off or damaged.

    Raises:
        PayloadError: its subclass says what is wrong; SideMissing: `side` lacks what these bytes need.
        ReferenceMismatch: `side` is of another reference or pack.
    """
    file = read_container(data, partial=partial)
    header, sections = file.header, file.sections
    if DIFF in sections:
        raise PayloadUnsupported(
            "this file turns one payload into another (plada diff). Apply it to the one it was made for: plada apply"
        )
    check_side(header, side)
    names, notes = read_about(sections[ABOUT], header.classes) if ABOUT in sections else (None, {})
    received = None
    if PLAN in sections:
        kind, _ = read_plan(sections[PLAN])
        whole = [segment for segment in file.segments if segment is not None]
        positions, labels, coder = read_segments(
            kind, file.segments, images=header.reference, classes=header.classes, side=side
        )
        received = (len(whole), len(file.segments))
    else:
        whole = [sections[LABELS]]
        positions, labels, coder = read_content(
            sections[LABELS], images=header.reference, classes=header.classes, side=side
        )
    if any(map(needs_pack, whole)) and not header.pack_id:
        raise PayloadCorrupt("the labels need a pack, and the header names none")
    payload = _made(header, positions, labels, names, notes, received)
    return PayloadFile(payload, header, len(data), file.parts, coder, file.signature)


def _made(
    header: Header,
    positions: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64],
    names: Sequence[str] | None,
    notes: Mapping[str, Any],
    segments: tuple[int, int] | None,
) -> Payload:
    try:
        return Payload(
            positions,
            labels,
            tuple(names) if names is not None else numbered(header.classes),
            header.reference,
            header.key_id,
            header.content_id,
            notes,
            header.serial,
            None,
            segments,
        )
    except RequestError as err:
        raise PayloadCorrupt(str(err)) from err


def check_side(header: Header, side: SharedContext) -> None:
    """Refuse bounds or features of something else: they would decode to other labels."""
    found = [] if side.blocks is None else [int(side.blocks[-1])]
    found += [] if side.features is None else [len(side.features)]
    if any(images != header.reference for images in found):
        raise ReferenceMismatch(
            f"the payload labels a reference of {header.reference} images; the manifest or pack given is of {found[0]}",
            wanted=str(header.reference),
            found=str(found[0]),
        )
    own = side.pack_id[:ID_BYTES]
    if side.features is not None and header.pack_id and own != header.pack_id:
        raise ReferenceMismatch(
            f"the payload was made with pack {header.pack_id.hex()}; the one given is {own.hex()}. Ask the server for the right one",
            wanted=header.pack_id.hex(),
            found=own.hex(),
        )
