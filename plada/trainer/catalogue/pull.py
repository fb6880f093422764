"""Pulling: from the catalogue's file of a task to the payload that is kept here, by the smallest set of bytes."""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from plada.common.checksums import short_digest, short_file_digest
from plada.common.files import write_bytes
from plada.common.progress import Report, Tracker, silent
from plada.common.summary import Summary
from plada.errors import (
    DataError,
    PayloadCorrupt,
    PayloadError,
    ReferenceMismatch,
    RequestError,
    SideMissing,
    SignatureError,
)
from plada.payload.catalogue.document import (
    Catalogue,
    Change,
    Head,
    StoredFile,
    Task,
    TaskHead,
    read_catalogue,
    read_head,
)
from plada.payload.catalogue.envelope import Envelope, write_envelope
from plada.payload.catalogue.route import Holding, Route, choose_route
from plada.payload.container import read_container
from plada.payload.diff import apply_changes, parse_changes
from plada.payload.pack import find_pack
from plada.payload.payload import Payload
from plada.payload.signature import read_public_key
from plada.trainer.catalogue.home import KeptTask, State
from plada.trainer.catalogue.place import Place
from plada.trainer.catalogue.trust import Doubt, believe
from plada.trainer.payload_context import CLIENT_HAS, PayloadContext, read_with_context
from plada.trainer.payload_file import naming, parse_with_context

_LOOKS, _PAUSE = 3, 0.5  # looks at a file that is about to be replaced, and seconds between them


@dataclass(frozen=True, slots=True, kw_only=True)
class PulledTask(Summary):
    """A task that was brought to its newest version, or would be.

    Attributes:
        task: Its name.
        catalogue: Name of the catalogue.
        file: Where it is kept.
        version: The catalogue's count of its versions.
        before: The version that was here, 0 for none.
        way: What was fetched: "nothing", "change" or "payload".
        bytes: Bytes of the files that were fetched for it, that of the task itself included.
        payload_bytes: Bytes of the payload file that is kept.
        serial: Serial number of the payload, 0 for none.
        checked: Whether the payload could be read here and compared with what the catalogue says; False where its labels need what is not
            here yet.
    """

    task: str
    catalogue: str
    file: str
    version: int
    before: int
    way: str
    bytes: int
    payload_bytes: int
    serial: int
    checked: bool


@dataclass(slots=True, kw_only=True)
class Visit:
    """A look at one place: what is believed of it so far. `required`: a public key's file that must have signed."""

    home: Path
    place: Place
    states: list[State]
    require_signature: str | Path | None = None
    state: State | None = field(default=None, init=False)  # of the catalogue, after what was read of it last
    head: Head | None = field(default=None, init=False)  # of that file
    first_key: bool = field(default=False, init=False)  # its key is believed because none was seen before
    _required: bytes | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.require_signature is not None:
            self._required = read_public_key(self.require_signature)

    def whole(self) -> tuple[Catalogue, State]:
        """The whole catalogue, believed. Raises as `believe`, and as Place does."""
        where = self.place.address("catalogue")
        envelope = self.place.whole()
        catalogue = read_catalogue(envelope.value(where), where)
        return catalogue, self._believe(catalogue, envelope, where, lambda: envelope)

    def task(self, task: str) -> tuple[TaskHead, Envelope, State]:
        """What the catalogue says of one task, believed; raises likewise."""
        where = self.place.address(f"tasks/{task}")
        envelope = self.place.task(task)
        head = read_head(envelope.value(where), where)
        if head.task != task:
            raise PayloadCorrupt(
                f"{where}: speaks of task '{head.task}'; expected '{task}'. Somebody has exchanged files: ask the catalogue's owner"
            )
        return head, envelope, self._believe(head, envelope, where, self.place.whole)

    def patient_task(self, task: str) -> tuple[TaskHead, Envelope, State]:
        """As `task`; where something newer of the same catalogue was read during this visit, somebody is publishing just now: the
        task's file is waited for a little while."""
        for _ in range(_LOOKS):
            try:
                return self.task(task)
            except SignatureError:
                if self.head is None:
                    raise
                time.sleep(_PAUSE)
        return self.task(task)

    def _believe(self, head: Any, envelope: Envelope, where: str, whole: Any) -> State:
        doubt = Doubt(
            home=self.home, states=self.states, place=self.place.base, required=self._required,
            required_name=str(self.require_signature or ""),
        )  # fmt: skip
        state = believe(head, envelope, doubt, where, whole)
        self.head = head
        if state.key and self._required is None and all(each.folder != state.folder for each in self.states):
            self.first_key = True
        self.remember(state)  # what was seen, whatever comes of it
        return state

    def remember(self, state: State) -> None:
        """Keep a state of the catalogue."""
        state.save()
        self.state = state
        self.states = [state, *(each for each in self.states if each.folder != state.folder)]


