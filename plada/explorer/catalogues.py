"""Catalogues as the pages show them: tasks, their versions, and the images that a version changed."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from plada.common.checksums import short_digest
from plada.errors import PladaError
from plada.explorer.cache import BoundedCache
from plada.payload.catalogue.document import Catalogue, Task, Version
from plada.payload.container import MAX_TOTAL
from plada.payload.payload import Payload
from plada.payload.signature import key_name
from plada.trainer.catalogue.home import states
from plada.trainer.catalogue.place import Place, place_at
from plada.trainer.catalogue.pull import Visit
from plada.trainer.payload_context import PayloadContext
from plada.trainer.payload_file import parse_with_context

_KEPT = 16  # payloads of versions that stay decoded


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionChanges:
    """What a version changed in the one before: positions that were added and removed, each with its class, and (position, class
    before, class now) of those that are called otherwise."""

    added: tuple[tuple[int, str], ...]
    removed: tuple[tuple[int, str], ...]
    relabelled: tuple[tuple[int, str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShownCatalogue:
    """A catalogue that was read and believed; files of its versions are fetched when a page asks for them."""

    place: Place
    catalogue: Catalogue
    context: PayloadContext
    payloads: BoundedCache[str, Payload | None] = field(default_factory=lambda: BoundedCache(_KEPT))

    @property
    def name(self) -> str:
        return self.catalogue.name

    @property
    def signed_by(self) -> str | None:
        """Fingerprint of the key that signed it."""
        return key_name(self.catalogue.keys[-1].key) if self.catalogue.keys else None

    def changes(self, task: Task, version: Version) -> VersionChanges | None:
        """What a version changed, image by image; None where a payload of it, or of the one before, cannot be had or read here."""
        at = next((place for place, each in enumerate(task.history) if each.version == version.version), None)
        if at is None or at + 1 >= len(task.history):
            return None
        new, old = self._payload(task.history[at]), self._payload(task.history[at + 1])
        return None if new is None or old is None else compare(old, new)

    def _payload(self, version: Version) -> Payload | None:
        return self.payloads.get_or_make(version.content, lambda: self._read(version))

    def _read(self, version: Version) -> Payload | None:
        for name in version.files:
            try:
                data = self.place.read(f"files/{name}", MAX_TOTAL)
                if short_digest(data) != name:
                    continue
                payload = parse_with_context(data, self.context).payload
            except PladaError:
                continue
            if payload.digest(16).hex() == version.content:
                return payload
        return None


def open_catalogue(
    where: str | Path, context: PayloadContext, require_signature: str | Path | None = None
) -> ShownCatalogue:
    """Read a catalogue as `plada pull` does.

    Raises:
        RequestError: none is there. SignatureError: it is not believed. PayloadError: it is damaged.
    """
    place = place_at(where)
    visit = Visit(home=context.home, place=place, states=states(context.home), require_signature=require_signature)
    catalogue, _ = visit.whole()
    return ShownCatalogue(place=place, catalogue=catalogue, context=context)


def compare(old: Payload, new: Payload) -> VersionChanges:
    """What a payload changes in an earlier one, by names of classes."""

    def named(payload: Payload, rows: "np.typing.NDArray[np.int64]") -> list[tuple[int, str]]:
        labels = payload.labels[rows].tolist()
        return [
            (position, payload.classes[label])
            for position, label in zip(payload.positions[rows].tolist(), labels, strict=True)
        ]

    added = np.flatnonzero(~np.isin(new.positions, old.positions))
    removed = np.flatnonzero(~np.isin(old.positions, new.positions))
    _, here, there = np.intersect1d(old.positions, new.positions, assume_unique=True, return_indices=True)
    both = zip(named(old, here), named(new, there), strict=True)
    return VersionChanges(
        added=tuple(named(new, added)),
        removed=tuple(named(old, removed)),
        relabelled=tuple((position, before, now) for (position, before), (_, now) in both if before != now),
    )
