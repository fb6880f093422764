"""`plada.diff` and `plada.apply_diff`: write the changes between two payloads, and apply them."""

from dataclasses import dataclass
from pathlib import Path

from plada.api.payload import sender_for, write_payload
from plada.common.files import home_directory, write_bytes
from plada.common.outputs import check_outputs
from plada.common.summary import Summary
from plada.payload.diff import count_changes, write_changes
from plada.payload.sender import Delivery
from plada.trainer.payload_context import PayloadContext
from plada.trainer.payload_file import ReadOptions, open_payload


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffSummary(Summary):
    """A file of changes, beside the whole new payload.

    Attributes:
        path: The file.
        bytes: Its size.
        new_bytes: Size of the new payload's own file.
        added: Number of images of the new payload alone.
        removed: Number of images of the old payload alone.
        relabelled: Number of images of both whose class has another name.
        classes: Number of classes of the new payload.
        serial: Serial number of the new payload, 0 for none.
    """

    path: str
    bytes: int
    new_bytes: int
    added: int
    removed: int
    relabelled: int
    classes: int
    serial: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplySummary(Summary):
    """The payload that changes made of another.

    Attributes:
        payload: Its file.
        bytes: Its size.
        images: Number of images.
        classes: Number of classes.
        serial: Serial number, 0 for none.
    """

    payload: str
    bytes: int
    images: int
    classes: int
    serial: int


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
    """Write the changes that turn one payload into another: images removed, added, relabelled, and their classes.

    Args:
        old: The payload that clients have, a path or URL. The changes can be applied to it alone.
        new: The payload that they shall have.
        out: The file to write, whole or not at all.
        client_has: What clients hold beside the images: "nothing", "manifest" or "pack".
        pack: A pack's file; None stands for the pack that is installed for the reference.
        sign: File of an Ed25519 private key that signs the changes; None leaves them unsigned.
        home: Where manifests and packs are kept; None for the usual place.

    Returns:
        Bytes of the file, and how many images change.

    Raises:
        ReferenceMismatch: The payloads label different references.
        RequestError: A file is not there, or there is no such kind of client.
        PayloadError: One of the payloads is bad; SideMissing: what it needs is not here.
        MissingExtra: The changes are to be signed, and cryptography is missing.

    Examples:
        >>> import plada
        >>> changes = plada.diff("digits.plada", "other.plada", out="change.plada")
        >>> changes.bytes > 0
        True
    """
    check_outputs(out)
    context = PayloadContext(home=home_directory(home), pack=pack)
    before, after = open_payload(old, context).payload, open_payload(new, context)
    sender = sender_for(after.header, Delivery(client_has=client_has, pack=pack, sign=sign), home=home)
    data = write_changes(before, after.payload, shared=sender.shared, signer=sender.signer)
    write_bytes(Path(out), data)
    removed, added, relabelled = count_changes(before, after.payload)
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
    min_serial: int = 0,
    client_has: str = "manifest",
    pack: str | Path | None = None,
    home: str | Path | None = None,
) -> ApplySummary:
    """Write the payload that a file of changes makes of another.

    The result says the same as the sender's new payload. It is not signed: only the sender can do that.

    Args:
        old: The payload that the changes were made for, a path or URL.
        changes: What `diff` wrote, a path or URL.
        out: The file to write, whole or not at all.
        require_signature: A public key that must have signed `old` and `changes`; None demands none.
        min_serial: The least serial number that the result may have.
        client_has: What readers of the result hold beside the images: "nothing", "manifest" or "pack".
        pack: A pack's file; None stands for the pack that is installed for the reference.
        home: Where manifests and packs are kept; None for the usual place.

    Returns:
        Size and contents of the new payload.

    Raises:
        ReferenceMismatch: The changes are for another payload.
        RequestError: A file is not there, or `changes` is a payload.
        PayloadError: One of the files is bad; SignatureError: it is not signed as demanded; SideMissing: what it needs is
            not here.

    Examples:
        >>> import plada
        >>> changes = plada.diff("digits.plada", "other.plada", out="change.plada")
        >>> result = plada.apply_diff("digits.plada", "change.plada", out="new.plada")
        >>> len(plada.read_payload("new.plada")) == len(plada.read_payload("other.plada"))
        True
    """
    check_outputs(out)
    context = PayloadContext(home=home_directory(home), pack=pack)
    read = ReadOptions(update=[changes], require_signature=require_signature, min_serial=min_serial)
    new = open_payload(old, context, read).payload
    size = write_payload(new, out, delivery=Delivery(client_has=client_has, pack=pack), home=home)
    return ApplySummary(payload=str(out), bytes=size, images=len(new), classes=len(new.classes), serial=new.serial)
