"""What a person typed into the search box: a position, the beginning of a key, or words."""

from collections.abc import Callable
from dataclasses import dataclass

from plada.errors import RequestError

POSITION, KEY, WORDS = "position", "key", "text"
_LONGEST = 2000  # letters
_DIGITS = 12  # of a position


@dataclass(frozen=True, slots=True)
class Query:
    """`kind` is POSITION, KEY or WORDS; `text` what follows. `explicit`: whether the person wrote which it is."""

    kind: str
    text: str
    explicit: bool


def read_query(typed: str, is_key_prefix: Callable[[str], bool]) -> Query:
    """`position:12`, `key:n01443537/`, `text:a red bus`; without such a word a number is a position, what a key begins
    with (`is_key_prefix`) is a key, anything else is words. Raises RequestError: nothing was typed, or too much."""
    if len(typed) > _LONGEST:
        raise RequestError(f"{len(typed)} letters: expected at most {_LONGEST}. Ask for less")
    for kind in (POSITION, KEY, WORDS):
        if typed.lstrip().startswith(f"{kind}:"):
            rest = typed.lstrip().removeprefix(f"{kind}:")
            # Spaces at an end may be part of a key.
            return _checked(Query(kind, rest if kind == KEY else rest.strip(), True), typed)
    plain = typed.strip()
    if plain.isascii() and plain.isdigit():
        return Query(POSITION, plain, False)
    if plain and is_key_prefix(plain):
        return Query(KEY, plain, False)
    return _checked(Query(WORDS, plain, False), typed)


def _checked(query: Query, typed: str) -> Query:
    if not query.text:
        raise RequestError(f"'{typed.strip()}': expected words, a position, or the beginning of a key")
    return query


def position_of(text: str, images: int) -> int:
    """The position that a text means. Raises RequestError: not a whole number, or outside 0 .. images - 1."""
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS and int(text) < images):
        raise RequestError(f"position '{text[:20]}': expected a whole number from 0 to {images - 1}")
    return int(text)
