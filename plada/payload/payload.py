"""A payload: which images of a reference to use, and what to call them."""

import hashlib
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
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
    ByteRange,
    Header,
    Signature,
    Signer,
    bytes_by_kind,
    file_size,
    read_container,
    read_plan,
    write_container,
    write_plan,
)
from plada.payload.metadata import MAX_NAME, default_names, notes_text, read_metadata, write_metadata
from plada.payload.segments import read_segments, write_segments
from plada.payload.shared_context import NOTHING_SHARED, SharedContext

_DIGEST = b"plada content 1\0"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Payload:
    """Images of a reference, named by position, and a label for each.

    The constructor checks all fields. `len(payload)` is the number of images, k.

    Attributes:
        positions: Which images, int64 [k], rising strictly, each in 0 .. reference - 1.
        labels: Their classes, int64 [k], each in 0 .. len(classes) - 1.
        classes: Names of the classes, all different.
        reference: Number of images of the reference.
        key_id: Which keys the reference has; the first 8 bytes count.
        content_id: Which bytes its images have; the first 8 bytes count.
        notes: A small JSON object; known members are target, teacher_accuracy, recipe and soft_labels.
        serial: Serial number, 1 to 2^32 - 1, which grows with every payload of a sender; 0 for none.
        rank: Order of the images for best-first layers, int64 [k], 0 the best; it is not sent.
        segments: Segments that were whole, and all there are, of a progressive file that was read; else None.

    Raises:
        RequestError: A field is out of range, or fields do not fit each other.
    """

    positions: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    reference: int
    key_id: bytes
    content_id: bytes
    notes: Mapping[str, Any] = field(default_factory=dict)
    _: KW_ONLY
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
            notes_text(self.notes)
        except (TypeError, ValueError) as err:
            raise RequestError(f"payload: the notes are not JSON ({err})") from err

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def recipe(self) -> dict[str, Any]:
        """The training options that the notes recommend; empty where there are none."""
        advice = self.notes.get("recipe", {})
        return dict(advice) if isinstance(advice, dict) else {}

    def __repr__(self) -> str:
        serial = f", serial {self.serial}" if self.serial else ""
        return (
            f"<Payload: {len(self)} of {self.reference} images, {len(self.classes)} classes, "
            f"key id {self.key_id[:ID_BYTES].hex()}{serial}>"
        )

    def class_counts(self) -> list[int]:
        """Count the images of each class.

        Returns:
            One number for each class, in their order.
        """
        return [int(count) for count in np.bincount(self.labels, minlength=len(self.classes))]

    def encode(
        self,
        coder: str = "auto",
        *,
        shared: SharedContext = NOTHING_SHARED,
        progressive: str | None = None,
        segments: int | None = None,
        signer: Signer | None = None,
    ) -> bytes:
        """Write the payload as a file in memory.

        Args:
            coder: A name of `plada.payload.coders.registry.CODERS`, or "auto" for the one that gives the smallest file.
            shared: What readers know beside the file.
            progressive: "blocks" or "layers": damage or a cut then costs only some of the labels. None for a plain file.
            segments: Parts of a progressive file; None lets the number of images decide.
            signer: Signs every byte; None leaves the file unsigned.

        Returns:
            The bytes of the file (docs/payload-format.md).

        Raises:
            UnknownName: There is no such coder.
            SideMissing: `shared` lacks what the coder needs.
            RequestError: The number of segments is impossible, or layers are asked for and there is no `rank`.
        """
        if coder == "auto" and shared.features is not None:
            # A pack costs bytes beside the body, so files are compared, as in `size`.
            plain = self.encode(
                shared=SharedContext(shared.blocks), progressive=progressive, segments=segments, signer=signer
            )
            packed = self._encode(coder, shared, progressive, segments, signer)
            return min(plain, packed, key=len)
        return self._encode(coder, shared, progressive, segments, signer)

    def size(self, coder: str = "auto", *, shared: SharedContext = NOTHING_SHARED, signed: bool = False) -> int:
        """Count the bytes of a plain file, exactly, at less cost than writing it.

        Args:
            coder: As for `encode`.
            shared: What readers know beside the file.
            signed: Whether the file carries a signature.

        Returns:
            `len(payload.encode(coder, shared=shared, ...))`.

        Raises:
            UnknownName: There is no such coder.
            SideMissing: `shared` lacks what the coder needs.
        """
        if coder != "auto":
            return self._file_size(self._body_size(coder, shared), shared, "pack" in CODERS[coder].needs, signed)
        plain = self._body_size("auto", SharedContext(shared.blocks))
        total = self._file_size(plain, shared, False, signed)
        if shared.features is not None and (packed := self._body_size("auto", shared)) < plain:
            total = min(total, self._file_size(packed, shared, True, signed))
        return total

    def sizes(self, *, shared: SharedContext = NOTHING_SHARED) -> dict[str, int]:
        """Count the bytes of the labels under each coder.

        Args:
            shared: What readers know beside the file.

        Returns:
            Bytes by name of coder, for the coders that such readers understand.
        """
        return body_sizes(self.positions, self.labels, images=self.reference, classes=len(self.classes), shared=shared)

    def coder(self, *, shared: SharedContext = NOTHING_SHARED) -> str:
        """Name the coder that `encode` takes.

        Args:
            shared: What readers know beside the file.

        Returns:
            The name of the coder that gives the smallest file.
        """
        sizes = self.sizes(shared=shared)
        return min(sizes, key=lambda name: self._file_size(sizes[name], shared, "pack" in CODERS[name].needs, False))

    def save(
        self,
        path: str | Path,
        coder: str = "auto",
        *,
        shared: SharedContext = NOTHING_SHARED,
        progressive: str | None = None,
        segments: int | None = None,
        signer: Signer | None = None,
    ) -> int:
        """Write the file of `encode`, whole or not at all.

        `plada.write_payload` does the same with what this machine knows of the reference.

        Args:
            path: The file, replaced if it is there.
            coder: As for `encode`, like all that follow.
            shared: What readers know beside the file.
            progressive: "blocks", "layers" or None.
            segments: Parts of a progressive file.
            signer: Signs every byte.

        Returns:
            The bytes of the file.

        Raises:
            ResourceError: The disk is full or not writable.
            UnknownName, SideMissing, RequestError: As `encode`.
        """
        data = self.encode(coder, shared=shared, progressive=progressive, segments=segments, signer=signer)
        write_bytes(Path(path), data)
        return len(data)

    def digest(self, size: int = ID_BYTES) -> bytes:
        """Hash all that the payload says: labels, names, notes, reference and serial number, but not how it is coded.

        Args:
            size: Bytes of the digest, at most 32. Files of changes have 8; a catalogue, whose signature stands on it, has 16.

        Returns:
            The first `size` bytes of a SHA-256 (docs/payload-format.md section 9).
        """
        text = ["\0".join(self.classes).encode(), notes_text(self.notes).encode()]
        numbers = [self.reference, len(self.classes), self.serial, len(self), *map(len, text)]
        hasher = hashlib.sha256(_DIGEST)
        for piece in (
            np.array(numbers, "<u4").tobytes(), self.key_id[:ID_BYTES], self.content_id[:ID_BYTES],
            self.positions.astype("<u4").tobytes(), self.labels.astype("<u2").tobytes(), *text,
        ):  # fmt: skip
            hasher.update(piece)
        return hasher.digest()[:size]

    def header(self, pack_id: bytes = b"") -> Header:
        """Make the header of a file of this payload.

        Args:
            pack_id: Id of the pack that the labels need, b"" for none.

        Returns:
            The header, without the length of the file.
        """
        return Header(self.reference, len(self.classes), self.key_id, self.content_id, pack_id[:ID_BYTES], self.serial)

    def _encode(
        self, coder: str, shared: SharedContext, progressive: str | None, segments: int | None, signer: Signer | None
    ) -> bytes:
        metadata, content = self._metadata(), {"images": self.reference, "classes": len(self.classes)}
        if progressive is None:
            bodies = [write_content(self.positions, self.labels, coder=coder, shared=shared, **content)]
            sections, rest = {LABELS: bodies[0]}, []
        else:
            kind, bodies = write_segments(
                self.positions, self.labels, self.rank, coder=coder, shared=shared, progressive=progressive,
                segments=segments, **content,
            )  # fmt: skip
            sections, rest = {PLAN: write_plan(kind, [len(body) for body in bodies])}, bodies
        header = self.header(shared.pack_id if any(map(needs_pack, bodies)) else b"")
        return write_container(header, {**({ABOUT: metadata} if metadata else {}), **sections}, rest, signer)

    def _file_size(self, body: int, shared: SharedContext, packed: bool, signed: bool) -> int:
        """Bytes of the whole file around a body of so many bytes."""
        metadata = len(self._metadata())
        lengths = ([metadata] if metadata else []) + [body + CONTENT_CHECK * packed]
        return file_size(self.header(shared.pack_id if packed else b""), lengths, signed=signed)

    def _metadata(self) -> bytes:
        return write_metadata(None if self.classes == default_names(len(self.classes)) else self.classes, self.notes)

    def _body_size(self, coder: str, shared: SharedContext) -> int:
        return encoded_size(
            self.positions, self.labels, images=self.reference, classes=len(self.classes), coder=coder, shared=shared
        )


