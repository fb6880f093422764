"""What a catalogue says, and what it says of one task. docs/catalogue-format.md is the authority; where they differ, this is wrong.

Both are JSON objects in one form, so that a signature of the text is a signature of the object. A reader leaves alone what it does
not know, and believes nothing that it does not check here.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from plada.errors import PayloadCorrupt, PayloadUnsupported, RequestError
from plada.payload.container import MAX_CLASSES, MAX_IMAGES, MAX_SERIAL, MAX_TOTAL

FORMAT = 1
MAX_COUNTER = 1 << 40  # of serials, and seconds since 1970
MAX_FILE = 1 << 40  # bytes of a manifest or a pack
MAX_FORMS = 16
MAX_CHANGES = 64
MAX_TASKS = 65_536
NEEDS = ("nothing", "manifest", "pack")
HASH_LETTERS = 32  # of BLAKE3, 16 bytes
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_URL = re.compile(r"(https?|s3|gs|hf|az|abfs)://[\x21-\x7e]{1,2000}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file of a catalogue: `file` is the BLAKE3 of its bytes (16 bytes, hexadecimal) and its name in files/. `url` says where it
    is to be had instead."""

    file: str
    bytes: int
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form(StoredFile):
    """A payload file of a task. `needs`: what a reader has beside it. `pack`: the pack's id, 8 bytes hexadecimal, or ""."""

    needs: str
    pack: str = ""
    coder: str = ""
    progressive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Change(StoredFile):
    """A file of changes. `old`: the digest of the payload that it is for, 8 bytes hexadecimal. `data`: its bytes where they stand in
    the catalogue itself."""

    old: str
    needs: str
    pack: str = ""
    data: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """An earlier or the newest version of a task. Counts say what it changed in the version before; 0 in the first one."""

    version: int
    content: str
    images: int
    classes: int
    bytes: int
    serial: int = 0
    added: int = 0
    removed: int = 0
    relabelled: int = 0
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task of a catalogue in its newest version.

    Attributes:
        version: Counts the versions, from 1.
        content: The first 16 bytes of the payload's digest, hexadecimal: it stands for what the payload says.
        key_id: The first 8 bytes of the reference's key id, hexadecimal.
        reference: Name of the reference in this catalogue.
        forms: Its payload files, all saying the same.
        changes: Files that turn earlier versions into this one.
        history: This version and earlier ones, newest first; () in what is said of one task alone.
        about: What people want to know: target, teacher, teacher_accuracy, forecast, licence; {} likewise.
    """

    version: int
    content: str
    key_id: str
    reference: str
    forms: tuple[Form, ...]
    changes: tuple[Change, ...] = ()
    history: tuple[Version, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)

    def files(self) -> set[str]:
        """Names of all files that it speaks of."""
        files = {each.file for each in (*self.forms, *self.changes) if each.file}
        return files | {file for version in self.history for file in version.files}


@dataclass(frozen=True, slots=True, kw_only=True)
class PackFile(StoredFile):
    """A pack of a reference; its whole id, hexadecimal."""

    pack_id: str
    dimensions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceEntry:
    """A reference: its ids, hexadecimal (8 or 16 bytes), and its manifest and packs where the catalogue has them."""

    images: int
    key_id: str
    content_id: str
    manifest: StoredFile | None = None
    packs: tuple[PackFile, ...] = ()

    @property
    def files_anywhere(self) -> bool:
        """Whether its manifest or a pack is to be had, here or elsewhere."""
        return self.manifest is not None or bool(self.packs)

    def files(self) -> set[str]:
        """Names of the files that the catalogue itself holds."""
        stored = (*((self.manifest,) if self.manifest is not None else ()), *self.packs)
        return {each.file for each in stored if not each.url}


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A public key (Ed25519, 32 bytes), and the signature by the key before it that makes it the successor; b"" of the first."""

    key: bytes
    signature: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What every signed text begins with: the catalogue's name, its serial, and when it expires (seconds since 1970, 0: never)."""

    name: str
    serial: int
    expires: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskHead(Head):
    """What the file of one task says."""

    task: str
    entry: Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue(Head):
    """All that a catalogue says. `keys`: those that have signed it, in order; the last one signs now."""

    keys: tuple[Key, ...] = ()
    references: Mapping[str, ReferenceEntry] = field(default_factory=dict)
    tasks: Mapping[str, Task] = field(default_factory=dict)

    def files(self) -> set[str]:
        """Names of all files that it speaks of and holds."""
        return {file for each in self.tasks.values() for file in each.files()} | {
            file for each in self.references.values() for file in each.files()
        }

    def head_of(self, task: str) -> TaskHead:
        """What the file of one task says: what a client needs to pull it, and no more."""
        entry = self.tasks[task]
        forms = tuple(replace(form, coder="") for form in entry.forms)
        bare = replace(entry, history=(), about={}, forms=forms)
        return TaskHead(name=self.name, serial=self.serial, expires=self.expires, task=task, entry=bare)


