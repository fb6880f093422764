"""Names, keys and messages are data: whatever they hold, it is shown and does nothing.

They come out of payloads, models, indexes and servers' answers. On a terminal an escape sequence in them could write anywhere,
set the clipboard or hide a line; in a spreadsheet a cell that begins like a formula is one.
"""

import json
import re
from collections.abc import Callable

_JOINERS = "\u200c\u200d"  # letters of Persian and families of emoji hang on them
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def visible(text: str) -> str:
    """The text with everything that has no look of its own (controls, line breaks, marks that turn the direction of
    writing) as a backslash sequence.

    >>> visible("a\\nb")
    'a\\\\nb'
    """
    return "".join(
        letter if letter.isprintable() or letter in _JOINERS else json.dumps(letter)[1:-1] if ord(letter) < 0x7F
        else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )  # fmt: skip


def split_names(text: str, is_place: Callable[[str], bool]) -> list[str]:
    """The names in a text with commas between; parts that only together are a place, as `is_place` says, stay one name.

    >>> split_names("digits, /data/a,b", lambda name: name == "/data/a,b")
    ['digits', '/data/a,b']
    """
    parts, names = text.split(","), []
    while parts:
        whole = (count for count in range(len(parts), 1, -1) if is_place(",".join(parts[:count]).strip()))
        count = next(whole, 1)
        names.append(",".join(parts[:count]).strip())
        parts = parts[count:]
    return names


def csv_cell(text: str) -> str:
    """Text as a cell that no spreadsheet takes for a formula: with an apostrophe before = + - @, a tab or a return.

    >>> csv_cell("=1+1"), csv_cell("cat")
    ("'=1+1", 'cat')
    """
    return f"'{text}" if _FORMULA.match(text) else text


def csv_text(cell: str) -> str:
    """The inverse of `csv_cell`.

    >>> csv_text("'=1+1")
    '=1+1'
    """
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
