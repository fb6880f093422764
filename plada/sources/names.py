"""What names of images may be, wherever they come from: one rule for members of tars, keys of tables, and exports."""

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from plada.common.arrays import I64

MAX_PART, MAX_NAME = 255, 4096  # bytes, as file systems have them
_ASTRAY = r"^/|(^|[/\\])\.\.([/\\]|$)"
_HIDDEN = r"(^|/)\.[^/]"
_SHOWN = 80  # letters of a name in a message
_REMEMBERED = 1 << 20  # names beyond ASCII that are compared


def fault_of(name: str, *, hidden: bool = True) -> str:
    """What is wrong with a name, in words; empty where it may be. `hidden`: a hidden one may not be."""
    if "\0" in name:
        return "holds a null character"
    if re.search(_ASTRAY, name):
        return "leads out of the collection"
    if hidden and re.search(_HIDDEN, name):
        return "is hidden (a part of it begins with a dot)"
    longest = max(len(part.encode(errors="surrogateescape")) for part in name.split("/"))
    if longest > MAX_PART or len(name.encode(errors="surrogateescape")) > MAX_NAME:
        return f"is too long ({longest} bytes in one part; {MAX_PART} are possible, {MAX_NAME} in all)"
    return ""


def shortened(name: str) -> str:
    """A name as a message shows it."""
    return name if len(name) <= _SHOWN else name[:_SHOWN] + "..."


def first_fault(names: Any, *, hidden: bool) -> tuple[int, str]:
    """(row, what is wrong) of the first name (pyarrow string array) that may not be; (-1, "") where all may. `hidden`: names
    that are hidden may not be, either."""
    pattern = rf"\x00|{_ASTRAY}" + (f"|{_HIDDEN}" if hidden else "")
    doubtful = pc.or_(pc.match_substring_regex(names, pattern), pc.greater(pc.binary_length(names), MAX_PART))
    rows: I64 = pc.indices_nonzero(doubtful).to_numpy()
    for row in rows.tolist():
        if fault := fault_of(names[row].as_py(), hidden=hidden):
            return row, fault
    return -1, ""


@dataclass(slots=True)
class UnicodeForms:
    """Finds names that differ only in their Unicode form, such as an accent written as one letter or as two."""

    _seen: dict[str, str] = field(default_factory=dict)
    _alike: int = 0
    _example: str = ""

    def add(self, names: Any) -> None:
        """Compare more names (pyarrow string array, or a chunked one) with those before."""
        for name in names.filter(pc.invert(pc.string_is_ascii(names))).to_pylist():
            composed = unicodedata.normalize("NFC", name)
            if self._seen.get(composed, name) != name:
                self._alike += 1
                self._example = self._example or composed
            elif len(self._seen) < _REMEMBERED:
                self._seen[composed] = name

    def text(self, what: str) -> str:
        """What was found, in words; empty where nothing was. `what` are the names, such as keys."""
        if not self._alike:
            return ""
        return (
            f"{self._alike} {what} differ from others only in their Unicode form, such as '{self._example}'; they are different "
            "here, and the same to some file systems and tools. Rename them if that is not meant"
        )


def alike_in_form(names: tuple[str, ...], what: str) -> str:
    """`UnicodeForms` of a few names."""
    forms = UnicodeForms()
    forms.add(pa.array(names, pa.string()))
    return forms.text(what)