def check_name(name: str, what: str) -> str:
    """A name as it is. Raises RequestError: it is none that a file may have everywhere."""
    if not is_name(name):
        raise RequestError(
            f"{what} '{name}': expected 1 to 64 letters, digits, dots, underscores and hyphens, the first a letter or digit. "
            "Give another name (publish: NAME=FILE)"
        )
    return name


def is_name(name: Any) -> bool:
    """Whether a name may be that of a task, a reference or a catalogue."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def canonical(value: Mapping[str, Any]) -> bytes:
    """The one text of a JSON object: members sorted, no spaces, ASCII."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False).encode()


def write_head(head: TaskHead) -> dict[str, Any]:
    """The object of a task's file."""
    return {**_head(head), "task": head.task, **_task(head.entry)}


def write_catalogue(catalogue: Catalogue) -> dict[str, Any]:
    """The object of a whole catalogue."""
    keys = [
        {"key": each.key.hex(), **({"signature": each.signature.hex()} if each.signature else {})}
        for each in catalogue.keys
    ]
    return {
        **_head(catalogue),
        "keys": keys,
        "references": {name: _reference(each) for name, each in catalogue.references.items()},
        "tasks": {name: _task(each) for name, each in catalogue.tasks.items()},
    }


def _head(head: Head) -> dict[str, Any]:
    return {"format": FORMAT, "name": head.name, "serial": head.serial, "expires": head.expires}


def _task(task: Task) -> dict[str, Any]:
    return {
        "version": task.version,
        "content": task.content,
        "key_id": task.key_id,
        "reference": task.reference,
        "forms": [_stored(form) for form in task.forms],
        **({"changes": [_change(each) for each in task.changes]} if task.changes else {}),
        **({"history": [_stored(each) for each in task.history]} if task.history else {}),
        **({"about": dict(task.about)} if task.about else {}),
    }


def _reference(entry: ReferenceEntry) -> dict[str, Any]:
    return {
        "images": entry.images,
        "key_id": entry.key_id,
        "content_id": entry.content_id,
        **({"manifest": _stored(entry.manifest)} if entry.manifest is not None else {}),
        **({"packs": [_stored(each) for each in entry.packs]} if entry.packs else {}),
    }


def _change(change: Change) -> dict[str, Any]:
    if not change.data:
        return _stored(change)
    data = base64.b64encode(change.data).decode()
    return {**_stored(replace(change, data=b"", file="", bytes=0)), "data": data}


def _stored(value: StoredFile | Version) -> dict[str, Any]:
    """The fields that say something; what is 0, empty or False is left out."""
    plain = {each.name: getattr(value, each.name) for each in fields(value)}
    return {name: list(item) if isinstance(item, tuple) else item for name, item in plain.items() if item}


