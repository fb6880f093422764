"""`plada.diff` and `plada.apply_diff`: write the changes between two payloads, and apply them."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from plada.api.payload import sender_for
from plada.common.files import home_directory, write_bytes
from plada.payload.diff import write_changes
from plada.payload.payload import Payload
from plada.payload.sender import Delivery
from plada.trainer.payload_file import PayloadContext, ReadOptions, open_payload


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffSummary:
    """A file of changes: its bytes beside those of the whole new payload, and how much changes."""

    path: str
    bytes: int
    new_bytes: int
    added: int
    removed: int
    relabelled: int
    classes: int
    serial: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplySummary:
    """The payload that changes made of another."""

    payload: str
    bytes: int
    images: int
    classes: int
    serial: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def diff(
    old: str | Path,
    new: str | Path,
    *,
    out: str | Path,
    client_has: str = "manifest",
    pack: str | Path | None = None,
    sign: str | Path | None = None,
    home: str | Path | None = None,
) -> DiffSummary:
    """Write the file that turns the payload `old` into `new`: images removed, added, called otherwise, classes too.

    It can be applied to `old` alone. `client_has`, `pack` and `sign` are as for `select`.

    Raises:
        ReferenceMismatch: the two label different references. PayloadError: one of them is bad.
    """
    around = PayloadContext(home=home_directory(home), pack=pack)
    before, after = (open_payload(path, around) for path in (old, new))
    sender = sender_for(after.payload.header(), Delivery(client_has=client_has, pack=pack, sign=sign), home=home)
    data = write_changes(before.payload, after.payload, side=sender.side, signer=sender.signer)
    write_bytes(Path(out), data)
    removed, added, relabelled = count_changes(before.payload, after.payload)
    return DiffSummary(
        path=str(out),
        bytes=len(data),
        new_bytes=after.bytes,
        added=added,
        removed=removed,
        relabelled=relabelled,
        classes=len(after.payload.classes),
        serial=after.payload.serial,
    )


def apply_diff(
    old: str | Path,
    changes: str | Path,
    *,
    out: str | Path,
    require_signature: str | Path | None = None,
    client_has: str = "manifest",
    pack: str | Path | None = None,
    home: str | Path | None = None,
) -> ApplySummary:
    """Write the payload that a file of changes makes of `old`, which must be the one it was made for.

    `require_signature` is a public key that must have signed both. The result says the same as the sender's new payload
    and is not signed: only the sender can do that. `client_has` says who is to read it, as for `select`.

    Raises:
        ReferenceMismatch: the changes are for another payload. PayloadError: one of the files is bad.
    """
    around = PayloadContext(home=home_directory(home), pack=pack)
    made = open_payload(old, around, ReadOptions(update=[changes], require_signature=require_signature)).payload
    sender = sender_for(made.header(), Delivery(client_has=client_has, pack=pack), home=home)
    data = sender.encode(made)
    write_bytes(Path(out), data)
    return ApplySummary(
        payload=str(out), bytes=len(data), images=len(made), classes=len(made.classes), serial=made.serial
    )


def count_changes(old: Payload, new: Payload) -> tuple[int, int, int]:
    """Images (removed, added, of another class by name)."""
    common, here, there = np.intersect1d(old.positions, new.positions, assume_unique=True, return_indices=True)
    before = [old.classes[label] for label in old.labels[here].tolist()]
    after = [new.classes[label] for label in new.labels[there].tolist()]
    other = sum(a != b for a, b in zip(before, after, strict=True))
    return len(old) - len(common), len(new) - len(common), other
