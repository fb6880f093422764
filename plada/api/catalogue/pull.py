"""`plada.pull` and `plada.watch`: tasks and references of a catalogue, by the smallest set of bytes, into the home."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plada.common.files import home_directory
from plada.common.progress import Report, Tracker, silent
from plada.common.summary import Summary
from plada.common.units import parse_rate
from plada.errors import (
    DataError,
    MissingExtra,
    PayloadCorrupt,
    PayloadError,
    PladaError,
    ReferenceMismatch,
    RequestError,
    ResourceError,
    SideMissing,
    UnknownName,
)  # fmt: skip
from plada.payload.catalogue.document import Task
from plada.payload.catalogue.route import choose_route
from plada.payload.signature import key_name
from plada.sources.storage import plain_name
from plada.trainer.catalogue.home import KeptTask, one_pull, states
from plada.trainer.catalogue.place import Place, find_place, is_missing, place_at
from plada.trainer.catalogue.pull import PulledTask, PullOptions, Visit, holding_of, pull_listed, pull_task
from plada.trainer.catalogue.references import PulledReference, pull_reference

RATE = 9600  # bits a second that times are given for
EVERY = 3600.0  # seconds between two looks of a service


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedTask(Summary):
    """A task that a catalogue offers.

    Attributes:
        task: Its name.
        version: The catalogue's count of its versions.
        here: The version that is kept here, 0 for none.
        images, classes: What its payload labels.
        bytes: Bytes of the file that a pull would fetch now, without the task's own file; 0 where nothing is needed.
        seconds: Time that they take at the rate asked for.
        way: "nothing", "change" or "payload"; "" where no form can be read here.
        needs: What the form or the changes need beside them; where no form can be read here, what is missing.
        reference: Name of the reference.
        key_id: The first 8 bytes of its key id, hexadecimal.
        coder: Coder of the smallest form.
        about: What the server says of it: target, teacher, forecast, licence.
    """

    task: str
    version: int
    here: int
    images: int
    classes: int
    bytes: int
    seconds: float
    way: str
    needs: str
    reference: str
    key_id: str
    coder: str
    about: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PullSummary(Summary):
    """What was pulled, or what there is.

    Attributes:
        where: Where the catalogue is; "" where several were asked.
        catalogue: Its name; "" likewise.
        serial: Its serial number.
        expires: When it expires, seconds since 1970; 0 for never.
        signed_by: The first 4 bytes of the SHA-256 of the key that signed it, hexadecimal; None where it is not signed.
        first_key: That key was believed because it is the first one that was seen of this catalogue.
        bytes: Bytes of all files that came, those of the catalogue itself included; headers of the protocol are not.
        seconds: Time that these bytes take at the rate asked for.
        rate: That rate, in bits a second.
        tasks: Tasks that were brought to their newest version.
        listed: All tasks of the catalogue, where none was asked for.
        references: References that were brought; where a list was asked for, the names of those that have files.
        failed: Tasks that could not be pulled, and why, where all were asked for.
        dry_run: Nothing was kept.
    """

    where: str
    catalogue: str
    serial: int
    expires: int
    signed_by: str | None
    first_key: bool = False
    bytes: int
    seconds: float
    rate: int
    tasks: tuple[PulledTask, ...] = ()
    listed: tuple[ListedTask, ...] = ()
    references: tuple[PulledReference, ...] = ()
    offered_references: tuple[str, ...] = ()
    failed: Mapping[str, str]
    dry_run: bool = False


def pull(
    where: str | Path | None = None,
    task: str | None = None,
    *,
    all_tasks: bool = False,
    reference: str | None = None,
    have: str | None = None,
    progressive: bool = False,
    rate: str | int = RATE,
    require_signature: str | Path | None = None,
    dry_run: bool = False,
    home: str | Path | None = None,
    report: Report = silent,
) -> PullSummary:
    """Bring a task of a catalogue to its newest version, by the smallest set of bytes; or say what the catalogue has.

    What was pulled is kept in the home. Every call that takes a payload's path then takes the task's name. The catalogue's key and
    serial numbers are remembered: what is older, expired, or signed by another key is refused.

    Args:
        where: The catalogue, a path or URL, or one of its tasks: CATALOGUE/TASK. Of a file of frames that a carousel sent, all tasks
            are pulled, as with `all_tasks`. None, with `all_tasks`: all places of before.
        task: The task; None takes it from `where`, or lists what there is.
        all_tasks: Pull all tasks of the catalogue. Without `where`: all tasks that are here, from where they came.
        reference: Bring the manifest and the packs of this reference.
        have: What this client has beside the images: "nothing", "manifest" or "pack". None looks into the home.
        progressive: Take a form that is worth something in parts, where there is one.
        rate: Times are given for this rate, such as "9.6kbps".
        require_signature: A public key that must have signed the catalogue. None believes the first key that it sees, and from then on
            that one and its successors alone.
        dry_run: Say what would be fetched, and fetch the catalogue alone.
        home: Where it is kept; None for the usual place.
        report: Called with progress.

    Returns:
        What was pulled, by which way, and the bytes that came.

    Raises:
        RequestError: There is no catalogue there, no such task, or it cannot be reached.
        SignatureError: The catalogue is not believed: another key, older than what was seen, expired, another catalogue than before.
        SideMissing: Every form of the task needs a pack that is not here.
        PayloadError: What came is damaged, or of a newer format.
        ResourceError: The disk is full or not writable.

    Examples:
        >>> import plada
        >>> plada.pull("shop", "digits").tasks[0].task
        'digits'
    """
    root, speed = home_directory(home), parse_rate(rate)
    options = PullOptions(have=have, progressive=progressive, dry_run=dry_run)
    if where is None:
        if not all_tasks or task is not None or reference is not None:
            raise RequestError(
                "no place is named. Name the catalogue, or say --all to bring all that was pulled before up to date"
            )
        return _pull_kept(root, options, speed, require_signature, report)
    if all_tasks and (task is not None or reference is not None):
        raise RequestError("all tasks, and one task or reference, exclude each other: ask for one of them")
    known = states(root)
    if all_tasks or reference is not None:
        guesses: list[tuple[Place, str | None]] = [(place_at(where), None)]
    else:
        guesses = find_place(where, task, frozenset(place for state in known for place in state.places))
    for place, name in guesses:
        visit = Visit(home=root, place=place, states=known, require_signature=require_signature)
        try:
            with one_pull(root, place.base):
                visit.states = states(root)
                if name is not None:
                    pulled = pull_task(visit, name, options, report=report)
                    return _summary(visit, speed, tasks=(pulled,), dry_run=dry_run)
                if reference is not None:
                    return _pull_reference(visit, reference, options, speed, report)
                if all_tasks or place.carried is not None:
                    return _pull_all(visit, options, speed, report)
                return _list(visit, options, speed)
        except (RequestError, PayloadCorrupt) as err:
            last = (place, name) == guesses[-1]
            if visit.state is not None or not (is_missing(err) or (place.foreign and not last)):
                raise
            if name is not None and last:
                raise _no_such_task(visit, name, err) from err
            if last:
                raise RequestError(f"{where}: no catalogue is there, and no task of one ({err})") from err
    raise AssertionError("every guess returns or raises")


def watch(
    where: str | Path | None = None,
    task: str | None = None,
    *,
    all_tasks: bool = False,
    every: float = EVERY,
    rounds: int | None = None,
    pulled: Callable[[PullSummary], None] = lambda _: None,
    report: Report = silent,
    **options: Any,
) -> None:
    """Pull again and again, as a service does, until Ctrl-C. What cannot be had is said, and tried again the next time.

    Args:
        where: As for `pull`. Of a whole catalogue all tasks are pulled.
        task: As for `pull`.
        all_tasks: As for `pull`.
        every: Seconds between two pulls.
        rounds: Number of pulls; None for no end.
        pulled: Called with what each pull brought.
        report: Called with progress, and with a note for each pull that failed.
        options: As for `pull`.

    Raises:
        RequestError: `every` is no time.
        MissingExtra: The catalogue is signed, and cryptography is missing.

    Examples:
        >>> import plada
        >>> plada.watch("shop", "digits", every=1, rounds=1, pulled=lambda summary: print(summary.tasks[0].task))
        digits
    """
    if not every > 0:
        raise RequestError(f"every = {every}: expected seconds, above 0")
    tracker, done = Tracker("pull", rounds, report), 0
    while True:
        try:
            found = pull(where, task, all_tasks=all_tasks, report=report, **options)
            if not (all_tasks or found.tasks):  # `where` is a whole catalogue
                all_tasks = True
                continue
            pulled(found)
        except MissingExtra:
            raise
        except (PayloadError, RequestError, ResourceError, ReferenceMismatch, DataError) as err:
            tracker.say(f"{err}. Tried again in {every:g} s")
        tracker.advance()
        done += 1
        if rounds is not None and done >= rounds:
            return
        time.sleep(every)


def _pull_all(visit: Visit, options: PullOptions, rate: int, report: Report) -> PullSummary:
    catalogue, state = visit.whole()
    tasks, failed = [], {}
    tracker = Tracker("tasks", len(catalogue.tasks), report)
    for name in catalogue.tasks:
        try:
            tasks.append(pull_listed(visit, catalogue, visit.state or state, name, options, report=report))
        except (RequestError, PayloadError, ReferenceMismatch) as err:
            failed[name] = str(err)
        tracker.advance()
    return _summary(visit, rate, tasks=tuple(tasks), failed=failed, dry_run=options.dry_run)


def _pull_kept(root: Path, options: PullOptions, rate: int, key: str | Path | None, report: Report) -> PullSummary:
    """All tasks that are here, from the places where their catalogues were read last."""
    tasks: list[PulledTask] = []
    failed, received = {}, 0
    for state in states(root):
        try:
            place = place_at(state.places[-1])
        except (RequestError, PayloadError) as err:  # frames that are not here any more
            failed[state.name] = str(err)
            continue
        visit = Visit(home=root, place=place, states=states(root), require_signature=key)
        with one_pull(root, place.base):
            for name in sorted(state.tasks):
                try:
                    tasks.append(pull_task(visit, name, options, report=report))
                except (RequestError, PayloadError, ReferenceMismatch) as err:
                    failed[f"{state.name}/{name}"] = str(err)
        received += place.received
    return PullSummary(
        where="", catalogue="", serial=0, expires=0, signed_by=None, bytes=received, seconds=8 * received / rate, rate=rate,
        tasks=tuple(tasks), failed=failed, dry_run=options.dry_run,
    )  # fmt: skip


def _pull_reference(visit: Visit, name: str, options: PullOptions, rate: int, report: Report) -> PullSummary:
    catalogue, state = visit.whole()
    plain = name if name in catalogue.references else plain_name(name)
    found = pull_reference(
        plain, catalogue, state, visit.place, home=visit.home, dry_run=options.dry_run, report=report
    )
    return _summary(visit, rate, references=(found,), dry_run=options.dry_run)


def _list(visit: Visit, options: PullOptions, rate: int) -> PullSummary:
    catalogue, state = visit.whole()
    listed = tuple(
        _listed(name, task, state.tasks.get(name), visit.home, options, rate) for name, task in catalogue.tasks.items()
    )
    offered = tuple(name for name, each in catalogue.references.items() if each.files_anywhere)
    return _summary(visit, rate, listed=listed, offered_references=offered)


def _listed(name: str, task: Task, kept: KeptTask | None, home: Path, options: PullOptions, rate: int) -> ListedTask:
    """What a pull of a task would fetch now, as far as that can be said without reading what is kept."""
    newest, way, size = task.history[0], "", 0
    try:
        route = choose_route(
            name, task, holding_of(task, kept, kept is not None, home, options.have), progressive=options.progressive
        )
        source = route.form or route.change
        way, size, needs = route.kind, route.bytes, source.needs if source is not None else "nothing"
    except SideMissing as missing:
        needs = f"a {missing.needs} that is not here"
        size = min(form.bytes for form in task.forms)
    return ListedTask(
        task=name, version=task.version, here=kept.version if kept is not None else 0,
        images=newest.images,
        classes=newest.classes, bytes=size,
        seconds=8 * size / rate, way=way, needs=needs, reference=task.reference, key_id=task.key_id, coder=task.forms[0].coder,
        about=task.about,
    )  # fmt: skip


def _no_such_task(visit: Visit, task: str, err: Exception) -> PladaError:
    """Why a task's file is not there: the catalogue has no such task, or there is no catalogue."""
    try:
        catalogue, _ = visit.whole()
    except (RequestError, PayloadError):
        return RequestError(f"{visit.place.base}: no catalogue is there ({err})")
    return UnknownName("task of this catalogue", task, catalogue.tasks)


def _summary(
    visit: Visit, rate: int, *, tasks: tuple[PulledTask, ...] = (), listed: tuple[ListedTask, ...] = (),
    references: tuple[PulledReference, ...] = (), offered_references: tuple[str, ...] = (),
    failed: Mapping[str, str] | None = None, dry_run: bool = False,
) -> PullSummary:  # fmt: skip
    state, head = visit.state, visit.head
    assert state is not None and head is not None
    return PullSummary(
        where=visit.place.base, catalogue=head.name, serial=head.serial, expires=head.expires,
        signed_by=key_name(bytes.fromhex(state.key)) if state.key else None, first_key=visit.first_key, bytes=visit.place.received,
        seconds=8 * visit.place.received / rate, rate=rate, tasks=tasks, listed=listed, references=references,
        offered_references=offered_references, failed=failed or {}, dry_run=dry_run,
    )  # fmt: skip
