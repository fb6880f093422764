"""What a new version of a catalogue holds: forms of each task, changes from its earlier versions, references.

It reads payloads with what this machine knows of their references, and writes all files that are named by their content.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from plada.common.progress import Report, Tracker
from plada.errors import PladaError, RequestError, SideMissing, UnknownName
from plada.payload.catalogue.document import (
    MAX_FORMS,
    Catalogue,
    Change,
    Form,
    PackFile,
    ReferenceEntry,
    Task,
    Version,
    check_name,
)  # fmt: skip
from plada.payload.catalogue.folder import CatalogueFolder
from plada.payload.coders.body import read_start
from plada.payload.container import LABELS, PLAN, Header, read_container
from plada.payload.diff import apply_changes, count_changes, parse_changes, write_changes
from plada.payload.pack import packs_folder, read_pack
from plada.payload.payload import Payload, parse_payload
from plada.payload.shared_context import NOTHING_SHARED, SharedContext
from plada.sources.reference import kept_manifests, open_reference
from plada.sources.registry import open_source
from plada.sources.storage import plain_name
from plada.trainer.payload_context import PayloadContext, find_shared_context
from plada.trainer.payload_file import fetch, naming, parse_with_context

_PAYS = 0.95  # a form or a change is kept where it takes less than this share of what would be fetched without it
_INLINE = 400  # bytes of changes that stand in a task's own file


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicationOptions:
    """How payloads are published: `keep` versions; a note on their `licence`; what was said when they were chosen (`facts`)."""

    keep: int
    licence: str | None = None
    facts: Sequence[Mapping[str, Any]] = ()


class Publication:
    """Gathers what the new catalogue has, and stores the files that it speaks of."""

    def __init__(
        self, folder: CatalogueFolder, old: Catalogue | None, options: PublicationOptions, *, home: Path, report: Report
    ) -> None:
        self.folder, self.options, self.home, self.report = folder, options, home, report
        self.tasks: dict[str, Task] = dict(old.tasks) if old is not None else {}
        self.references: dict[str, ReferenceEntry] = dict(old.references) if old is not None else {}
        self.changed: dict[str, str] = {}
        self.context = PayloadContext(home=home)
        self._read: dict[str, Payload | None] = {}  # payloads of earlier versions of the task that is being added

    def add(self, task: str, files: Sequence[str | Path]) -> None:
        """The next version of a task, or more forms of the one that is there."""
        twin = next((each for each in self.tasks if each != task and each.lower() == task.lower()), None)
        if twin is not None:
            raise RequestError(
                f"tasks '{task}' and '{twin}': many disks take these names for one. Give one of them another"
            )
        self._read.clear()
        tracker = Tracker("publish", None, self.report)
        tracker.say(f"{task}: {len(files)} file{'s' * (len(files) > 1)}")
        datas = [fetch(file, self.home) for file in files]
        payload = self._read_alike(task, files, datas)
        now, content, keep = self.tasks.get(task), payload.digest(16).hex(), self.options.keep - 1
        current = now if now is not None and now.content == content else None  # it gets more forms, no new version
        if now is not None and current is None:
            _check_grows(task, now, payload)
        forms = self._forms(payload, datas, current)
        size, names = min(form.bytes for form in forms), tuple(sorted(form.file for form in forms))
        if current is not None:
            history, changes = current.history[1:][:keep], current.changes
            newest = replace(current.history[0], bytes=size, files=names)
        else:
            history = now.history[:keep] if now is not None else ()
            changes = self._changes(payload, forms, history)
            old = self._earlier(now.history[0]) if now is not None else None
            if old is not None and old.key_id[:8] != payload.key_id[:8]:
                old = None  # its positions are those of other images
            removed, added, relabelled = count_changes(old, payload) if old is not None else (0, 0, 0)
            newest = Version(
                version=now.version + 1 if now is not None else 1, content=content, images=len(payload),
                classes=len(payload.classes), serial=payload.serial, bytes=size, files=names, removed=removed, added=added,
                relabelled=relabelled,
            )  # fmt: skip
        kept = {each.content[:16] for each in history}
        self.tasks[task] = Task(
            version=newest.version, content=content, key_id=payload.key_id[:8].hex(),
            reference=self._reference_of(payload.header()), forms=forms,
            changes=tuple(each for each in changes if each.old in kept), history=(newest, *history),
            about=self._about(payload, files, dict(current.about) if current is not None else {}),
        )  # fmt: skip
        self.changed[task] = "new" if now is None else "updated" if current is None else "same"

    def add_reference(self, text: str, urls: Mapping[str, str]) -> None:
        """The manifest and the installed packs of a reference."""
        named, equals, place = text.partition("=")
        if not equals or not named.replace("-", "").replace("_", "").replace(".", "").isalnum():
            named, place = "", text
        reference = open_reference(open_source(place, self.home, report=self.report), self.home, report=self.report)
        manifest = reference.manifest
        name = check_name(named or plain_name(place), "reference")
        there = self.references.get(name)
        if there is not None and not (
            manifest.key_id.hex().startswith(there.key_id) and manifest.content_id.hex().startswith(there.content_id)
        ):
            raise RequestError(
                f"reference '{name}': the catalogue means {there.images} images with key id {there.key_id}; {place} has {len(manifest)} "
                f"with {manifest.key_id.hex()}. Give this one another name: --reference NAME={place}"
            )
        packs = []
        for path in sorted(packs_folder(self.home).glob(f"{manifest.key_id.hex()}-*.pack")):
            pack = read_pack(path, verify=True)
            stored = self.folder.store_file(path, url=urls.get(f"{name}.pack", ""))
            packs.append(
                PackFile(
                    file=stored.file,
                    bytes=stored.bytes,
                    url=stored.url,
                    pack_id=pack.pack_id.hex(),
                    dimensions=pack.dimensions,
                )
            )
        self.references[name] = ReferenceEntry(
            images=len(manifest), key_id=manifest.key_id.hex(), content_id=manifest.content_id.hex(),
            manifest=self.folder.store_file(manifest.path, url=urls.get(f"{name}.manifest", "")), packs=tuple(packs),
        )  # fmt: skip
        self._unify(name)

    def remove(self, name: str) -> None:
        """Take out a task, or the files of a reference."""
        if name in self.tasks:
            del self.tasks[name]
        elif name in self.references:
            self.references[name] = replace(self.references[name], manifest=None, packs=())
        else:
            raise UnknownName("task or reference", name, {*self.tasks, *self.references})

    def used_references(self) -> dict[str, ReferenceEntry]:
        """Those that a task is of, or that have files."""
        used = {task.reference for task in self.tasks.values()}
        return {name: each for name, each in sorted(self.references.items()) if name in used or each.files_anywhere}

    def _read_alike(self, task: str, files: Sequence[str | Path], datas: Sequence[bytes]) -> Payload:
        """The payload that all files say."""
        payloads = []
        for file, data in zip(files, datas, strict=True):
            with naming(file):
                payloads.append(parse_with_context(data, self.context).payload)
        if len({payload.digest(16) for payload in payloads}) > 1:
            raise RequestError(
                f"task '{task}': {files[0]} and {files[-1]} have different labels, so they cannot be two forms of one task. Give each task a name "
                "of its own: TASK=FILE"
            )
        return payloads[0]

    def _forms(self, payload: Payload, datas: Sequence[bytes], current: Task | None) -> tuple[Form, ...]:
        """All forms of a payload, plain ones first, the smallest first: those that are there, those given, and what pays beside them."""
        known = [*(current.forms if current is not None else ()), *map(self._form, datas)]
        known = list({form.file: form for form in known}.values())
        forms = [*known, *self._more_forms(payload, known)]
        if len(forms) > MAX_FORMS:
            raise RequestError(
                f"{len(forms)} forms of one task; expected at most {MAX_FORMS}. Remove the task and publish it anew"
            )
        return tuple(sorted(forms, key=lambda form: (form.progressive, form.bytes, form.file)))

    def _form(self, data: bytes) -> Form:
        """A payload file, stored."""
        file = read_container(data)
        needs = "pack" if file.header.pack_id else _needs(lambda: parse_payload(data, shared=NOTHING_SHARED))
        bodies = [body for body in (file.sections.get(LABELS), *file.segments) if body is not None]
        coders = sorted({read_start(body, file.header.reference)[0] for body in bodies})
        stored = self.folder.store(data)
        return Form(
            file=stored.file, bytes=stored.bytes, needs=needs, pack=file.header.pack_id[:8].hex(), coder="+".join(coders),
            progressive=PLAN in file.sections,
        )  # fmt: skip

    def _more_forms(self, payload: Payload, forms: Sequence[Form]) -> Iterator[Form]:
        """Forms for other clients that are not there yet: without a pack where every form needs one, with a pack where that pays."""
        plain = [form for form in forms if not form.progressive]
        least = min((form.bytes for form in plain if form.needs != "pack"), default=None)
        if least is None:
            data = payload.encode(shared=self._shared(payload.header(), "manifest"))
            least = len(data)
            yield self._form(data)
        if (
            all(form.needs != "pack" for form in plain)
            and (shared := self._shared(payload.header(), "pack")).features is not None
        ):
            data = payload.encode(shared=shared)
            if len(data) < _PAYS * least:
                yield self._form(data)

    def _changes(self, payload: Payload, forms: Sequence[Form], history: Sequence[Version]) -> tuple[Change, ...]:
        """Changes from earlier versions, where they are smaller than what would be fetched without them."""
        changes: list[Change] = []
        room = _INLINE
        plain = [form for form in forms if not form.progressive]
        for place, version in enumerate(history):
            old = self._earlier(version)
            if old is None or old.key_id[:8] != payload.key_id[:8]:
                continue
            for kind in ("manifest", "pack"):
                shared = self._shared(payload.header(), kind)
                if kind == "pack" and shared.features is None:
                    continue
                try:
                    data = write_changes(old, payload, shared=shared)
                except PladaError:  # of another reference
                    continue
                limit = min(form.bytes for form in plain if kind == "pack" or form.needs != "pack")
                known = [each.bytes for each in changes if each.old == old.digest().hex()]
                if len(data) >= _PAYS * min([limit, *known]):
                    continue
                inline = not place and len(data) <= room
                room -= len(data) * inline
                changes.append(self._change(old, data, inline=inline))
        return tuple(changes)

    def _change(self, old: Payload, data: bytes, *, inline: bool) -> Change:
        changes = parse_changes(data)
        needs = _needs(lambda: apply_changes(old, changes))
        pack = changes.header.pack_id[:8].hex() if needs == "pack" else ""
        digest = old.digest().hex()
        if inline:
            return Change(file="", bytes=len(data), old=digest, needs=needs, pack=pack, data=data)
        stored = self.folder.store(data)
        return Change(file=stored.file, bytes=stored.bytes, old=digest, needs=needs, pack=pack)

    def _earlier(self, version: Version) -> Payload | None:
        """The payload of an earlier version, None where none of its files can be read here any more."""
        if version.content not in self._read:
            self._read[version.content] = self._read_version(version)
        return self._read[version.content]

    def _read_version(self, version: Version) -> Payload | None:
        for name in version.files:
            try:
                payload = parse_with_context(self.folder.file(name).read_bytes(), self.context).payload
            except (OSError, PladaError):
                continue
            if payload.digest(16).hex() == version.content:
                return payload
        Tracker("publish", None, self.report).say(
            f"version {version.version} cannot be read any more: no changes lead from it"
        )
        return None

    def _shared(self, header: Header, kind: str) -> SharedContext:
        """What clients of a kind have, as far as it is here."""
        try:
            return find_shared_context(header, self.context, kind)
        except (SideMissing, RequestError):  # no pack, or several
            return find_shared_context(header, self.context, "manifest")

    def _reference_of(self, header: Header) -> str:
        """Name of a payload's reference in the catalogue, which speaks of it from now on."""
        key, content = header.key_id[:8].hex(), header.content_id[:8].hex()
        for name, entry in self.references.items():
            if entry.key_id.startswith(key) and entry.content_id.startswith(content):
                return name
        kept = [
            each
            for each in kept_manifests(self.home, header.key_id[:8])
            if each.manifest.content_id.hex().startswith(content)
        ]
        name = plain_name(kept[0].location or key)[:64] if kept else f"reference-{key}"
        name = f"reference-{key}-{content}" if name in self.references else name
        self.references[check_name(name, "reference")] = ReferenceEntry(
            images=header.reference, key_id=key, content_id=content
        )
        return name

    def _unify(self, name: str) -> None:
        """Tasks whose reference had another name here go by the one that has files now."""
        entry = self.references[name]
        for other in [each for each in self.references if each != name]:
            there = self.references[other]
            if entry.key_id.startswith(there.key_id[:16]) and entry.content_id.startswith(there.content_id[:16]):
                del self.references[other]
                for task, each in self.tasks.items():
                    if each.reference == other:
                        self.tasks[task] = replace(each, reference=name)

    def _about(self, payload: Payload, files: Sequence[str | Path], before: dict[str, Any]) -> dict[str, Any]:
        """What people want to know of a task."""
        about: dict[str, Any] = {}
        for name, kind in (("target", str), ("teacher_accuracy", (int, float))):
            if isinstance(payload.notes.get(name), kind):
                about[name] = payload.notes[name]
        for fact in self.options.facts:
            if any(Path(str(fact["payload"])).name == Path(str(file)).name for file in files):
                about |= _said(fact)
        return {**before, **about, **({"licence": self.options.licence} if self.options.licence is not None else {})}


