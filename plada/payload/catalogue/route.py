"""The smallest set of bytes that leads a client from what it has to the newest version of a task."""

from collections.abc import Callable
from dataclasses import dataclass

from plada.errors import SideMissing
from plada.payload.catalogue.document import Change, Form, Task

REQUEST = 350  # bytes that one more request costs on the wire: its own header and the answer's


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What a client has. `content`: digest of the payload that it keeps, 16 bytes hexadecimal, or "". `readable`: it can read that
    payload, so that changes can be applied to it. `can_read(needs, pack)`: whether it has what a file needs beside it."""

    content: str = ""
    readable: bool = False
    can_read: Callable[[str, str], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What is to be fetched: one file, or changes that stand in the task's file already; nothing where both are None."""

    form: Form | None = None
    change: Change | None = None

    @property
    def kind(self) -> str:
        """nothing, change or payload."""
        return "payload" if self.form is not None else "change" if self.change is not None else "nothing"

    @property
    def bytes(self) -> int:
        """Bytes of the file that is to be fetched; 0 where what is needed has come already."""
        if self.form is not None:
            return self.form.bytes
        return self.change.bytes if self.change is not None and not self.change.data else 0


def choose_route(task: str, entry: Task, holding: Holding, *, progressive: bool = False) -> Route:
    """The cheapest way to the newest version of a task. `progressive`: a whole payload that is worth something in parts, where there
    is one.

    Raises:
        SideMissing: every form needs something that the client does not have.
    """
    if holding.content == entry.content:
        return Route()
    readable = [form for form in entry.forms if holding.can_read(form.needs, form.pack)]
    routes = [Route(form=form) for form in readable if form.progressive == progressive]
    routes = routes or [Route(form=form) for form in readable]
    if holding.readable and not progressive:
        routes += [
            Route(change=change)
            for change in entry.changes
            if holding.content.startswith(change.old) and holding.can_read(change.needs, change.pack)
        ]
    if not routes:
        raise _nothing_readable(task, entry)
    return min(routes, key=_cost)


def _cost(route: Route) -> tuple[int, int]:
    """Bytes on the wire; among equals a whole payload, which needs nothing of before."""
    return route.bytes + REQUEST * bool(route.bytes), route.kind == "change"


def _nothing_readable(task: str, entry: Task) -> SideMissing:
    packs = sorted({form.pack for form in entry.forms if form.pack})
    if any(form.needs == "manifest" for form in entry.forms) or not packs:
        return SideMissing(
            f"{task}: every form of it needs the names of the images of {entry.reference} (key id {entry.key_id}). Say --have "
            "manifest if this machine has the images",
            needs="manifest",
        )
    return SideMissing(
        f"{task}: every form of it needs the pack {' or '.join(packs)} of {entry.reference}, which is not installed here. Bring it "
        f"first: plada pull WHERE --reference {entry.reference}; or plada install-pack FILE",
        needs="pack",
    )
