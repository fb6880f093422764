"""`plada.read_payload` and `plada.write_payload`: payload files beside what this machine knows of their reference."""

from dataclasses import replace
from pathlib import Path

from plada.common.files import home_directory, write_bytes
from plada.payload.container import Header
from plada.payload.payload import Payload
from plada.payload.sender import Delivery, Sender
from plada.payload.signature import load_signer
from plada.trainer.payload_context import PayloadContext, find_shared_context
from plada.trainer.payload_file import ReadOptions, open_payload


def sender_for(header: Header, delivery: Delivery | None = None, *, home: str | Path | None = None) -> Sender:
    """The sender of payloads of the reference that a header names. Raises RequestError: no such kind of client, no such
    file. SideMissing: there is no pack. MissingExtra: no cryptography."""
    delivery = delivery or Delivery()
    signer = load_signer(delivery.sign) if delivery.sign is not None else None
    context = PayloadContext(home=home_directory(home), pack=delivery.pack)
    shared = find_shared_context(header, context, delivery.client_has)
    return Sender(shared=shared, progressive=delivery.progressive, segments=delivery.segments, signer=signer)


def write_payload(
    payload: Payload, out: str | Path, *, delivery: Delivery | None = None, home: str | Path | None = None
) -> int:
    """Write a payload for clients that hold the reference, whole or not at all.

    Unlike `Payload.save` this uses what is known of the reference on this machine: a manifest kept in `home`, a pack.

    Args:
        payload: What is written.
        out: The file, replaced if it is there.
        delivery: How it goes to clients. Its serial number, where there is one, replaces the payload's.
        home: Where manifests and packs are kept; None for the usual place.

    Returns:
        The bytes of the file.

    Raises:
        RequestError: There is no such kind of client, or no such file of a pack or key.
        SideMissing: Clients have a pack, and none is here.
        MissingExtra: The file is to be signed, and cryptography is missing.
        ResourceError: The disk is full or not writable.
    """
    numbered = _numbered(payload, delivery)
    data = sender_for(numbered.header(), delivery, home=home).encode(numbered)
    write_bytes(Path(out), data)
    return len(data)


def encoded_size(payload: Payload, *, delivery: Delivery | None = None, home: str | Path | None = None) -> int:
    """Count the bytes of the file that `write_payload` would write, exactly.

    Args:
        payload: What would be written.
        delivery: How it would go to clients.
        home: Where manifests and packs are kept; None for the usual place.

    Returns:
        The bytes of the whole file.

    Raises:
        RequestError: There is no such kind of client, or no such file of a pack or key.
        SideMissing: Clients have a pack, and none is here.
        MissingExtra: The file is to be signed, and cryptography is missing.
    """
    numbered = _numbered(payload, delivery)
    return sender_for(numbered.header(), delivery, home=home).size(numbered)


def read_payload(
    path: str | Path,
    *,
    reference: str | Path | None = None,
    read: ReadOptions | None = None,
    home: str | Path | None = None,
) -> Payload:
    """Read a payload from a path or a URL.

    What it needs beside its bytes is looked for: the keys of the reference's images in a manifest of `home` or in
    `reference`, and a pack in `home` or in a file.

    Args:
        path: A .plada file, a URL of one, or the name of a task that was pulled.
        reference: Name or place of the images; None where a manifest kept here knows their keys.
        read: The pack's file, changes to apply, and what is demanded of the file.
        home: Where manifests and packs are kept; None for the usual place.

    Returns:
        The payload: positions, labels, classes, notes.

    Raises:
        RequestError: There is no such file.
        PayloadError: Its subclass says what is wrong; SideMissing: what it needs is not here; SignatureError: it is not
            signed by the key that is demanded, or its serial number is too low.
        ReferenceMismatch: `reference` or the pack is another one, or an update is for another payload.
    """
    options = read or ReadOptions()
    context = PayloadContext(home=home_directory(home), reference=reference, pack=options.pack)
    return open_payload(path, context, options).payload


def _numbered(payload: Payload, delivery: Delivery | None) -> Payload:
    return replace(payload, serial=delivery.serial) if delivery is not None and delivery.serial else payload