def _needs(read: Callable[[], Any]) -> str:
    """What a reader needs beside a file: `read` is called with nothing."""
    try:
        read()
    except SideMissing as missing:
        return missing.needs
    return "nothing"


def _check_grows(task: str, now: Task, payload: Payload) -> None:
    before = now.history[0].serial
    if before and payload.serial <= before:
        raise RequestError(
            f"task '{task}': the payload's serial number is {payload.serial or 'none'}; {before} was published before. Give it a higher "
            "one: plada select --serial"
        )


def selection_facts(given: str | Path | Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What `plada select --json` said of a payload: the objects with a payload and its teacher."""
    if isinstance(given, Mapping):
        found = [given]
    else:
        try:
            lines = Path(given).read_text(encoding="utf-8").splitlines()
            found = [json.loads(line) for line in lines if line.strip()]
        except (OSError, ValueError) as err:
            raise RequestError(f"{given}: cannot be read ({err}). Give what `plada select --json` printed") from err
    facts = [each for each in found if isinstance(each, Mapping) and each.get("payload") and "teacher" in each]
    if not facts:
        raise RequestError(f"{given}: does not describe a payload. Give what `plada select --json` printed")
    return facts


def _said(fact: Mapping[str, Any]) -> dict[str, Any]:
    """Teacher, forecast and rule of a selection's report."""
    teacher, forecast = fact.get("teacher") or {}, fact.get("forecast") or {}
    said = {
        "teacher": teacher.get("kind"),
        "forecast": forecast.get("accuracy"),
        "forecast_interval": list(forecast["interval"]) if forecast.get("interval") else None,
        "rule": fact.get("rule"),
    }
    return {name: value for name, value in said.items() if value is not None}