def read_head(value: Any, where: str) -> TaskHead:
    """What a task's file says. Raises PayloadUnsupported: of a newer format. PayloadCorrupt: anything else is wrong."""
    with _Reading(where) as read:
        task = value.get("task") if isinstance(value, dict) else None
        return TaskHead(**read.head(value), task=read.name(task, "task"), entry=read.task(value))


def read_catalogue(value: Any, where: str) -> Catalogue:
    """What a whole catalogue says; raises as read_head does."""
    with _Reading(where) as read:
        head = read.head(value)
        references = read.members(value, "references")
        tasks = {read.name(name, "task"): read.task(each) for name, each in read.members(value, "tasks").items()}
        if any(not task.history or task.history[0].content != task.content for task in tasks.values()):
            read.refuse("a task's history does not begin with its newest version")
        return Catalogue(
            **head,
            keys=tuple(read.key(each) for each in read.list_of(value, "keys", 256)),
            references={read.name(name, "reference"): read.reference(each) for name, each in references.items()},
            tasks=tasks,
        )


class _Reading:
    """Reads members of an object, each compared with what it may be. Errors name the file."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __enter__(self) -> "_Reading":
        return self

    def __exit__(self, _: Any, err: BaseException | None, __: Any) -> None:
        if isinstance(err, (KeyError, TypeError, ValueError, AttributeError, RecursionError)):
            self.refuse(f"a member is missing or of another kind ({type(err).__name__}: {err})")

    def refuse(self, reason: str) -> Any:
        raise PayloadCorrupt(f"{self.where}: {reason}. Ask the catalogue's owner to publish it again")

    def head(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.refuse("is no JSON object")
        found = value.get("format")
        if isinstance(found, int) and not isinstance(found, bool) and found > FORMAT:
            raise PayloadUnsupported(
                f"{self.where}: a catalogue of format {found}; this plada reads {FORMAT}. Install a newer plada"
            )
        if found != FORMAT or isinstance(found, bool):
            self.refuse(f"names the format {found!r}; expected {FORMAT}")
        return {
            "name": self.name(value["name"], "catalogue"),
            "serial": self.number(value, "serial", 1, MAX_COUNTER),
            "expires": self.number(value, "expires", 0, MAX_COUNTER),
        }

    def task(self, value: Any) -> Task:
        forms = tuple(self.form(each) for each in self.list_of(value, "forms", MAX_FORMS))
        if not forms:
            self.refuse("a task has no payload file")
        about = value.get("about", {})
        if not isinstance(about, dict):
            self.refuse("what is said about a task is no JSON object")
        return Task(
            version=self.number(value, "version", 1, MAX_COUNTER),
            content=self.hex(value, "content", 32),
            key_id=self.hex(value, "key_id", 16),
            reference=self.name(value["reference"], "reference"),
            forms=forms,
            changes=tuple(self.change(each) for each in self.list_of(value, "changes", MAX_CHANGES)),
            history=tuple(self.version(each) for each in self.list_of(value, "history", MAX_CHANGES)),
            about=about,
        )

    def form(self, value: Any) -> Form:
        coder = value.get("coder", "")
        if not isinstance(coder, str) or len(coder) > 200:
            self.refuse("a coder's name is no short text")
        return Form(
            **self.stored(value, MAX_TOTAL),
            **self.needs(value),
            coder=coder,
            progressive=value.get("progressive") is True,
        )

    def change(self, value: Any) -> Change:
        old = self.hex(value, "old", 16)
        if "data" not in value:
            return Change(**self.stored(value, MAX_TOTAL), **self.needs(value), old=old)
        try:
            data = base64.b64decode(value["data"], validate=True)
        except (binascii.Error, TypeError, ValueError) as err:
            return self.refuse(f"changes are not base64 ({err})")  # type: ignore[no-any-return]
        return Change(file="", bytes=len(data), **self.needs(value), old=old, data=data)

    def version(self, value: Any) -> Version:
        counts = {
            name: self.number(value, name, 0, 2 * MAX_IMAGES, 0)
            for name in ("images", "added", "removed", "relabelled")
        }
        files = self.list_of(value, "files", MAX_FORMS)
        return Version(
            version=self.number(value, "version", 1, MAX_COUNTER),
            content=self.hex(value, "content", 32),
            classes=self.number(value, "classes", 1, MAX_CLASSES),
            bytes=self.number(value, "bytes", 1, MAX_TOTAL),
            serial=self.number(value, "serial", 0, MAX_SERIAL, 0),
            files=tuple(self.hex({"file": each}, "file", HASH_LETTERS) for each in files),
            **counts,
        )

    def reference(self, value: Any) -> ReferenceEntry:
        manifest = value.get("manifest")
        return ReferenceEntry(
            images=self.number(value, "images", 1, MAX_IMAGES),
            key_id=self.hex(value, "key_id", 16, 32),
            content_id=self.hex(value, "content_id", 16, 32),
            manifest=None if manifest is None else StoredFile(**self.stored(manifest, MAX_FILE)),
            packs=tuple(self.pack(each) for each in self.list_of(value, "packs", MAX_FORMS)),
        )

    def pack(self, value: Any) -> PackFile:
        return PackFile(
            **self.stored(value, MAX_FILE), pack_id=self.hex(value, "pack_id", 32),
            dimensions=self.number(value, "dimensions", 1, 4096),
        )  # fmt: skip

    def key(self, value: Any) -> Key:
        signature = self.hex(value, "signature", 128) if "signature" in value else ""
        return Key(key=bytes.fromhex(self.hex(value, "key", 64)), signature=bytes.fromhex(signature))

    def needs(self, value: Any) -> dict[str, Any]:
        needs, pack = value["needs"], self.hex(value, "pack", 16) if "pack" in value else ""
        if needs not in NEEDS or (needs == "pack") != bool(pack):
            self.refuse(f"a file needs {needs!r}; expected one of {', '.join(NEEDS)}, a pack with its id")
        return {"needs": needs, "pack": pack}

    def stored(self, value: Any, most: int) -> dict[str, Any]:
        url = value.get("url", "")
        if url and (not isinstance(url, str) or not _URL.fullmatch(url)):
            self.refuse("a file's address is not that of a web server or an object store")
        return {
            "file": self.hex(value, "file", HASH_LETTERS),
            "bytes": self.number(value, "bytes", 1, most),
            "url": url,
        }

    def name(self, name: Any, what: str) -> str:
        if not is_name(name):
            self.refuse(f"the {what}'s name {str(name)[:80]!r} is none that a file may have")
        return str(name)

    def number(self, value: Any, name: str, least: int, most: int, default: int | None = None) -> int:
        found = value[name] if default is None else value.get(name, default)
        if not isinstance(found, int) or isinstance(found, bool) or not least <= found <= most:
            self.refuse(f"{name} is {str(found)[:40]}; expected {least} to {most}")
        return int(found)

    def hex(self, value: Any, name: str, *lengths: int) -> str:
        found = value[name]
        if not isinstance(found, str) or len(found) not in lengths or set(found) - set("0123456789abcdef"):
            self.refuse(f"{name} is {str(found)[:80]!r}; expected {' or '.join(map(str, lengths))} hexadecimal digits")
        return str(found)

    def list_of(self, value: Any, name: str, most: int) -> Sequence[Any]:
        found = value.get(name, [])
        if not isinstance(found, list) or len(found) > most:
            self.refuse(f"{name} is no list of at most {most}")
        return list(found)

    def members(self, value: Any, name: str) -> Mapping[str, Any]:
        found = value.get(name, {})
        if not isinstance(found, dict) or len(found) > MAX_TASKS:
            self.refuse(f"{name} is no object of at most {MAX_TASKS}")
        return dict(found)
