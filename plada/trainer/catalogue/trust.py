"""Whether a file of a catalogue is believed: whose it is, that it is not older than what was seen, and has not expired."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from plada.common.units import format_time
from plada.errors import SignatureError
from plada.payload.catalogue.document import Catalogue, Head, read_catalogue
from plada.payload.catalogue.envelope import Envelope, keys_after
from plada.payload.signature import key_name
from plada.trainer.catalogue.home import State, new_state


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """What a reader goes by: `home` and all that is remembered in it, the `place` that is read, and a key that must have signed."""

    home: Path
    states: Sequence[State]
    place: str
    required: bytes | None = None
    required_name: str = ""


def believe(head: Head, envelope: Envelope, doubt: Doubt, where: str, whole: Callable[[], Envelope]) -> State:
    """The state of the catalogue after this file of it; nothing is saved. `whole` fetches the whole catalogue, which says which key
    succeeded which.

    Raises:
        SignatureError: not signed, by another key or one that was replaced; another catalogue than before; older than what was seen;
            expired.
    """
    envelope.check(where)
    key = envelope.key.hex() if envelope.key is not None else ""
    if doubt.required is not None and envelope.key != doubt.required:
        _check_succession(doubt.required, envelope.key, doubt, where, whole)
    state = _state_of(head, key, doubt, where, whole)
    least = state.serials.get(key, 0)
    if head.serial < least:
        raise SignatureError(
            f"{where}: has serial number {head.serial}; {least} was seen before. It is older than what you know: do not go back. Try "
            "again, or ask the catalogue's owner"
        )
    now = time.time()
    if head.expires and now > head.expires:
        raise SignatureError(
            f"{where}: expired on {format_time(head.expires)}; today is {format_time(now)}. Somebody may be holding newer versions back, or nobody "
            "has published since: ask the catalogue's owner (and look at this machine's clock)"
        )
    return state.seen(place=doubt.place, serial=head.serial)


def _check_succession(
    required: bytes, key: bytes | None, doubt: Doubt, where: str, whole: Callable[[], Envelope]
) -> None:
    """Refuse a key that is no successor of the one that must have signed.

    Raises:
        SignatureError: it is none, or there is no signature.
    """
    if key is not None:
        if any(state.follows(required, key) for state in doubt.states):
            return
        try:
            if key in _keys_after(required, key, where, whole):
                return
        except SignatureError:
            pass  # said below
    signer = f"signed by key {key_name(key)}, which is no successor of it" if key is not None else "not signed"
    raise SignatureError(
        f"{where}: {signer}; required is {key_name(required)} ({doubt.required_name}). Ask the catalogue's owner for his key"
    )


def _keys_after(known: bytes, key: bytes, where: str, whole: Callable[[], Envelope]) -> list[bytes]:
    """The keys that came after one, by the whole catalogue, which `key` must have signed. Raises SignatureError: see keys_after."""
    envelope = whole()
    envelope.check(where)
    catalogue: Catalogue = read_catalogue(envelope.value(where), where)
    return keys_after(catalogue.name, catalogue.keys if envelope.key == key else (), known, where)


def _state_of(head: Head, key: str, doubt: Doubt, where: str, whole: Callable[[], Envelope]) -> State:
    """What is remembered of the catalogue that a file is of, with keys that came since."""
    here = next((state for state in doubt.states if doubt.place in state.places), None)
    if here is not None and here.name != head.name:
        raise SignatureError(
            f"{where}: is of catalogue '{head.name}'; what was read there before was '{here.name}'. Ask its owner. If you believe the "
            f"new one, remove {here.folder} first"
        )
    known = (
        [here]
        if here is not None
        else [state for state in doubt.states if state.name == head.name and state.keys and key]
    )
    for state in known:
        if state.key == key:
            return state
        if key in state.keys:
            new = key_name(bytes.fromhex(state.key))
            raise SignatureError(
                f"{where}: signed by key {key_name(bytes.fromhex(key))}, which key {new} has replaced. Whoever signs with it is not "
                "believed any more: ask the catalogue's owner"
            )
    if here is not None and here.keys and not key:
        raise SignatureError(
            f"{where}: not signed; known is key {key_name(bytes.fromhex(here.key))}. Do not use it: ask the catalogue's owner"
        )
    if here is not None and not here.keys:
        return replace(here, keys=(key,))  # unsigned until now
    for state in known:
        try:
            return _succeeded(state, key, where, whole)
        except SignatureError:
            if here is not None:
                raise
    return new_state(doubt.home, head.name, key=key, place=doubt.place)


def _succeeded(state: State, key: str, where: str, whole: Callable[[], Envelope]) -> State:
    """The state with the keys that lead from the one that is known to `key`."""
    fresh = _keys_after(bytes.fromhex(state.key), bytes.fromhex(key), where, whole)
    if not fresh or fresh[-1].hex() != key:
        raise SignatureError(
            f"{where}: signed by key {key_name(bytes.fromhex(key))}; known is {key_name(bytes.fromhex(state.key))}, and no chain of "
            "successors leads to the other one. Ask the catalogue's owner, through another channel, which key is the right one"
        )
    return replace(state, keys=(*state.keys, *(each.hex() for each in fresh)))