@dataclass(frozen=True, slots=True, kw_only=True)
class PullOptions:
    """How a task is pulled: what the client `have`, None for what is found here; whether nothing is kept."""

    have: str | None = None
    progressive: bool = False
    dry_run: bool = False

    def __post_init__(self) -> None:
        if self.have is not None and self.have not in CLIENT_HAS:
            raise RequestError(f"have '{self.have}': expected one of {', '.join(CLIENT_HAS)}")


def pull_task(visit: Visit, task: str, options: PullOptions, *, report: Report = silent) -> PulledTask:
    """Bring a task to its newest version. A catalogue that changes meanwhile is read once more.

    Raises:
        RequestError: no such task, or it cannot be fetched. SideMissing: every form needs what is not here. SignatureError: the
            catalogue is not believed. PayloadError: what came is not what it says. ResourceError: the disk is full.
    """
    before = visit.place.received
    head, envelope, state = visit.patient_task(task)
    try:
        return _pull(visit, head, envelope, state, options, before=before, report=report)
    except (RequestError, PayloadCorrupt) as err:
        again, envelope, state = visit.task(task)
        if again.serial == head.serial:
            raise
        Tracker("pull", None, report).say(
            f"{task}: the catalogue has changed meanwhile ({type(err).__name__}); read again"
        )
        return _pull(visit, again, envelope, state, options, before=before, report=report)


def pull_listed(
    visit: Visit, catalogue: Catalogue, state: State, task: str, options: PullOptions, *, report: Report = silent
) -> PulledTask:
    """The same by the whole catalogue, which says what the task's own file does; its proof is fetched only where there is news."""
    entry = catalogue.tasks[task]
    kept = _find_kept(state, task)
    if kept is not None and kept.content == entry.content:
        return _result(state, task, entry, kept, Route(), size=0, checked=True)
    return pull_task(visit, task, options, report=report)


def holding_of(entry: Task, kept: KeptTask | None, readable: bool, home: Path, have: str | None) -> Holding:
    """What this client has for a task: by `have`, else by what is in the home."""

    def can_read(needs: str, pack: str) -> bool:
        if have is not None:
            return CLIENT_HAS.index(needs) <= CLIENT_HAS.index(have)
        return needs != "pack" or _has_pack(home, entry.key_id, pack)

    return Holding(content=kept.content if kept is not None else "", readable=readable, can_read=can_read)


def _has_pack(home: Path, key_id: str, pack: str) -> bool:
    try:
        return find_pack(home, bytes.fromhex(key_id), bytes.fromhex(pack)) is not None
    except (PayloadError, RequestError, ReferenceMismatch):  # a damaged one is none
        return False


