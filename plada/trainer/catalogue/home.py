"""What is remembered of catalogues, and the payloads that were pulled from them: catalogues/ in the home.

Each catalogue has a folder with state.json (its keys, the serials that were seen, what is kept), the tasks' payloads and, beside
each, the signed file that vouches for it.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from plada.common.checksums import Damaged, read_sealed_json, write_sealed_json
from plada.common.files import one_writer
from plada.common.outputs import raise_output_error
from plada.errors import DataError, RequestError, SignatureError, UnknownName
from plada.payload.catalogue.document import is_name, read_head
from plada.payload.catalogue.envelope import read_envelope
from plada.payload.payload import Payload
from plada.payload.signature import key_name, read_public_key

_STATE = "state.json"
_SUFFIX = ".plada"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptTask:
    """A task that was pulled. `content` is the digest of what is kept, 16 bytes hexadecimal; `bytes` those of the file, and `file` their
    BLAKE3."""

    version: int
    content: str
    bytes: int
    file: str
    serial: int = 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is remembered of a catalogue.

    `keys`: its public keys, hexadecimal, in order; the last one is believed, those before it are not any more; () of one that is not
    signed. `serials`: the highest serial seen, by key ("" without one). `places`: where it was read, the last one last.
    """

    folder: Path
    name: str
    keys: tuple[str, ...] = ()
    serials: Mapping[str, int] = field(default_factory=dict)
    places: tuple[str, ...] = ()
    tasks: Mapping[str, KeptTask] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The key that is believed now, or ""."""
        return self.keys[-1] if self.keys else ""

    def follows(self, old: bytes, new: bytes) -> bool:
        """Whether a key is known to have come after another one."""
        return old.hex() in self.keys and new.hex() in self.keys[self.keys.index(old.hex()) :]

    def file(self, task: str) -> Path:
        """Where the payload of a task is kept."""
        return self.folder / f"{task}{_SUFFIX}"

    def proof(self, task: str) -> Path:
        """Where the catalogue's file of that version of the task is kept."""
        return self.folder / "proofs" / task

    @property
    def incoming(self) -> Path:
        """Where files lie while they come."""
        return self.folder / "incoming"

    def seen(self, *, place: str, serial: int) -> "State":
        """The state after a look at a place."""
        places = (*(each for each in self.places if each != place), place)
        return replace(
            self, places=places, serials={**self.serials, self.key: max(serial, self.serials.get(self.key, 0))}
        )

    def save(self) -> None:
        """Keep it: what another process has learned meanwhile stays learned."""
        try:
            with one_writer(self.folder / _STATE):
                there = _read(self.folder) if (self.folder / _STATE).exists() else self
                value = {
                    "name": self.name,
                    "keys": list(self.keys if len(self.keys) >= len(there.keys) else there.keys),
                    "serials": {
                        key: max(self.serials.get(key, 0), there.serials.get(key, 0))
                        for key in {*self.serials, *there.serials}
                    },
                    "places": [*(each for each in there.places if each not in self.places), *self.places],
                    "tasks": {name: task.to_dict() for name, task in {**there.tasks, **self.tasks}.items()},
                }
                write_sealed_json(self.folder / _STATE, value)
        except OSError as err:
            raise_output_error(self.folder, err)


def catalogues_folder(home: Path) -> Path:
    """Where a home keeps what it knows of catalogues."""
    return home / "catalogues"


def new_state(home: Path, name: str, *, key: str, place: str) -> State:
    """The state of a catalogue that was never seen: one folder for each name and first key, or place where there is no key."""
    mark = key_name(bytes.fromhex(key)) if key else "unsigned-" + hashlib.sha256(place.encode()).hexdigest()[:8]
    return State(folder=catalogues_folder(home) / f"{name}-{mark}", name=name, keys=(key,) if key else ())


def states(home: Path) -> list[State]:
    """All that is remembered. Raises DataError: a file is damaged."""
    return [_read(path.parent) for path in sorted(catalogues_folder(home).glob(f"*/{_STATE}"))]


@contextmanager
def one_pull(home: Path, place: str) -> Iterator[None]:
    """Wait until no other process of this machine pulls from the same place.

    Raises:
        ResourceError: the home cannot be written.
    """
    folder = catalogues_folder(home)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with one_writer(folder / f".{hashlib.sha256(place.encode()).hexdigest()[:16]}"):
            yield
    except OSError as err:
        raise_output_error(folder, err)