@dataclass(frozen=True, slots=True)
class PayloadFile:
    """A payload together with what its file looks like: bytes in all, every part, the coder used, who signed it."""

    payload: Payload
    header: Header
    bytes: int
    parts: tuple[ByteRange, ...]
    coder: str
    signature: Signature | None = None

    @property
    def sections(self) -> dict[str, int]:
        """Bytes of each kind of part; together they are the file."""
        return bytes_by_kind(self.parts)


def parse_payload(data: bytes, *, shared: SharedContext = NOTHING_SHARED, partial: bool = False) -> PayloadFile:
    """Read a payload from bytes. `partial`: take what is whole of a progressive file that is cut off or damaged.

    Raises:
        PayloadError: its subclass says what is wrong; SideMissing: `shared` lacks what these bytes need.
        ReferenceMismatch: `shared` is of another reference or pack.
    """
    file = read_container(data, partial=partial)
    header, sections = file.header, file.sections
    if DIFF in sections:
        raise PayloadUnsupported(
            "this file turns one payload into another (plada diff). Apply it to the one it was made for: plada apply"
        )
    check_shared_context(header, shared)
    names, notes = read_metadata(sections[ABOUT], header.classes) if ABOUT in sections else (None, {})
    received = None
    if PLAN in sections:
        kind, _ = read_plan(sections[PLAN])
        whole = [segment for segment in file.segments if segment is not None]
        positions, labels, coder = read_segments(
            kind, file.segments, images=header.reference, classes=header.classes, shared=shared
        )
        received = (len(whole), len(file.segments))
    else:
        whole = [sections[LABELS]]
        positions, labels, coder = read_content(
            sections[LABELS], images=header.reference, classes=header.classes, shared=shared
        )
    if any(map(needs_pack, whole)) and not header.pack_id:
        raise PayloadCorrupt("the labels need a pack, and the header names none")
    try:
        payload = Payload(
            positions, labels, names or default_names(header.classes), header.reference, header.key_id, header.content_id,
            notes, serial=header.serial, segments=received,
        )  # fmt: skip
    except RequestError as err:
        raise PayloadCorrupt(str(err)) from err
    return PayloadFile(payload, header, len(data), file.parts, coder, file.signature)


def check_shared_context(header: Header, shared: SharedContext) -> None:
    """Refuse bounds or features of something else: they would decode to other labels."""
    found = [] if shared.blocks is None else [int(shared.blocks[-1])]
    found += [] if shared.features is None else [len(shared.features)]
    if any(images != header.reference for images in found):
        raise ReferenceMismatch(
            f"the payload labels a reference of {header.reference} images; the manifest or pack given is of {found[0]}",
            wanted=str(header.reference),
            found=str(found[0]),
        )
    own = shared.pack_id[:ID_BYTES]
    if shared.features is not None and header.pack_id and own != header.pack_id:
        raise ReferenceMismatch(
            f"the payload was made with pack {header.pack_id.hex()}; the one given is {own.hex()}. Ask the server for the right one",
            wanted=header.pack_id.hex(),
            found=own.hex(),
        )
