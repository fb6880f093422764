"""Changes from one payload to another: images removed, relabelled and added, and classes.

A file of changes is a container with a section of its own. Its first two bodies are over virtual references: removed images
are a subset of the old payload's images, relabelled ones a subset of those that stay, both sorted by their old class. So
changes within one class cost little, and need no manifest.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import numpy as np

from plada.common.arrays import I64
from plada.errors import PayloadCorrupt, ReferenceMismatch, RequestError
from plada.payload.coders.body import needs_pack, read_content, write_content
from plada.payload.container import (
    ABOUT,
    DIFF,
    ID_BYTES,
    Header,
    Signature,
    Signer,
    read_container,
    write_container,
)
from plada.payload.metadata import read_metadata, write_metadata
from plada.payload.payload import Payload, check_shared_context
from plada.payload.shared_context import NOTHING_SHARED, SharedContext
from plada.payload.varints import read_varint, varint

_NOTES = 1  # flag: these are the new payload's notes; without it they are the old one's


@dataclass(frozen=True, slots=True)
class ClassMapping:
    """The new classes. `runs` of (taken over from the old ones, old ones left out, new ones named here), in order;
    `renamed` pairs (new, old): class `new`, named here, goes on with the images of `old`, left out."""

    runs: tuple[tuple[int, int, int], ...]
    renamed: tuple[tuple[int, int], ...]

    def sources(self) -> Iterator[int | None]:
        """For each new class the old one that it takes over, None for one that is named here."""
        at = 0
        for taken, left, fresh in self.runs:
            yield from range(at, at + taken)
            yield from [None] * fresh
            at += taken + left

    def meaning(self, old: int) -> I64:
        """For each of `old` classes the new class that its images are of unless said otherwise, -1 for none."""
        meaning = np.full(old, -1)
        for new, source in enumerate(self.sources()):
            if source is not None:
                meaning[source] = new
        for new, source in self.renamed:
            meaning[source] = new
        return meaning


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """A file of changes taken apart, its bodies not decoded yet. `old` and `new`: digests of the payload that it is for
    and of the one that it makes; `names` of the classes that are named here; `notes` None: as they were."""

    header: Header
    old: bytes
    new: bytes
    classes: ClassMapping
    names: tuple[str, ...]
    notes: Mapping[str, Any] | None
    gone: bytes
    changed: bytes
    added: bytes
    signature: Signature | None


def write_changes(
    old: Payload, new: Payload, *, shared: SharedContext = NOTHING_SHARED, signer: Signer | None = None
) -> bytes:
    """The file that turns `old` into `new`. `shared`: what the receiver knows of the reference.

    Raises:
        ReferenceMismatch: they label different references.
    """
    _check_reference(old, new.header(), "the new payload")
    classes = _match(old, new)
    order, bounds = sort_by_class(old.labels)
    stays = np.isin(old.positions[order], new.positions)
    gone, kept = np.flatnonzero(~stays), order[stays]
    labels = new.labels[np.searchsorted(new.positions, old.positions[kept])]
    changed = np.flatnonzero(labels != classes.meaning(len(old.classes))[old.labels[kept]])
    added = np.flatnonzero(~np.isin(new.positions, old.positions))
    count = len(new.classes)
    first = _write(gone, np.zeros_like(gone), len(order), 1, SharedContext(bounds))
    second = _write(changed, labels[changed], len(kept), count, SharedContext(sort_by_class(old.labels[kept])[1]))
    third = _write(new.positions[added], new.labels[added], new.reference, count, shared)
    if shared.features is not None:
        plain = _write(new.positions[added], new.labels[added], new.reference, count, SharedContext(shared.blocks))
        third = min(third, plain, key=lambda body: len(body) + ID_BYTES * needs_pack(body))
    same_notes = dict(old.notes) == dict(new.notes)
    names = tuple(name for name, source in zip(new.classes, classes.sources(), strict=True) if source is None)
    about = write_metadata(names or None, {} if same_notes else new.notes)
    numbers = [len(classes.runs), *(n for run in classes.runs for n in run)]
    numbers += [len(classes.renamed), *(n for pair in classes.renamed for n in pair)]
    body = old.digest() + new.digest() + bytes([0 if same_notes else _NOTES]) + b"".join(map(varint, numbers))
    body += b"".join(varint(len(piece)) + piece for piece in (about, first, second)) + third
    header = new.header(shared.pack_id if needs_pack(third) else b"")
    return write_container(header, {DIFF: body}, signer=signer)


def parse_changes(data: bytes) -> Changes:
    """Take a file of changes apart.

    Raises:
        RequestError: it is a payload, not changes. PayloadError: its subclass says what is wrong.
    """
    file = read_container(data)
    if DIFF not in file.sections:
        raise RequestError("this is a payload, not a file of changes (plada diff OLD NEW)")
    header, body = file.header, file.sections[DIFF]
    if ABOUT in file.sections:
        raise PayloadCorrupt("names and notes stand beside the changes; expected within them")
    at = 2 * ID_BYTES + 1
    if len(body) < at or body[at - 1] & ~_NOTES:
        raise PayloadCorrupt("the section of changes is too short or has unknown flags")
    runs, at = _read_tuples(body, at, 3)
    renamed, at = _read_tuples(body, at, 2)
    about, at = _read_piece(body, at)
    gone, at = _read_piece(body, at)
    changed, at = _read_piece(body, at)
    classes = ClassMapping(tuple((a, b, c) for a, b, c in runs), tuple((a, b) for a, b in renamed))
    if sum(taken + fresh for taken, _, fresh in classes.runs) != header.classes:
        raise PayloadCorrupt(f"the changes make another number of classes than the {header.classes} of the header")
    fresh = sum(run[2] for run in classes.runs)
    names, notes = read_metadata(about, fresh) if about else (None, {})
    if len(names or ()) != fresh or (notes and not body[2 * ID_BYTES]):
        raise PayloadCorrupt(f"{len(names or ())} names for {fresh} new classes, or notes without an announcement")
    return Changes(
        header=header,
        old=body[:ID_BYTES],
        new=body[ID_BYTES : 2 * ID_BYTES],
        classes=classes,
        names=names or (),
        notes=notes if body[2 * ID_BYTES] else None,
        gone=gone,
        changed=changed,
        added=body[at:],
        signature=file.signature,
    )


def apply_changes(old: Payload, changes: Changes, *, shared: SharedContext = NOTHING_SHARED) -> Payload:
    """The payload that the changes make of `old`; `shared`: what is known of the reference.

    Raises:
        ReferenceMismatch: they are for another payload. PayloadCorrupt: what comes out is not what they promise.
        SideMissing: `shared` lacks what the added images need.
    """
    header = changes.header
    _check_reference(old, header, "the file of changes")
    check_shared_context(header, shared)
    if old.digest() != changes.old:
        raise ReferenceMismatch(
            f"the changes are for a payload with digest {changes.old.hex()}; this one has {old.digest().hex()}. "
            "Apply them to the payload that they were made for, in the order in which they were made",
            wanted=changes.old.hex(),
            found=old.digest().hex(),
        )
    names, meaning = _new_classes(old, changes)
    order, bounds = sort_by_class(old.labels)
    gone, _, _ = _read(changes.gone, len(order), 1, SharedContext(bounds))
    kept = np.delete(order, gone)
    labels = meaning[old.labels[kept]]
    changed, relabelled, _ = _read(
        changes.changed, len(kept), header.classes, SharedContext(sort_by_class(old.labels[kept])[1])
    )
    labels[changed] = relabelled
    if (labels < 0).any():
        raise PayloadCorrupt("images of a class that is left out stay without a label")
    added, fresh, _ = _read(changes.added, header.reference, header.classes, shared)
    positions = np.concatenate([old.positions[kept], added])
    rows = np.argsort(positions, kind="stable")
    try:
        new = Payload(
            positions[rows], np.concatenate([labels, fresh])[rows], names, header.reference, header.key_id,
            header.content_id, dict(old.notes) if changes.notes is None else changes.notes, serial=header.serial,
        )  # fmt: skip
    except RequestError as err:
        raise PayloadCorrupt(f"the changes do not make a payload: {err}") from err
    if new.digest() != changes.new:
        raise PayloadCorrupt(
            f"the changes made a payload with digest {new.digest().hex()}; they promise {changes.new.hex()}"
        )
    return new


def count_changes(old: Payload, new: Payload) -> tuple[int, int, int]:
    """Images (removed, added, of another class by name)."""
    common, here, there = np.intersect1d(old.positions, new.positions, assume_unique=True, return_indices=True)
    before = [old.classes[label] for label in old.labels[here].tolist()]
    after = [new.classes[label] for label in new.labels[there].tolist()]
    other = sum(a != b for a, b in zip(before, after, strict=True))
    return len(old) - len(common), len(new) - len(common), other


def sort_by_class(labels: I64) -> tuple[I64, I64 | None]:
    """(rows sorted by label, in order of position within one; bounds of the labels that occur) of labels int64 [k]."""
    order = np.argsort(labels, kind="stable")
    if not len(order):
        return order, None
    starts = np.flatnonzero(np.diff(labels[order], prepend=np.int64(-1)))
    return order, np.append(starts, len(order))


def _match(old: Payload, new: Payload) -> ClassMapping:
    """How the new classes come from the old ones: by name, in order; else by the images that they share."""
    runs = []
    for kind, a, b, c, d in SequenceMatcher(None, old.classes, new.classes, autojunk=False).get_opcodes():
        runs.append((b - a, 0, 0) if kind == "equal" else (0, b - a, d - c))
    joined: list[tuple[int, int, int]] = []
    for run in runs:  # what is taken over and the change behind it are one run
        if joined and joined[-1][1:] == (0, 0):
            joined[-1] = (joined[-1][0], *run[1:])
        else:
            joined.append(run)
    classes = ClassMapping(tuple(joined), ())
    sources = list(classes.sources())
    fresh = {new.classes[index]: index for index, source in enumerate(sources) if source is None}
    left = set(range(len(old.classes))) - set(sources)
    renamed = {
        old_index: fresh.pop(old.classes[old_index]) for old_index in sorted(left) if old.classes[old_index] in fresh
    }
    _, here, there = np.intersect1d(old.positions, new.positions, assume_unique=True, return_indices=True)
    free = set(fresh.values())
    pairs = Counter(
        pair
        for pair in zip(old.labels[here].tolist(), new.labels[there].tolist(), strict=True)
        if pair[1] in free and pair[0] in left and pair[0] not in renamed
    )
    for (source, target), _ in sorted(pairs.items(), key=lambda item: (-item[1], item[0])):
        if source not in renamed and target in free:
            renamed[source] = target
            free.remove(target)
    return ClassMapping(classes.runs, tuple(sorted((target, source) for source, target in renamed.items())))


def _new_classes(old: Payload, changes: Changes) -> tuple[tuple[str, ...], I64]:
    """(names of the new classes, meaning of the old ones)."""
    classes, count = changes.classes, len(old.classes)
    sources = list(classes.sources())
    taken = {source for source in sources if source is not None}
    new = [target for target, _ in classes.renamed]
    gone = [source for _, source in classes.renamed]
    if (
        sum(run[0] + run[1] for run in classes.runs) > count
        or any(target >= len(sources) or sources[target] is not None for target in new)
        or any(source >= count or source in taken for source in gone)
        or len(set(new)) + len(set(gone)) != 2 * len(new)
    ):
        raise PayloadCorrupt("the changes speak of classes that the old payload does not have, or of one twice")
    fresh = iter(changes.names)
    names = tuple(old.classes[source] if source is not None else next(fresh) for source in sources)
    return names, classes.meaning(count)


def _check_reference(old: Payload, header: Header, what: str) -> None:
    wanted = (old.reference, old.key_id[:ID_BYTES], old.content_id[:ID_BYTES])
    found = (header.reference, header.key_id[:ID_BYTES], header.content_id[:ID_BYTES])
    if wanted != found:
        raise ReferenceMismatch(
            f"the old payload labels {wanted[0]} images with key id {wanted[1].hex()} and content id {wanted[2].hex()}, "
            f"{what} {found[0]} with {found[1].hex()} and {found[2].hex()}. Changes are between payloads of one reference",
            wanted=wanted[1].hex(),
            found=found[1].hex(),
        )


def _write(positions: I64, labels: I64, images: int, classes: int, shared: SharedContext) -> bytes:
    return write_content(positions, labels, images=max(images, 1), classes=classes, coder="auto", shared=shared)


def _read(body: bytes, images: int, classes: int, shared: SharedContext) -> tuple[I64, I64, str]:
    found = read_content(body, images=max(images, 1), classes=classes, shared=shared)
    if len(found[0]) and found[0][-1] >= images:
        raise PayloadCorrupt("the changes speak of an image of a payload without images")
    return found


def _read_tuples(body: bytes, at: int, width: int) -> tuple[list[list[int]], int]:
    """A number of groups of `width` numbers each; and the position behind them."""
    count, at = read_varint(body, at)
    groups = []
    for _ in range(count):
        group = []
        for _ in range(width):
            number, at = read_varint(body, at)
            group.append(number)
        groups.append(group)
    return groups, at


def _read_piece(body: bytes, at: int) -> tuple[bytes, int]:
    length, at = read_varint(body, at)
    if at + length > len(body):
        raise PayloadCorrupt(f"a piece of the changes claims {length} bytes; {len(body) - at} are there")
    return body[at : at + length], at + length
