"""The payload's images in the client's copy of the reference: every one hashed, those missing or changed named."""

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plada.common.progress import Report
from plada.errors import DataError, ReferenceMismatch, RequestError, Unreadable
from plada.payload.payload import Payload
from plada.sources.collection import Collection
from plada.sources.manifest import Manifest, content_hash, key_id, load_manifest
from plada.sources.reference import check_identity, find_reference, manifest_path, open_reference
from plada.sources.registry import open_source

_NAMED = 5  # images that a message names


@dataclass(slots=True)
class Chosen:
    """A payload's images: `manifest` says what they must be, `collection` holds what is here.

    `places` gives the position here of each position of the manifest, where these differ. `lost` collects the images that
    are missing or changed, with the reason. With `skip` these are left out, else `settle` refuses them.
    """

    collection: Collection
    manifest: Manifest
    places: dict[int, int] | None
    skip: bool
    lost: dict[int, str] = field(default_factory=dict)
    _collecting: bool = True

    @property
    def location(self) -> str:
        return self.collection.location

    def read(self, position: int) -> bytes:
        """Stored bytes of one image, those of the manifest.

        Raises:
            Unreadable: missing or changed, and that is collected. ReferenceMismatch: the same after `settle`, without skip.
        """
        try:
            data = self.collection.read(position if self.places is None else self._place(position))
            if content_hash(data) == self.manifest.hash_at(position):
                return data
            reason = "changed"
        except DataError:
            reason = "missing"
        self.lost[position] = reason
        if not self._collecting:
            self._refuse()
        raise Unreadable(f"{reason} since the manifest was made")

    def settle(self) -> None:
        """Say that whatever is read from now on must be there, unless it may be skipped.

        Raises:
            ReferenceMismatch: images that were read are missing or changed; they are named.
        """
        self._collecting = self.skip
        if self.lost and not self.skip:
            self._refuse()

    def lost_keys(self) -> tuple[str, ...]:
        """Keys of what is missing or changed, in order of position."""
        return tuple(self.manifest.keys_at(sorted(self.lost)))

    def _place(self, position: int) -> int:
        assert self.places is not None
        place = self.places.get(position, -1)
        if place < 0:
            raise DataError("not listed")
        return place

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


def open_chosen(
    payload: Payload,
    reference: str | Path | None,
    *,
    home: Path,
    same_keys: bool = False,
    skip_changed: bool = False,
    report: Report,
) -> Chosen:
    """The client's copy of a payload's reference, after its identity was compared with the payload's.

    A stored manifest of just this reference is enough: only the images that the payload names are read, and each is
    hashed. Else the manifest is made, or made again, which reads every image.

    Raises:
        RequestError: no reference is named and none known here fits. ReferenceMismatch: other images.
    """
    spec = reference if reference is not None else find_reference(payload.key_id, home)
    if spec is None:
        raise RequestError(
            f"no collection known here has the payload's key id {payload.key_id.hex()}. Say where its "
            f"{payload.reference} images are: --reference NAME or PATH"
        )
    collection = open_source(spec, home)
    if not same_keys:
        with contextlib.suppress(DataError):
            manifest = load_manifest(manifest_path(home, collection))
            if _is_of(payload, manifest):
                same = len(collection) == len(manifest) and key_id(collection.keys) == manifest.key_id
                places = None if same else _places(payload, manifest, collection)
                return Chosen(collection, manifest, places, skip_changed)
    found = open_reference(collection, home, report=report)
    check_identity(found, images=payload.reference, key=payload.key_id, content=payload.content_id, same_keys=same_keys)
    return Chosen(collection, found.manifest, None, skip_changed)


def _is_of(payload: Payload, manifest: Manifest) -> bool:
    return (
        len(manifest) == payload.reference
        and manifest.key_id.startswith(payload.key_id)
        and manifest.content_id.startswith(payload.content_id)
    )


def _places(payload: Payload, manifest: Manifest, collection: Collection) -> dict[int, int]:
    """Where the payload's images are in a collection that has lost or gained some; -1 for those it lacks."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = payload.positions.tolist()
    here: Any = pc.index_in(pa.array(manifest.keys_at(wanted), pa.string()), value_set=collection.keys)
    return {position: -1 if at is None else at for position, at in zip(wanted, here.to_pylist(), strict=True)}
