"""A payload's images in the client's copy of the reference: each is hashed; missing and changed ones are named."""

from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from plada.common.arrays import I64
from plada.common.progress import Report, silent
from plada.errors import DataError, ReferenceMismatch, RequestError, Unreadable
from plada.networks.process_group import ProcessGroup
from plada.payload.payload import Payload
from plada.payload.signature import check_serial
from plada.sources.collection import Collection
from plada.sources.manifest import Manifest, chunked, content_hash, key_id, open_manifest
from plada.sources.reference import (
    check_identity,
    find_reference,
    manifest_folder,
    manifests_in,
    open_reference,
    pulled_manifest,
)
from plada.sources.registry import open_source
from plada.trainer.payload_context import PayloadContext
from plada.trainer.payload_file import ReadOptions, open_payload

_NAMED = 5  # images that a message names
_READ_FIRST = (
    10_000  # images up to which all are read before lost ones are refused, so that changed ones are named, too
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceCopy:
    """The client's own copy of a payload's reference.

    Attributes:
        location: A registered name, a path or a URL; None stands for a collection known here that fits the payload.
        same_keys: Accept a re-encoded or resized copy, whose images have the same keys and other bytes.
        skip_changed: Leave out images that are missing or changed since the manifest was made, instead of refusing them.
        manifest: The server's manifest of the reference, a file. Positions and hashes come from it, so that a copy which has
            lost images can be used with `skip_changed`. None stands for a manifest kept here.

    Examples:
        >>> import plada
        >>> copy = plada.ReferenceCopy(location="glyphs:count=400", skip_changed=True)
        >>> payload = plada.read_payload("digits.plada")
        >>> len(payload.dataset(copy)) == len(payload)
        True
    """

    location: str | Path | None = None
    same_keys: bool = False
    skip_changed: bool = False
    manifest: str | Path | None = None


def as_copy(reference: str | Path | ReferenceCopy | None) -> ReferenceCopy:
    """A copy of the reference that may be given by its location alone."""
    return reference if isinstance(reference, ReferenceCopy) else ReferenceCopy(location=reference)


@dataclass(slots=True)
class PayloadImages:
    """A payload's images: `manifest` says what they must be, `collection` holds what is here.

    `positions` int64 [k], rising, are the payload's; `places` int64 [k] are their positions here, -1 for images that are not
    listed, or None where all positions are the same. `lost` collects the images that
    are missing or changed, with the reason. With `skip` they are left out, else `refuse_lost` refuses them.
    """

    collection: Collection
    manifest: Manifest
    positions: I64
    places: I64 | None
    skip: bool
    lost: dict[int, str] = field(default_factory=dict)
    _collecting: bool = True

    @property
    def location(self) -> str:
        return self.collection.location

    def read(self, position: int) -> bytes:
        """Stored bytes of one image, those of the manifest.

        Raises:
            Unreadable: missing or changed, which is collected. ReferenceMismatch: the same, after `refuse_lost`.
        """
        if position in self.lost:  # by the listing
            if not self._collecting:
                self._refuse()
            raise Unreadable(f"{self.lost[position]} since the manifest was made")
        try:
            data = self.collection.read(self.place_of(position))
            if content_hash(data) == self.manifest.hash_at(position):
                return data
            reason = "changed"
        except DataError:
            reason = "missing"
        self.lost[position] = reason
        if not self._collecting:
            self._refuse()
        raise Unreadable(f"{reason} since the manifest was made")

    def refuse_lost(self) -> None:
        """Refuse images that were lost, now and from now on, unless they may be skipped.

        Raises:
            ReferenceMismatch: images that were read are missing or changed; they are named.
        """
        self._collecting = self.skip
        if self.lost and not self.skip:
            self._refuse()

    def lost_keys(self) -> tuple[str, ...]:
        """Keys of the images that are missing or changed, in order of position."""
        return tuple(self.manifest.keys_at(sorted(self.lost)))

    def emptied(self, payload: Payload) -> tuple[str, ...]:
        """Classes of a payload that have lost all their images."""
        if not self.lost:
            return ()
        left = ~np.isin(payload.positions, np.asarray(list(self.lost), np.int64))
        before, after = (
            np.bincount(rows, minlength=len(payload.classes)) for rows in (payload.labels, payload.labels[left])
        )
        return tuple(payload.classes[label] for label in np.flatnonzero((before > 0) & (after == 0)))

    def place_of(self, position: int) -> int:
        """Where an image of the payload is in the collection. Raises DataError: it is not listed there."""
        if self.places is None:
            return position
        at = int(np.searchsorted(self.positions, position))
        place = int(self.places[at]) if at < len(self.positions) and self.positions[at] == position else -1
        if place < 0:
            raise DataError("not listed")
        return place

    def compare_listing(self) -> None:
        """Collect the images that are missing, or have another size, by what the listing here says: none is read.

        A listing of a table says no sizes; other bytes of the same size are found when they are read.
        """
        places = self.positions if self.places is None else self.places
        listed = places >= 0
        self.lost.update(dict.fromkeys(self.positions[~listed].tolist(), "missing"))
        here = np.asarray(self.collection.sizes[places[listed]], np.int64)
        if (here >= 0).any():
            changed = (here >= 0) & (here != self.manifest.sizes_at(self.positions[listed]))
            self.lost.update(dict.fromkeys(self.positions[listed][changed].tolist(), "changed"))

    def _refuse(self) -> None:
        positions = sorted(self.lost)
        keys = self.manifest.keys_at(positions[:_NAMED])
        named = [f"{key} ({self.lost[position]})" for key, position in zip(keys, positions, strict=False)]
        more = f" and {len(positions) - _NAMED} more" if len(positions) > _NAMED else ""
        raise ReferenceMismatch(
            f"{self.location}: {len(positions)} of the payload's images are missing or changed since the manifest was made: "
            f"{', '.join(named)}{more}. Restore them, or leave them out with --skip-changed; if this is a resized or re-encoded "
            "copy, say --same-keys"
        )


def open_payload_images(payload: Payload, copy: ReferenceCopy, *, home: Path, report: Report = silent) -> PayloadImages:
    """A payload's images in the client's copy of the reference, whose identity is compared with the payload's.

    With a manifest of this reference, the one given, one stored here or one pulled from a catalogue, only the images that the
    payload names are read, and each is hashed. Without one the manifest is made, which reads every image. What the listing lacks
    is known at once, and of many images refused at once.

    Raises:
        RequestError: no reference is named and none known here fits, or options exclude each other.
        ReferenceMismatch: other images, or some of many are missing. DataError: the manifest given is damaged.
    """
    if copy.manifest is not None and copy.same_keys:
        raise RequestError(
            "--manifest names the bytes of each image, which --same-keys accepts to be others. Give one of them"
        )
    given = open_manifest(copy.manifest) if copy.manifest is not None else None
    if given is not None and not _is_of(payload, given):
        raise ReferenceMismatch(
            f"{given.path}: a manifest of {len(given)} images with content id {given.content_id[:8].hex()}; the payload labels a "
            f"reference of {payload.reference} with {payload.content_id[:8].hex()}. Ask the sender for the right manifest",
            wanted=payload.content_id.hex(),
            found=given.content_id.hex(),
        )
    spec = copy.location
    if spec is None:
        spec = find_reference(payload.key_id, home, content=payload.content_id, report=report)
    if spec is None:
        raise RequestError(
            f"no collection known here has the payload's key id {payload.key_id.hex()}. Say where its "
            f"{payload.reference} images are: --reference NAME or PATH"
        )
    collection = open_source(spec, home, report=report)
    if not copy.same_keys:
        stored = manifests_in(manifest_folder(home, collection)) if given is None else [given]
        manifest = next((manifest for manifest in stored if _is_of(payload, manifest)), None)
        manifest = manifest or pulled_manifest(home, payload.key_id, payload.content_id)
        if manifest is not None:
            same = len(collection) == len(manifest) and key_id(collection.keys) == manifest.key_id
            places = None if same else _places(payload, manifest, collection)
            images = PayloadImages(collection, manifest, payload.positions, places, copy.skip_changed)
            images.compare_listing()
            if images.lost and not images.skip and len(payload) > _READ_FIRST:
                images._refuse()
            return images
    reference = open_reference(collection, home, report=report)
    check_identity(
        reference, images=payload.reference, key=payload.key_id, content=payload.content_id, same_keys=copy.same_keys
    )
    return PayloadImages(collection, reference.manifest, payload.positions, None, copy.skip_changed)


def open_in_turn(
    group: ProcessGroup, payload: Payload, copy: ReferenceCopy, *, home: Path, report: Report
) -> PayloadImages:
    """As `open_payload_images`, in the first process before the others: it makes the manifest where there is none."""
    first = open_payload_images(payload, copy, home=home, report=report) if group.first else None
    group.broadcast(0)
    return first or open_payload_images(payload, copy, home=home, report=report)


def take_payload(payload: Payload | str | Path, context: PayloadContext, options: ReadOptions) -> Payload:
    """The payload, read if it is a path.

    Raises:
        RequestError: options of reading for a payload that was read already. SignatureError: its serial number is too low.
        Others as `open_payload`.
    """
    if not isinstance(payload, Payload):
        return open_payload(payload, context, options).payload
    if options.require_signature is not None or options.update:
        raise RequestError("a payload that was read already: give its path, or these options to read_payload")
    check_serial(payload.serial, options.min_serial, "payload")
    return payload


def _is_of(payload: Payload, manifest: Manifest) -> bool:
    return (
        len(manifest) == payload.reference
        and manifest.key_id.startswith(payload.key_id)
        and manifest.content_id.startswith(payload.content_id)
    )


def _places(payload: Payload, manifest: Manifest, collection: Collection) -> I64:
    """Places int64 [k] of the payload's images in a collection that has lost or gained some; -1 for those that it lacks."""
    import pyarrow as pa
    import pyarrow.compute as pc

    places = np.full(len(payload), -1, np.int64)
    wanted = manifest.keys_at(payload.positions)
    at = low = 0
    # Both are in order, so a piece of the listing can hold only those of the payload's keys that are next.
    for keys in chunked(collection.keys).chunks:
        high = bisect_right(wanted, keys[-1].as_py(), low) if len(keys) else low
        rows: Any = pc.index_in(keys, value_set=pa.array(wanted[low:high], pa.string()))
        found = np.flatnonzero(rows.is_valid().to_numpy(zero_copy_only=False))
        places[low + rows.drop_null().to_numpy()] = at + found
        at, low = at + len(keys), high
    return places