def _pull(
    visit: Visit, head: TaskHead, envelope: Envelope, state: State, options: PullOptions, *, before: int, report: Report
) -> PulledTask:
    task, entry, context = head.task, head.entry, PayloadContext(home=visit.home)
    kept = _find_kept(state, task)
    old = _read_kept(state, task, kept, entry, context)
    route = choose_route(
        task, entry, holding_of(entry, kept, old is not None, visit.home, options.have), progressive=options.progressive
    )
    if options.dry_run:
        size = visit.place.received - before + route.bytes
        return _result(state, task, entry, kept, route, size=size, checked=False)
    data, checked = b"", True
    if route.change is not None and old is not None:
        try:
            data = _changed(visit, state, old, route.change, entry, context, report)
        except (PayloadError, ReferenceMismatch, DataError) as err:  # the whole payload may do all the same
            Tracker("pull", None, report).say(
                f"{task}: the changes cannot be used, the whole payload is fetched ({err})"
            )
            route = choose_route(task, entry, holding_of(entry, kept, False, visit.home, options.have))
    if route.form is not None:
        data, checked = _whole(visit, state, task, route.form, entry, context, report)
    now = kept
    if data:
        serial = read_container(data).header.serial
        now = KeptTask(
            version=entry.version, content=entry.content, bytes=len(data), file=short_digest(data), serial=serial
        )
        write_bytes(state.file(task), data)
    assert now is not None
    write_bytes(state.proof(task), write_envelope(envelope))
    visit.remember(replace(state, tasks={**state.tasks, task: replace(now, version=entry.version)}))
    return _result(state, task, entry, kept, route, size=visit.place.received - before, checked=checked, now=now)


def _find_kept(state: State, task: str) -> KeptTask | None:
    """What is kept of a task; None where nothing is, or its file is damaged or another."""
    kept, file = state.tasks.get(task), state.file(task)
    try:
        return kept if kept is not None and short_file_digest(file) == kept.file else None
    except OSError:
        return None


def _read_kept(state: State, task: str, kept: KeptTask | None, entry: Task, context: PayloadContext) -> Payload | None:
    """The payload that is kept, if changes lead from it; None where none do, or its labels cannot be read here."""
    if kept is None or not any(kept.content.startswith(change.old) for change in entry.changes):
        return None
    try:
        return parse_with_context(state.file(task).read_bytes(), context).payload
    except (OSError, PayloadError, ReferenceMismatch, RequestError, DataError):
        return None


def _changed(
    visit: Visit, state: State, old: Payload, change: Change, entry: Task, context: PayloadContext, report: Report
) -> bytes:
    """The new payload as a file that needs nothing beside it, from the changes to the old one."""
    data = change.data or _fetch(visit, state, change, report)
    changes = parse_changes(data)
    new = read_with_context(lambda shared: apply_changes(old, changes, shared=shared), changes.header, context)
    _check_content(new, entry, visit.place.base)
    return new.encode()


def _whole(
    visit: Visit, state: State, task: str, form: StoredFile, entry: Task, context: PayloadContext, report: Report
) -> tuple[bytes, bool]:
    """(the bytes of a payload file, whether its labels could be read and compared)."""
    data = _fetch(visit, state, form, report)
    with naming(visit.place.address(f"files/{form.file}")):
        header = read_container(data).header
        if header.key_id[:8].hex() != entry.key_id:
            raise PayloadCorrupt(f"labels the reference {header.key_id.hex()}; the catalogue says {entry.key_id}")
        try:
            payload = parse_with_context(data, context).payload
        except (SideMissing, ReferenceMismatch):
            return data, False
    _check_content(payload, entry, task)
    return data, True


def _check_content(payload: Payload, entry: Task, where: str) -> None:
    if payload.digest(16).hex() != entry.content:
        raise PayloadCorrupt(
            f"{where}: the payload has the digest {payload.digest(16).hex()}; the catalogue says {entry.content}. Ask its owner"
        )


def _fetch(visit: Visit, state: State, stored: StoredFile, report: Report) -> bytes:
    """The bytes of a file of the catalogue. It lies in the home while it comes, so that a broken transfer is resumed."""
    file = state.incoming / stored.file
    visit.place.fetch(stored, file, report=report)
    data = file.read_bytes()
    file.unlink()
    return data


def _result(
    state: State, task: str, entry: Task, kept: KeptTask | None, route: Route, *, size: int, checked: bool,
    now: KeptTask | None = None,
) -> PulledTask:  # fmt: skip
    after = now or kept
    return PulledTask(
        task=task, catalogue=state.name, file=str(state.file(task)), version=entry.version,
        before=kept.version if kept is not None else 0, way=route.kind, bytes=size,
        payload_bytes=after.bytes if after is not None else 0, serial=after.serial if after is not None else 0, checked=checked,
    )  # fmt: skip
