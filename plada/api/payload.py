"""`plada.Payload`, `plada.read_payload` and `plada.write_payload`: payloads beside what this machine knows of their reference."""

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from PIL import Image

from plada.common.files import home_directory, write_bytes
from plada.common.progress import Report, silent, with_heartbeat
from plada.payload import payload as payload_file
from plada.payload.container import Header
from plada.payload.sender import Delivery, Sender
from plada.payload.signature import load_signer
from plada.trainer.dataset.hugging_face import to_hugging_face
from plada.trainer.dataset.payload_dataset import PayloadDataset, open_dataset
from plada.trainer.payload_context import PayloadContext, find_shared_context
from plada.trainer.payload_file import ReadOptions, open_payload
from plada.trainer.payload_images import ReferenceCopy


class Payload(payload_file.Payload):
    """Images of a reference, named by position, and a label for each; with the client's copy of the reference, a data set.

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

    Examples:
        >>> import plada
        >>> payload = plada.read_payload("digits.plada")
        >>> sum(payload.class_counts()) == len(payload)
        True
        >>> dataset = payload.dataset("glyphs:count=400")
        >>> image, label = dataset[0]
        >>> image, label, key = next(payload.samples("glyphs:count=400"))
        >>> payload.to_hf("glyphs:count=400").column_names
        ['image', 'label', 'position', 'key']
    """

    __slots__ = ()

    @with_heartbeat
    def dataset(
        self,
        reference: str | Path | ReferenceCopy | None = None,
        transform: Callable[[Any], Any] | None = None,
        *,
        target_transform: Callable[[Any], Any] | None = None,
        home: str | Path | None = None,
        report: Report = silent,
    ) -> PayloadDataset:
        """Open the images and labels as a map-style data set of (image, label), for a loader of any framework.

        It is a torch.utils.data.Dataset where torch is installed, can be pickled, and serves any number of worker processes,
        however they are started. It reads by position from every form of the reference, a batch at once where the loader
        asks for one (`__getitems__`). Every image that is read is compared with its hash. `classes`, `class_to_idx` and
        `targets` are as torchvision's data sets have them. The labels are the payload's classes, also where it carries
        soft labels.

        Args:
            reference: The client's copy of the reference: a registered name, a path, a URL, or a `ReferenceCopy`, whose
                `skip_changed` leaves out what is missing, changed or damaged. None stands for a collection known here that fits.
            transform: Applied to each PIL image (RGB); None gives the images themselves.
            target_transform: Applied to each label.
            home: Where manifests are kept; None for the usual place.
            report: Called with progress, such as that of making a manifest.

        Returns:
            The data set; its rows are in the order of positions.

        Raises:
            ReferenceMismatch: The payload labels other images; when an item is read, that image is missing or has changed.
            RequestError: No reference is named, and none known here fits.
            DataError: When an item is read, it cannot be decoded.
        """
        return open_dataset(
            self, reference, transform=transform, target_transform=target_transform, home=home_directory(home), report=report
        )  # fmt: skip

    @with_heartbeat
    def samples(
        self, reference: str | Path | ReferenceCopy | None = None, *, home: str | Path | None = None, report: Report = silent
    ) -> Iterator[tuple[Image.Image, int, str]]:  # fmt: skip
        """Read the labelled images one after another, without torch.

        Args:
            reference: As for `dataset`.
            home: Where manifests are kept; None for the usual place.
            report: Called with progress.

        Yields:
            (PIL image in RGB, label, key) of each image, in the order of positions.

        Raises:
            ReferenceMismatch: The payload labels other images, or one is missing or has changed.
            RequestError: No reference is named, and none known here fits.
            DataError: An image cannot be decoded.
        """
        return open_dataset(self, reference, home=home_directory(home), report=report).samples()

    @with_heartbeat
    def to_hf(
        self, reference: str | Path | ReferenceCopy | None = None, *, home: str | Path | None = None, report: Report = silent
    ) -> Any:  # fmt: skip
        """Make a data set of Hugging Face's `datasets`, with the columns image, label, position and key.

        The package writes the stored images to its own cache on disk. `plada export --to hf` makes files to keep.

        Args:
            reference: As for `dataset`.
            home: Where manifests are kept; None for the usual place.
            report: Called with progress.

        Returns:
            A `datasets.Dataset`; its labels are a `ClassLabel` with the payload's names.

        Raises:
            MissingExtra: The package `datasets` is not installed.
            ReferenceMismatch: The payload labels other images, or one is missing or has changed.
            RequestError: No reference is named, and none known here fits.
        """
        return to_hugging_face(open_dataset(self, reference, home=home_directory(home), report=report))


def as_payload(payload: payload_file.Payload) -> Payload:
    """A payload as the one that the public calls give."""
    if isinstance(payload, Payload):
        return payload
    return Payload(**{each.name: getattr(payload, each.name) for each in fields(payload)})


def sender_for(header: Header, delivery: Delivery | None = None, *, home: str | Path | None = None) -> Sender:
    """The sender of payloads of the reference that a header names. Raises RequestError: no such kind of client, no such
    file. SideMissing: there is no pack. MissingExtra: no cryptography."""
    delivery = delivery or Delivery()
    signer = load_signer(delivery.sign) if delivery.sign is not None else None
    context = PayloadContext(home=home_directory(home), pack=delivery.pack)
    shared = find_shared_context(header, context, delivery.client_has)
    return Sender(shared=shared, progressive=delivery.progressive, segments=delivery.segments, signer=signer)


def write_payload(
    payload: payload_file.Payload, out: str | Path, *, delivery: Delivery | None = None, home: str | Path | None = None
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

    Examples:
        >>> import plada
        >>> payload = plada.read_payload("digits.plada")
        >>> plada.write_payload(payload, "again.plada") <= 400
        True
    """
    numbered = _numbered(payload, delivery)
    data = sender_for(numbered.header(), delivery, home=home).encode(numbered)
    write_bytes(Path(out), data)
    return len(data)


def encoded_size(
    payload: payload_file.Payload, *, delivery: Delivery | None = None, home: str | Path | None = None
) -> int:
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

    Examples:
        >>> import plada
        >>> payload = plada.read_payload("digits.plada")
        >>> plada.encoded_size(payload) == plada.write_payload(payload, "again.plada")
        True
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

    Examples:
        >>> import plada
        >>> payload = plada.read_payload("digits.plada")
        >>> len(payload.classes), len(payload.positions) == len(payload.labels)
        (10, True)
    """
    options = read or ReadOptions()
    context = PayloadContext(home=home_directory(home), reference=reference, pack=options.pack)
    return as_payload(open_payload(path, context, options).payload)


def _numbered(payload: payload_file.Payload, delivery: Delivery | None) -> payload_file.Payload:
    return replace(payload, serial=delivery.serial) if delivery is not None and delivery.serial else payload
