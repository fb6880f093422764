"""Names and keys on a page: made visible (plada/common/text.py), and escaped."""

import html
import json
from typing import Any

from plada.common.text import visible
from plada.common.units import group_digits


def shortened(text: str, most: int = 72) -> str:
    """At most so many characters, the middle left out."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}…{text[-(most - most // 2 - 1) :]}"


def esc(text: str, most: int = 72) -> str:
    """Safe between tags and within a quoted attribute: visible, shortened, escaped."""
    return html.escape(visible(shortened(text, most)), quote=True)


def name(text: str, most: int = 72) -> str:
    """A name on the page, whatever direction it is written in."""
    return f"<bdi>{esc(text, most)}</bdi>"


def digits(count: int) -> str:
    """A count for people, which no line breaks."""
    return group_digits(count).replace(" ", "&nbsp;")


def many(count: int, what: str) -> str:
    """`1 image`, `2 images`, `3 classes`."""
    plural = what + ("es" if what.endswith("s") else "s")
    return f"{digits(count)} {what if count == 1 else plural}"


def data_block(value: Any) -> str:
    """JSON for a script element: ASCII, and nothing in it can end the element."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
