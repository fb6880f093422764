"""`plada.publish`: payloads into a catalogue, a folder of plain files that any server, store or disk can hold."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from plada.common.files import home_directory, local_place
from plada.common.progress import Report, silent
from plada.common.summary import Summary
from plada.errors import RequestError
from plada.payload.catalogue.document import MAX_CHANGES, MAX_COUNTER, MAX_FORMS, Catalogue, Key, Task, check_name
from plada.payload.catalogue.envelope import succeed
from plada.payload.catalogue.folder import one_publisher, same_but_for_serial
from plada.payload.signature import SigningKey, key_name, load_signing_key
from plada.trainer.catalogue.outlets import (
    Outlets,
    PushedCopy,
    WrittenCarousel,
    check_outlets,
    push,
    write_card_beside,
    write_frames,
)
from plada.trainer.catalogue.publication import Publication, PublicationOptions, selection_facts

DAYS = 30  # until a catalogue expires
KEEP = 4  # versions of a task
_DAY = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedTask(Summary):
    """A task of a catalogue.

    Attributes:
        task: Its name.
        version: The catalogue's count of its versions.
        change: "new", "updated", "same", or "kept" where no payload of it was named.
        images, classes: What its payload labels.
        bytes: Bytes of its smallest form.
        forms: What its forms need, and their bytes.
        changes: Bytes of the smallest changes from the version before; None where there are none.
    """

    task: str
    version: int
    change: str
    images: int
    classes: int
    bytes: int
    forms: Mapping[str, int]
    changes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishSummary(Summary):
    """A catalogue that was published.

    Attributes:
        path: Its folder.
        name: Its name.
        serial: Its serial number.
        expires: When clients stop believing it, seconds since 1970; 0 for never.
        signed_by: The first 4 bytes of the SHA-256 of the key that signed it, hexadecimal; None where it is not signed.
        published: False where it says what it said before, so that nothing was written.
        tasks: All tasks that it has now.
        references: Names of references whose manifest or pack it has.
        removed: Names that were removed.
        bytes: Bytes of all its files that are named by their content.
        carousel: The file of frames that was written; None where none was asked for.
        pushed: The copy that was brought up to date; None likewise.
    """

    path: str
    name: str
    serial: int
    expires: int
    signed_by: str | None
    published: bool
    tasks: tuple[PublishedTask, ...]
    references: tuple[str, ...]
    removed: tuple[str, ...]
    bytes: int
    carousel: WrittenCarousel | None = None
    pushed: PushedCopy | None = None


def publish(
    catalogue: str | Path,
    payloads: Sequence[str | Path] = (),
    *,
    sign: str | Path | None = None,
    rotate_to: str | Path | None = None,
    name: str | None = None,
    expires: str | None = None,
    keep: int = KEEP,
    remove: Sequence[str] = (),
    reference: Sequence[str | Path] = (),
    urls: Mapping[str, str] | None = None,
    reports: Sequence[str | Path | Mapping[str, Any]] = (),
    licence: str | None = None,
    outlets: Outlets | None = None,
    home: str | Path | None = None,
    report: Report = silent,
) -> PublishSummary:
    """Publish payloads, and perhaps the manifest and pack of their reference, in a catalogue that clients pull from.

    A reader sees the old catalogue or the new one. The same inputs give the same bytes. Without payloads the catalogue is signed anew,
    so that it does not expire.

    Args:
        catalogue: The folder, made where it is not there.
        payloads: Payload files, `FILE` or `TASK=FILE`; without a name a task is called as its file. Several files of one task are forms
            of it, and must say the same. More forms, and changes from earlier versions, are added where they are smaller.
        sign: File of the Ed25519 private key that signs the catalogue. Once signed it stays signed.
        rotate_to: File of the private key that signs from now on; the key of `sign` says that it is the successor.
        name: Name of a new catalogue; None for that of its folder. It never changes.
        expires: When clients stop believing the catalogue: days such as "30d", counted to the end of a day, a date such as
            "2030-01-31", or "never". None for 30 days.
        keep: Versions of each task that are kept, so that changes lead from them to the newest one.
        remove: Tasks, or references, to remove.
        reference: References whose manifest and installed packs are published, `PLACE` or `NAME=PLACE`.
        urls: Where files of references are to be had instead of in the catalogue, by "NAME.manifest" or "NAME.pack".
        reports: What `plada select --json` printed for the payloads, files or mappings: teacher, forecast and its interval.
        licence: A note on the terms of the payloads named.
        outlets: Where the catalogue goes beside its folder: frames for a broadcast, a copy in a store or a repository of the Hub.
        home: Where manifests and packs are kept; None for the usual place.
        report: Called with progress.

    Returns:
        What the catalogue holds now.

    Raises:
        RequestError: A name or date cannot be one, files of one task differ, a serial number does not grow, or the key is another
            than the one that signs this catalogue.
        PayloadError: A payload, or the catalogue that is there, is bad.
        UnknownName: There is nothing of that name to remove.
        MissingExtra: It is to be signed, and cryptography is missing; or an outlet needs a package.
        ResourceError: The disk is full or not writable; the old catalogue is still there.

    Examples:
        >>> import plada
        >>> catalogue = plada.publish("mine", ["digits.plada"], sign="server")
        >>> [task.task for task in catalogue.tasks]
        ['digits']
    """
    if not 1 <= keep <= min(MAX_CHANGES, MAX_FORMS):
        raise RequestError(f"keep = {keep}: expected 1 to {min(MAX_CHANGES, MAX_FORMS)} versions")
    key = load_signing_key(sign) if sign is not None else None
    after = load_signing_key(rotate_to) if rotate_to is not None else None
    if after is not None and key is None:
        raise RequestError("rotate_to: the key that signs now must say who succeeds it; give it too (--sign)")
    until, root = _moment(expires), home_directory(home)
    ways = outlets or Outlets()
    check_outlets(ways)
    facts = [each for given in reports for each in selection_facts(given)]
    with one_publisher(catalogue) as folder:
        old = folder.read()
        own = _own_name(old, name, folder.path)
        keys = _keys(old, own, key, after, folder.path)
        options = PublicationOptions(keep=keep, licence=licence, facts=facts)
        publication = Publication(folder, old, options, home=root, report=report)
        for task, files in _by_task(payloads).items():
            publication.add(task, files)
        for each in reference:
            publication.add_reference(str(each), urls or {})
        for each in remove:
            publication.remove(each)
        serial = (old.serial if old is not None else 0) or 1
        new = Catalogue(
            name=own, serial=serial, expires=until, keys=keys, references=publication.used_references(),
            tasks=dict(sorted(publication.tasks.items())),
        )  # fmt: skip
        fresh = old is None or not same_but_for_serial(old, new) or folder.last_serial() != old.serial
        if fresh:
            new = replace(new, serial=max(folder.last_serial(), old.serial if old is not None else 0) + 1)
            folder.write(old, new, after or key)
        write_card_beside(folder, new, ways)
        carousel = write_frames(folder, new, ways)
        pushed = push(folder, new, ways, report)
        sizes = {name: (folder.file(name).stat().st_size if folder.file(name).exists() else 0) for name in new.files()}
    return PublishSummary(
        path=str(folder.path), name=own, serial=new.serial, expires=until,
        signed_by=key_name(keys[-1].key) if keys else None, published=fresh,
        tasks=tuple(_published(name, task, publication.changed.get(name, "kept")) for name, task in new.tasks.items()),
        references=tuple(name for name, each in new.references.items() if each.manifest or each.packs),
        removed=tuple(remove), bytes=sum(sizes.values()), carousel=carousel, pushed=pushed,
    )  # fmt: skip


def _published(name: str, task: Task, change: str) -> PublishedTask:
    newest = task.history[0]
    before = task.history[1].content[:16] if len(task.history) > 1 else ""
    return PublishedTask(
        task=name, version=task.version, change=change, images=newest.images, classes=newest.classes, bytes=newest.bytes,
        forms={f"{form.needs}{', progressive' * form.progressive}": form.bytes for form in reversed(task.forms)},
        changes=min((each.bytes for each in task.changes if each.old == before), default=None),
    )  # fmt: skip


def _by_task(payloads: Sequence[str | Path]) -> dict[str, list[str | Path]]:
    """Files by name of task, as they were named."""
    tasks: dict[str, list[str | Path]] = {}
    for given in payloads:
        named, equals, file = str(given).partition("=")
        if not equals or Path(local_place(given)).exists():
            named, file = Path(str(given).rstrip("/").rpartition("/")[2]).stem, str(given)
        tasks.setdefault(check_name(named, "task"), []).append(file)
    return tasks


def _own_name(old: Catalogue | None, name: str | None, folder: Path) -> str:
    if old is not None:
        if name not in (None, old.name):
            raise RequestError(
                f"{folder}: the catalogue is called '{old.name}', and clients know it by that name. Leave --name out"
            )
        return old.name
    return check_name(name if name is not None else folder.resolve().name, "catalogue")


def _keys(
    old: Catalogue | None, name: str, key: SigningKey | None, after: SigningKey | None, folder: Path
) -> tuple[Key, ...]:
    """All keys of the catalogue, the one that signs now last."""
    there = old.keys if old is not None else ()
    if there and key is None:
        raise RequestError(
            f"{folder}: is signed by key {key_name(there[-1].key)}, and clients demand that. Give it: --sign KEY"
        )
    if there and key is not None and there[-1].key != key.public:
        raise RequestError(
            f"{folder}: is signed by key {key_name(there[-1].key)}; {key_name(key.public)} was given. Give the first one, and let it name "
            "its successor with --rotate-to"
        )
    keys = there or ((Key(key=key.public),) if key is not None else ())
    if after is None or key is None:
        return keys
    if any(each.key == after.public for each in keys):
        raise RequestError(
            f"{folder}: key {key_name(after.public)} has signed this catalogue before; clients believe a key once. Make a new one"
        )
    return (*keys, succeed(name, key, after.public))


def _moment(text: str | None) -> int:
    """When a catalogue expires, in seconds since 1970; 0 for never. A number of days counts to the end of the last one."""
    text = f"{DAYS}d" if text is None else text.strip()
    if text == "never":
        return 0
    today = os.environ.get("SOURCE_DATE_EPOCH") or str(int(time.time()))
    if not today.isdecimal():
        raise RequestError(f"SOURCE_DATE_EPOCH '{today}': expected seconds since 1970, or nothing")
    now = int(today)
    if text.endswith("d") and text[:-1].isdigit() and 0 < int(text[:-1]) < 40_000:
        return (now // _DAY + int(text[:-1]) + 1) * _DAY
    try:
        moment = int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()) + _DAY
    except ValueError:
        moment = 0
    if not now < moment <= MAX_COUNTER:
        raise RequestError(f"expires '{text}': expected days such as 30d, a date to come such as 2030-01-31, or never")
    return moment