def find_kept(text: str | Path, home: Path) -> tuple[State, str] | None:
    """(catalogue, task) of a name TASK or CATALOGUE/TASK that was pulled; None for everything else. A file of that name goes first.

    Raises:
        RequestError: several catalogues have such a task. DataError: what is remembered is damaged.
    """
    catalogue, slash, task = str(text).rpartition("/")
    if (
        not is_name(task)
        or (slash and not is_name(catalogue))
        or Path(text).exists()
        or not catalogues_folder(home).is_dir()
    ):
        return None
    found = [state for state in states(home) if task in state.tasks and catalogue in ("", state.name)]
    if len(found) > 1:
        names = ", ".join(f"{state.name} ({state.places[-1]}): {state.file(task)}" for state in found)
        raise RequestError(
            f"{text}: {len(found)} catalogues have a task of that name: {names}. Name CATALOGUE/TASK, or the file"
        )
    return (found[0], task) if found else None


def payload_place(text: str | Path, home: Path) -> str | Path:
    """The one way from what a user calls a payload to where it lies: the file of a task that was pulled, else what was said.

    Raises:
        UnknownName: neither a file, nor an address, nor a task that was pulled. Others as find_kept.
    """
    kept = find_kept(text, home)
    if kept is not None:
        return kept[0].file(kept[1])
    name = str(text)
    if is_name(name) and not name.endswith(_SUFFIX) and not Path(name).is_file() and catalogues_folder(home).is_dir():
        pulled = sorted({task for state in states(home) for task in state.tasks})
        raise UnknownName(
            "file or pulled task", name, pulled, hint="Name a .plada file, or pull the task: plada pull WHERE/TASK"
        )
    return text


@dataclass(frozen=True, slots=True)
class Proof:
    """What a catalogue vouched for: `content` is the digest of the payload, 16 bytes hexadecimal."""

    where: str
    content: str

    def check(self, payload: Payload) -> None:
        """Raises SignatureError: another payload is kept than the catalogue's owner has signed."""
        if payload.digest(16).hex() != self.content:
            raise SignatureError(
                f"{self.where}: is not the payload that its catalogue's owner has signed. Pull it again"
            )


def find_proof(text: str | Path, home: Path, public: str | Path) -> Proof | None:
    """The signature of a catalogue for a task that was pulled, made by the owner of a public key (a file) or a successor of it; None
    where `text` is no such task.

    Raises:
        SignatureError: the catalogue is not signed by that key.
    """
    kept = find_kept(text, home)
    if kept is None:
        return None
    state, task = kept
    file, key = state.proof(task), read_public_key(public)
    try:
        envelope = read_envelope(file.read_bytes(), str(file))
    except OSError as err:
        raise SignatureError(f"{file}: cannot be read ({err.strerror}). Pull the task again") from err
    if envelope.key != key and not (envelope.key is not None and state.follows(key, envelope.key)):
        signer = key_name(envelope.key) if envelope.key is not None else "nobody"
        raise SignatureError(f"{text}: its catalogue is signed by {signer}; required is {key_name(key)} ({public})")
    envelope.check(str(file))
    head = read_head(envelope.value(str(file)), str(file))
    if (head.name, head.task) != (state.name, task):
        raise SignatureError(
            f"{file}: speaks of task {head.task} of {head.name}; expected {task} of {state.name}. Pull it again"
        )
    return Proof(str(text), head.entry.content)


def _read(folder: Path) -> State:
    path = folder / _STATE
    try:
        value = read_sealed_json(path)
        return State(
            folder=folder,
            name=str(value["name"]),
            keys=tuple(map(str, value["keys"])),
            serials={str(key): int(serial) for key, serial in value["serials"].items()},
            places=tuple(map(str, value["places"])),
            tasks={str(name): KeptTask(**task) for name, task in value["tasks"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, Damaged) as err:
        raise DataError(
            f"{path}: what is remembered of a catalogue is damaged ({err}). Restore it; without it an old catalogue cannot be told "
            "from a new one. To begin anew, remove its folder"
        ) from err
