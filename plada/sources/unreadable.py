"""Unreadable images by reason: how many, and one example of each."""

import re
from dataclasses import dataclass, field

import pyarrow.compute as pc

from plada.sources.manifest import READABLE, Manifest

_DETAIL = re.compile(r"b'.*'|b\".*\"|\d+")  # bytes and numbers, in which reasons of one kind differ
_NO_HEADER = "no header of an image of a known kind (hashed, not decoded)"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableGroup:
    """Images that are unreadable for one reason.

    Attributes:
        images: How many.
        reason: The reason of the first of them.
        example: The key of the first of them.
    """

    images: int
    reason: str
    example: str


@dataclass(slots=True)
class UnreadableTally:
    """Counts unreadable images by the kind of their reason."""

    _kinds: dict[str, tuple[int, str, str]] = field(default_factory=dict)

    def add(self, key: str, reason: str) -> None:
        """Count one image."""
        kind = _DETAIL.sub("#", reason.replace(key, "#"))
        images, first, example = self._kinds.get(kind, (0, reason, key))
        self._kinds[kind] = (images + 1, first, example)

    def add_manifest(self, manifest: Manifest) -> None:
        """Count what a manifest says: images that were not decodable, or, where none was decoded, have no header."""
        for table in manifest.blocks(["key", "width", "status"]):
            status = table.column("status")
            bad = pc.or_(
                pc.fill_null(pc.not_equal(status, READABLE), False),
                pc.and_(pc.is_null(status), pc.equal(table.column("width"), 0)),
            )
            for row in table.filter(bad).to_pylist():
                self.add(row["key"], row["status"] or _NO_HEADER)

    def groups(self) -> tuple[UnreadableGroup, ...]:
        """The groups, largest first."""
        kinds = sorted(self._kinds.values(), key=lambda kind: -kind[0])
        return tuple(UnreadableGroup(images=images, reason=reason, example=key) for images, reason, key in kinds)
